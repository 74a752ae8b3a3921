"""Small JSON files under <home>/run that say which process is where, and whether it is still that process."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Replaces `path` in one step, so that a reader never meets half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    draft.write_text(json.dumps(content, sort_keys=True) + "\n")
    draft.replace(path)


def read_json(path: Path) -> dict[str, Any] | None:
    """The file's object; None when it is missing or not one (a leftover of a crash)."""
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def process_started_us(pid: int) -> int:
    """When the operating system started process `pid`, microseconds UTC; 0 when there is none.

    Together with the pid this names a process for good: a pid alone is used again.
    """
    try:
        process = psutil.Process(pid)
        return 0 if process.status() == psutil.STATUS_ZOMBIE else int(process.create_time() * 1_000_000)
    except psutil.Error:
        return 0


def is_same_process(pid: int, process_us: int) -> bool:
    """Whether `pid` is alive and is the process that was started at `process_us`."""
    # psutil derives the time from boot ticks of 10 ms, and the boot time may be adjusted by a second.
    started_us = process_started_us(pid)
    return started_us > 0 and abs(started_us - process_us) < 2_000_000
