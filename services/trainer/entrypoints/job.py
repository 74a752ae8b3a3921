"""The process of one training job: `python -m services.trainer.entrypoints.job NICE [warm]`.

It reads the job's folder as one line from standard input, says everything to `log.txt` there, and writes `result.json`
last of all: a folder with a result is finished. A warm process imports its libraries before it is told the folder.
It ends when its standard input ends, so that no job outlives the service that started it.
"""

from __future__ import annotations

import importlib
import logging
import os
import sys
import threading
from pathlib import Path

STEPS = "services.trainer.entrypoints.job_steps"
ORPHANED = 70


def main(nice: int, *, warm: bool) -> None:
    """Does one job; a failure goes to the log and ends the process with status 1."""
    os.nice(nice)  # before the imports: they are most of the work of a small job
    if warm:
        importlib.import_module(STEPS).warm_up()
    name = _read_line()
    if not name:
        return
    folder = Path(name)
    _log_to(folder / "log.txt")
    threading.Thread(target=_end_with_parent, daemon=True).start()
    steps = importlib.import_module(STEPS)
    result = steps.run(folder)
    importlib.import_module("services.trainer.adapters.checkpoints_safetensors").write_whole(
        folder / "result.json", result.to_json().encode()
    )
    logging.shutdown()
    os._exit(0)  # everything is on disk; taking the libraries down in order would take a second


def _read_line() -> str:
    """Standard input up to the end of the line. Unbuffered: a lock of `sys.stdin` would stand in the way at exit."""
    line = b""
    while (byte := os.read(0, 1)) not in (b"", b"\n"):
        line += byte
    return line.decode()


def _log_to(path: Path) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)
    form = "%(asctime)s %(levelname)s %(name)s %(message)s"
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format=form)


def _end_with_parent() -> None:
    while os.read(0, 1):
        pass
    os._exit(ORPHANED)


if __name__ == "__main__":
    main(int(sys.argv[1]), warm="warm" in sys.argv[2:])
