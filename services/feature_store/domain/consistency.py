"""Online against history: which reads are sampled, and what is to be said of one value that was answered.

Positions are logged with a read, so that history can be asked twice: for what a training set would say of that moment
(the rule of time), and, where that differs, for exactly what each partition had applied (see `Standing`).
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache

from millrace.aggregates import window_start
from millrace.definitions.model import View

from services.feature_store.domain.answers import Cells, typed
from services.feature_store.domain.inputs import Feature, Lookup
from services.feature_store.domain.values import Position, Status

TOLERANCE = 1e-9  # of the larger of the two; whole numbers must be equal
ROUNDING = 1e-11  # of the magnitudes that went in: what the order of the terms may change


class Outcome(IntEnum):
    """What came of one value; the numbers are kept in the store.

    AHEAD: not what a training set says of that moment, but what the partitions had applied: one was ahead of another,
    or had come through half of what became visible at one time. The others are as Chronon's consistency job has them:
    MISSING is a value that history has and the answer had not, EXTRA the other way round, MISMATCH every other
    difference, of value, status or age.
    """

    EQUAL = 1
    AHEAD = 2
    MISMATCH = 3
    MISSING = 4
    EXTRA = 5


BAD = frozenset({Outcome.MISMATCH, Outcome.MISSING, Outcome.EXTRA})


@dataclass(frozen=True, slots=True)
class Cell:
    """One feature of one entity: text, number or None, its status, its age (-1: not known)."""

    value: str | float | None
    status: int
    age_us: int


@dataclass(frozen=True, slots=True)
class Standing:
    """What one lookup of a read was answered from: its as_of, and how far each partition (by label) had applied."""

    as_of_us: int
    positions: Mapping[str, Position]

    def newest_us(self) -> int:
        """How far the foremost partition had come."""
        return max((p.visible_us for p in self.positions.values()), default=self.as_of_us)


@dataclass(frozen=True, slots=True)
class SampledRead:
    """One entity of one online read. `standings` by `lookup_name`; `logged_us` is the wall's time."""

    id: str
    project: str
    definition_version: int
    entity: str
    logged_us: int
    features: tuple[str, ...]
    cells: tuple[Cell, ...]
    standings: Mapping[str, Standing]


@dataclass(frozen=True, slots=True)
class Finding:
    """One feature of a checked read. `difference` is relative, 0 where a number is not compared with a number."""

    feature: str
    as_of_us: int
    outcome: Outcome
    difference: float
    online: Cell
    offline: Cell


@dataclass(frozen=True, slots=True)
class CheckedRead:
    """A read that was recomputed; `skipped` says why it was not (then without findings)."""

    read: SampledRead
    findings: tuple[Finding, ...]
    skipped: str = ""


def sampled(project: str, entities: Sequence[str], share: float) -> list[int]:
    """Places of the entities whose reads are logged: by a hash of the key, so that of a key all reads are, or none."""
    begun, below = zlib.crc32(f"{project}\0".encode()), share * 2**32
    return [place for place, entity in enumerate(entities) if zlib.crc32(entity.encode(), begun) < below]


def lookup_name(lookup: Lookup) -> str:
    """`view@version`, and for a join `view@version<carrier.column`: the same in every process."""
    through = [f"{carrier.view.view.name}.{carrier.view.view.columns[place]}" for carrier, place in lookup.carriers]
    return f"{lookup.view.id}<{','.join(through)}" if through else lookup.view.id


def difference(online: Cell, offline: Cell) -> float:
    """|a - b| as a share of the larger magnitude; 0 where one is not a number."""
    a, b = online.value, offline.value
    if not isinstance(a, float) or not isinstance(b, float) or a == b:
        return 0.0
    return abs(a - b) / max(abs(a), abs(b))


def is_same(online: Cell, offline: Cell, slack: float = 0.0) -> bool:
    """Status and age as they are, text and whole numbers exactly, other numbers to `TOLERANCE` or `slack`."""
    if (online.status, online.age_us) != (offline.status, offline.age_us):
        return False
    a, b = online.value, offline.value
    if isinstance(a, float) and isinstance(b, float):
        whole = a.is_integer() and b.is_integer() and 0 < abs(a) < 2**53 and b != 0
        return a == b or (not whole and math.isclose(a, b, rel_tol=TOLERANCE, abs_tol=slack))
    return a == b


def within(cell: Cell, lookback_us: int) -> Cell:
    """A cell as far as history is looked at (0: all of it): what was heard before that is as good as never heard."""
    if not lookback_us or cell.age_us <= lookback_us:
        return cell
    return Cell(cell.value, Status.MISSING if cell.status == Status.EXPIRED else cell.status, -1)


def lacks_tiles(feature: Feature, standing: Standing) -> bool:
    """Whether a partition that was ahead may have dropped tiles that the window of the as_of still asks for."""
    compiled = feature.lookup.view
    view = compiled.view
    if not view.is_windowed:
        return False
    window_us = view.windows_us[feature.column % len(view.windows_us)]
    needed_us = window_start(standing.as_of_us, window_us, view.hop_us)
    return needed_us < window_start(standing.newest_us(), max(view.windows_us), view.hop_us) - compiled.lateness_us


def slacks(features: Sequence[Feature], cells: Sequence[Cell]) -> list[float]:
    """How far an aggregate may be off where terms cancel: by the magnitudes that its view says of the same expression.

    A sum that is nothing, and a deviation of equal values, keep no digit of their own to compare.
    """
    scales: dict[tuple[Lookup, str | None], float] = {}
    places = [(feature.lookup, _expressions(feature.lookup.view.view)[feature.column]) for feature in features]
    for place, cell in zip(places, cells, strict=True):
        size = abs(cell.value) if isinstance(cell.value, float) else 0.0
        scales[place] = max(size, scales.get(place, 0.0))
    return [0.0 if text is None else ROUNDING * max(scales[lookup, text], 0.1) for lookup, text in places]


@lru_cache(maxsize=1_000)
def _expressions(view: View) -> tuple[str | None, ...]:
    """What each column of a view is an aggregate of; None where it is none."""
    if not view.is_windowed:
        return (None,) * len(view.columns)
    return tuple(a.expression for a in view.aggregates for _ in a.outputs for _ in view.windows_us)


def outcome_of(online: Cell, offline: Cell, slack: float = 0.0) -> Outcome:
    """EQUAL or one of `BAD`."""
    if is_same(online, offline, slack):
        return Outcome.EQUAL
    if Status.PRESENT in (online.status, offline.status) and online.status != offline.status:
        return Outcome.MISSING if offline.status == Status.PRESENT else Outcome.EXTRA
    return Outcome.MISMATCH


def cells_of(feature: Feature, cells: Cells) -> list[Cell]:
    """One column of an answer as it is compared: text or float by the feature's type."""
    found = zip(typed(feature, cells), cells.status.tolist(), cells.age_us.tolist(), strict=True)
    return [Cell(value, status, age_us) for value, status, age_us in found]


@dataclass(frozen=True, slots=True)
class Tally:
    """What came of one feature's sampled values on one day of the project's clock; `by_outcome` by Outcome's number."""

    feature: str
    day: str
    by_outcome: Mapping[int, int]
    largest_difference: float


@dataclass(frozen=True, slots=True)
class Example:
    """One value that was not what history says, in JSON: [value, status, age in microseconds]."""

    feature: str
    entity: str
    as_of_us: int
    outcome: int
    online: str
    offline: str


@dataclass(frozen=True, slots=True)
class ReadCounts:
    """Sampled reads of a project: recomputed, given up on, waiting."""

    checked: int
    skipped: int
    pending: int
