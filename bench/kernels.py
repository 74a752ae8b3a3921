"""The small jobs of one process: our way and a peer's take turns over the same items."""

from __future__ import annotations

from collections.abc import Callable

from bench.benchmark import Bench, Benchmark, Column, Row, Section
from bench.contracts import contracts_job
from bench.measuring import Job, Measurement, measure
from bench.packed import packed_job, packed_single_job
from bench.windows import late_windows_job, windows_job

JOBS: tuple[Callable[[], Job], ...] = (windows_job, late_windows_job, contracts_job, packed_job, packed_single_job)
RATE, RATIO = "items per processor second", "ours : peer"


def jobs() -> list[Benchmark]:
    """All of them as one benchmark, `kernels`."""
    return [Benchmark("kernels", "windows, contracts and packed rows, without stores or a network", run)]


def run(bench: Bench) -> list[Section]:
    """A table with two rows per job."""
    measured = []
    for make in JOBS:
        bench.say(make.__name__.removesuffix("_job").replace("_", " "))
        measured.append(measure(make()))
    rows = tuple(row for m in measured for row in _rows(m))
    columns = (Column(RATE), Column(RATIO, ",.2f"))
    return [Section("Kernels: items per processor second, ours and a peer's", columns, rows)]


def _rows(m: Measurement) -> tuple[Row, Row]:
    ours = Row(f"{m.job.name} ({m.job.unit}): {m.job.ours.name}", {RATE: m.rates(m.ours_s), RATIO: m.ratios})
    return ours, Row(f"    {m.job.peer.name}", {RATE: m.rates(m.peer_s)})
