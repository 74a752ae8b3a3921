"""What a benchmark is, what it is given, and what it gives back.

A module plugs in with one line: it has a function `jobs()` that returns its Benchmarks, and is named in `MODULES` of
`bench/__main__.py`. A benchmark's `run` gets a Bench and returns Sections, one per table to print:

    def jobs() -> list[Benchmark]:
        return [Benchmark("spool", "reading the spool back", run, {"events": 50_000})]

    def run(bench: Bench) -> list[Section]:
        bench.say("filling the spool")
        seconds = [once(bench.option("events")) for _ in range(5)]
        rates = tuple(bench.option("events") / taken for taken in seconds)
        return [Section("Reading the spool back", (Column("events/s"),), (Row("ours", {"events/s": rates}),),
                        targets=(Target("events/s of the spool", rates, at_least=20_000),))]

Runs, not averages, are handed over: the report shows their median, lowest and highest. `run` bounds its own counts and
times and ends what it starts; what it raises is reported as this benchmark's failure, and the others go on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from millrace.errors import UserError

if TYPE_CHECKING:
    from bench.peers.environment import PeerEnvironment

Runs = tuple[float, ...]
"""One value per run of the same thing."""


class BenchError(UserError):
    """A benchmark could not be run, or a name given to one is not right. Prints as one line."""


@dataclass(frozen=True)
class Column:
    """A column of a table: its name carries the unit, `form` is a format specification of its numbers."""

    name: str
    form: str = ",.0f"


@dataclass(frozen=True)
class Row:
    """One way of doing the job. A column that it has no runs for stays empty; `note` stands below its name."""

    name: str
    runs: Mapping[str, Runs]
    note: str = ""


@dataclass(frozen=True)
class Target:
    """A bar to reach: each run's value against `at_most` or `at_least` (one of them is given).

    `parts`: what a plain server of the same parts showed in the same runs, doing nothing of what ours is there for.
    Where none of its runs reaches the bar either, it is the machine and the parts that are too slow for it.
    `pace`: how fast this machine is in times the one on which the bar was set, as a peer's rates tell; 0: not known.
    """

    what: str
    runs: Runs
    at_most: float | None = None
    at_least: float | None = None
    parts: Runs = ()
    pace: float = 0.0

    def __post_init__(self) -> None:
        if (self.at_most is None) == (self.at_least is None):
            raise BenchError(f"the target of {self.what} needs either at_most or at_least")

    def verdict(self) -> str:
        """`reached`: by every run; `by the median`; `at the peers' pace` where the median in times of that reaches it;
        `not reached`, or `not by the parts alone` where no run of those reaches it either; `not measured`."""
        if not self.runs:
            return "not measured"
        if all(map(self._holds, self.runs)):
            return "reached"
        if self._holds(median(self.runs)):
            return "by the median"
        if self.pace and self._holds(self.at_their_pace):
            return "at the peers' pace"
        return "not by the parts alone" if self.parts and not any(map(self._holds, self.parts)) else "not reached"

    @property
    def bound(self) -> str:
        """How the bar reads, as ≤ 2 or ≥ 50,000."""
        return f"≤ {self.at_most:,g}" if self.at_most is not None else f"≥ {self.at_least:,g}"

    @property
    def at_their_pace(self) -> float:
        """The median, had the machine been as fast as the one on which the bar was set."""
        return median(self.runs) * self.pace if self.at_most is not None else median(self.runs) / self.pace

    def _holds(self, value: float) -> bool:
        return value <= self.at_most if self.at_most is not None else value >= (self.at_least or 0.0)


@dataclass(frozen=True)
class Section:
    """One table. `absent` names each peer that could not take part, with the reason; `facts` go to results.json."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    targets: tuple[Target, ...] = ()
    notes: tuple[str, ...] = ()
    absent: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Bench:
    """What a run is given. `say` shows what is going on; `work` is an empty folder of its own, removed afterwards."""

    say: Callable[[str], None]
    work: Path
    peers: PeerEnvironment
    options: Mapping[str, int]

    def option(self, name: str) -> int:
        """The value of one of the benchmark's own options."""
        return self.options[name]


@dataclass(frozen=True)
class Benchmark:
    """A named measurement. `options` are whole numbers with their defaults; `--set NAME.OPTION=VALUE` changes one."""

    name: str
    what: str
    run: Callable[[Bench], Sequence[Section]]
    options: Mapping[str, int] = field(default_factory=dict)


def spread(values: Runs) -> tuple[float, float, float]:
    """(median, lowest, highest)."""
    return median(values), min(values), max(values)


def ratios(over: Runs, under: Runs) -> Runs:
    """Run by run, `over` divided by `under`; as many as both have."""
    return tuple(a / b for a, b in zip(over, under, strict=False) if b)
