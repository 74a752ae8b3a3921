"""Kills the children of a supervisor that died without stopping them.

Runs as `python -S -E warden.py` with a pipe from the supervisor: a line `+<group>` adds a process group, `-<group>`
removes one. The pipe's end means that the supervisor is gone; what is still listed is then killed. It imports nothing
but the standard library and stays small, because one lives beside every stack.
"""

import os
import signal
import sys


def main() -> None:
    """Reads the pipe to its end, then kills the groups that are left."""
    for wanted in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(wanted, signal.SIG_IGN)
    groups: set[int] = set()
    for line in sys.stdin:
        group = int(line[1:])
        if line.startswith("+"):
            groups.add(group)
        else:
            groups.discard(group)
    for group in groups:
        try:
            os.killpg(group, signal.SIGKILL)
        except ProcessLookupError:
            continue


if __name__ == "__main__":
    main()
