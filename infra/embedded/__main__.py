"""`python -m infra.embedded [HOME]`: the three parts alone, in the foreground, until Ctrl-C; prints their addresses."""

import os
import signal
import sys
import threading
from pathlib import Path

from infra.embedded import Stack, StackError


def main() -> int:
    """0 after a clean stop, 1 with one line on stderr when something is missing."""
    home = Path(sys.argv[1] if len(sys.argv) > 1 else os.environ.get("MILLRACE_HOME", ".millrace"))
    asked = threading.Event()
    for wanted in (signal.SIGINT, signal.SIGTERM):
        signal.signal(wanted, lambda *_: asked.set())
    stack = Stack(home, restart=True, report=lambda name, what: print(f"{name}: {what}", file=sys.stderr, flush=True))
    try:
        addresses = stack.start()
    except StackError as error:
        print(error, file=sys.stderr)
        return 1
    for name, value in addresses.env().items():
        print(f"export {name}={value}", flush=True)
    asked.wait()
    stack.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
