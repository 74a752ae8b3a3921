"""Runs every measurement, prints them, and writes bench/results.json: first the kernels beside their peers, in this
process, then the doors under load, with the stack that they need."""

from __future__ import annotations

import asyncio
import json
import os
import platform
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.contracts import contracts_job
from bench.ingestion import facts, measure_loads
from bench.ingestion import table as load_table
from bench.measuring import Job, Measurement, measure, spread
from bench.packed import packed_job, packed_single_job
from bench.windows import late_windows_job, windows_job

RESULTS = Path(__file__).with_name("results.json")
JOBS: tuple[Callable[[], Job], ...] = (windows_job, late_windows_job, contracts_job, packed_job, packed_single_job)
PIPE_WIDTH = 150  # a pipe or a log has none of its own
PEERS = ("numpy", "pandas", "jsonschema")


def main() -> None:
    """All jobs, one after the other."""
    measured = []
    screen = Console()
    console = screen if screen.is_terminal else Console(width=PIPE_WIDTH)
    with console.status("") as status:
        for make in JOBS:
            status.update(make.__name__.removesuffix("_job").replace("_", " "))
            measured.append(measure(make()))
        console.print(_table(measured))
        status.update("ingestion's doors")
        loaded = asyncio.run(measure_loads())
    console.print(load_table(loaded))
    document = {"machine": _machine(), "measurements": list(map(_facts, measured)), "loads": facts(loaded)}
    RESULTS.write_text(json.dumps(document, indent=2) + "\n")
    console.print(f"each cell: median (lowest – highest); runs and machine in {RESULTS.parent.name}/{RESULTS.name}")


def _table(measured: list[Measurement]) -> Table:
    table = Table(title="Items per processor second, ours and a peer's")
    for name in ("job", "ours", "peer", "runs"):
        table.add_column(name, no_wrap=name == "runs")
    for name in ("ours / s", "peer / s", "ours : peer"):
        table.add_column(name, justify="right", no_wrap=True)
    for m in measured:
        rates = [_cell(m.rates(seconds), ",.0f") for seconds in (m.ours_s, m.peer_s)]
        ratio = _cell(m.ratios, ".2f")
        table.add_row(
            f"{m.job.name}\n({m.job.unit})", m.job.ours.name, m.job.peer.name, str(len(m.ours_s)), *rates, ratio
        )
    return table


def _cell(values: tuple[float, ...], form: str) -> str:
    middle, low, high = spread(values)
    return f"{middle:{form}}\n({low:{form}} – {high:{form}})"


def _facts(m: Measurement) -> dict[str, Any]:
    middle, low, high = spread(m.ratios)
    return {
        "job": m.job.name,
        "items_per_run": m.job.items,
        "unit": m.job.unit,
        "ours": {"name": m.job.ours.name, "cpu_s": m.ours_s},
        "peer": {"name": m.job.peer.name, "cpu_s": m.peer_s},
        "ratio": {"median": middle, "low": low, "high": high},
    }


def _machine() -> dict[str, Any]:
    """What the figures depend on; `load` is the one-minute average when the run ended."""
    return {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "architecture": platform.machine(),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "packages": {name: version(name) for name in PEERS},
    }


if __name__ == "__main__":
    main()
