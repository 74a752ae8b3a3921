"""Starts feature_store processes in a fraction of a second: forks of one process that has imported everything.

Each is what `python -m services.feature_store` is once its imports are done. One JSON object a line on stdin, `env` and
`log`; the answer is the process's id. It ends its children with itself.
"""

import json
import os
import signal
import sys
from typing import NoReturn

from millrace.runtime.main import main

import services.feature_store.bootstrap as room


def child(order: dict) -> NoReturn:
    """The room, with streams of its own."""
    os.environ.update(order["env"])
    log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)
    os.dup2(log, 2)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    status = 1
    try:
        main(room.build)
        status = 0
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else 1
    finally:
        sys.stderr.flush()
        os._exit(status)


def serve() -> None:
    """Until stdin ends."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits here: who has ended is gone
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            child(json.loads(line))
        print(pid, flush=True)


if __name__ == "__main__":
    serve()
