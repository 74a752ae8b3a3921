"""What one window of a source looked like: counts, broken rules, and moments of its numeric fields."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.ingestion.domain.contracts import Violation
from services.ingestion.domain.expectations import Finding

MAX_RULES = 256  # (field, rule) pairs counted apart per window; a source has few, an attacker's names are many
_SKETCH_BITS = 8192  # linear counting: about 1 % off at 5,000 distinct values, saturated near 50,000
_MIX = np.uint64(0x9E3779B97F4A7C15)


@dataclass(slots=True)
class Moments:
    """Count, mean and spread of one field, mergeable (Chan's form of Welford's sums)."""

    events: int = 0
    nulls: int = 0
    mean: float = 0.0
    squares: float = 0.0
    low: float = math.inf
    high: float = -math.inf
    sketch: str = ""

    def add(self, values: NDArray[np.float64]) -> None:
        """Adds a batch, float64[n] with NaN for null."""
        self.events += len(values)
        finite = values[~np.isnan(values)]
        before = self.events - self.nulls - len(values)
        self.nulls += len(values) - len(finite)
        if not len(finite):
            return
        total = before + len(finite)
        mean = float(finite.mean())
        shift = mean - self.mean
        self.squares += float(((finite - mean) ** 2).sum()) + shift * shift * before * len(finite) / total
        self.mean += shift * len(finite) / total
        self.low, self.high = min(self.low, float(finite.min())), max(self.high, float(finite.max()))
        self._count_distinct(finite)

    @property
    def std(self) -> float:
        """Population standard deviation; 0 for fewer than two values."""
        count = self.events - self.nulls
        return math.sqrt(max(self.squares, 0.0) / count) if count > 1 else 0.0

    @property
    def distinct(self) -> int:
        """About so many distinct values, and never more than there are."""
        unset = _SKETCH_BITS - (int(self.sketch, 16).bit_count() if self.sketch else 0)
        return min(round(_SKETCH_BITS * math.log(_SKETCH_BITS / max(unset, 1))), self.events - self.nulls)

    def _count_distinct(self, finite: NDArray[np.float64]) -> None:
        bits = (finite + 0.0).view(np.uint64)  # adding 0.0 makes -0.0 equal 0.0
        places = np.unique((bits * _MIX) >> np.uint64(64 - 13))
        mask = np.zeros(_SKETCH_BITS, dtype=np.uint8)
        mask[places] = 1
        merged = int.from_bytes(np.packbits(mask).tobytes(), "big") | (int(self.sketch, 16) if self.sketch else 0)
        self.sketch = f"{merged:x}"


@dataclass(slots=True)
class Broken:
    """How often one rule of one field was broken, with an example."""

    events: int = 0
    example: str = ""


@dataclass(slots=True)
class Window:
    """One source's window [start, end) of the project's clock, accepted and refused events alike."""

    start_us: int
    end_us: int
    events: int = 0
    quarantined: int = 0
    broken: dict[tuple[str, str], Broken] = field(default_factory=dict)
    fields: dict[str, Moments] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()  # of a window that ended

    def refuse(self, violations: Sequence[Violation]) -> None:
        """Counts one refused event and each rule it broke."""
        self.quarantined += 1
        self.count(violations)

    def count(self, violations: Sequence[Violation]) -> None:
        """Counts broken rules alone."""
        for violation in violations:
            pair = (violation.field, violation.rule)
            if pair not in self.broken and len(self.broken) >= MAX_RULES:
                pair = ("", "other")
            entry = self.broken.setdefault(pair, Broken(example=violation.example))
            entry.events += 1

    def profile(self, columns: Mapping[str, NDArray[np.float64]]) -> None:
        """Adds a batch of numeric columns, each float64[n]."""
        for name, values in columns.items():
            self.fields.setdefault(name, Moments()).add(values)

    def to_state(self) -> dict[str, Any]:
        """Plain values to keep; `from_state` reads them."""
        return {
            "start_us": self.start_us,
            "end_us": self.end_us,
            "events": self.events,
            "quarantined": self.quarantined,
            "broken": [[name, rule, b.events, b.example] for (name, rule), b in self.broken.items()],
            "fields": {
                name: {k: v for k, v in asdict(m).items() if not isinstance(v, float) or math.isfinite(v)}
                for name, m in self.fields.items()
            },
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Window:
        """The window that `to_state` wrote."""
        window = cls(state["start_us"], state["end_us"], state["events"], state["quarantined"])
        window.broken = {(name, rule): Broken(events, example) for name, rule, events, example in state["broken"]}
        window.fields = {name: Moments(**moments) for name, moments in state["fields"].items()}
        return window


def window_at(now_us: int, width_us: int) -> Window:
    """The empty window that holds `now_us`; windows start at whole multiples of their width."""
    start = now_us // width_us * width_us
    return Window(start, start + width_us)
