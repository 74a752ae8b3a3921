"""The process of one training job, forked from one that has its libraries imported.

It says everything to `log.txt` in the job's folder and writes `result.json` there last of all: a folder with a result
is finished.
"""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

from millrace.stores.files import write_whole

from services.trainer.entrypoints.job_steps import run


def main(name: str) -> None:
    """Does the job in the folder `name`; a failure goes to the log and ends the process with status 1."""
    folder = Path(name)
    _log_to(folder / "log.txt")
    result = run(folder)
    write_whole(folder / "result.json", result.to_json().encode())
    logging.shutdown()
    os._exit(0)  # everything is on disk; taking the libraries down in order would take a second


def _log_to(path: Path) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)
    form = "%(asctime)s %(levelname)s %(name)s %(message)s"
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format=form)
