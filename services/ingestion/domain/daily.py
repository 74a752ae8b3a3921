"""One day of a source, as its data docs show it: counts, what was broken, and a portrait of each field."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from millrace.definitions.model import DAY_US, FieldType, Pii, Source

from services.ingestion.domain.contracts import MAX_PROFILED, Violation
from services.ingestion.domain.expectations import Columns, Finding
from services.ingestion.domain.profiles import MAX_RULES, Broken
from services.ingestion.domain.sketches import Common, Distinct, Spread

MAX_OPEN_DAYS = 3  # today, and what was declared to be available tomorrow or yesterday
MAX_WINDOWS = 1440  # drawn per day: one a minute
MAX_FINDINGS = 100  # kept per day, the newest
QUANTILES = (0.01, 0.25, 0.5, 0.75, 0.99)
_NUMERIC = (FieldType.NUMBER, FieldType.INTEGER, FieldType.TIMESTAMP)


@dataclass(slots=True)
class Portrait:
    """One field over one day's accepted events, as they are kept. `squares` is the sum of squared deviations."""

    events: int = 0
    nulls: int = 0
    numbers: int = 0
    mean: float = 0.0
    squares: float = 0.0
    low: float = math.inf
    high: float = -math.inf
    distinct: Distinct = field(default_factory=Distinct)
    spread: Spread = field(default_factory=Spread)
    common: Common = field(default_factory=Common)

    @property
    def std(self) -> float:
        """Population standard deviation; 0 for fewer than two numbers."""
        return math.sqrt(max(self.squares, 0.0) / self.numbers) if self.numbers > 1 else 0.0

    @property
    def distinct_values(self) -> int:
        """About so many, and never more than there are."""
        return min(self.distinct.count, self.events - self.nulls)

    def quantiles(self) -> list[float]:
        """At QUANTILES, within 2 %; NaN where there are no numbers."""
        return [min(max(q, self.low), self.high) if q == q else q for q in self.spread.quantiles(QUANTILES)]

    def add(self, column: Sequence[Any], kind: FieldType, is_kept: bool) -> None:
        """Adds a batch of values as the contract left them; None is null."""
        self.events += len(column)
        nulls = column.count(None)
        self.nulls += nulls
        if nulls == len(column):
            return
        if kind in _NUMERIC and is_kept:  # a personal number may be kept as text
            self._add_numbers(np.array(column, dtype=np.float64))
            return
        counts = Counter(column)
        del counts[None]
        texts = {("true" if v else "false") if isinstance(v, bool) else str(v): n for v, n in counts.items()}
        self.distinct.add_texts(texts)
        if is_kept:
            self.common.add(texts)

    def to_state(self) -> dict[str, Any]:
        """Plain values to keep; `from_state` reads them."""
        state: dict[str, Any] = {"events": self.events, "nulls": self.nulls, "distinct": self.distinct.to_text()}
        if self.numbers:
            names = ("numbers", "mean", "squares", "low", "high")
            state |= {name: getattr(self, name) for name in names} | {"spread": self.spread.to_state()}
        return state | {"common": self.common.counts}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Portrait:
        """What `to_state` wrote."""
        plain = {k: v for k, v in state.items() if k not in ("distinct", "spread", "common")}
        return cls(
            **plain,
            distinct=Distinct.from_text(state["distinct"]),
            spread=Spread.from_state(state.get("spread", ())),
            common=Common(state["common"]),
        )

    def _add_numbers(self, values: np.ndarray[Any, np.dtype[np.float64]]) -> None:
        kept = values[np.abs(values) <= MAX_PROFILED]  # NaN compares false, too
        if not len(kept):
            return
        total, mean = self.numbers + len(kept), float(kept.mean())
        shift = mean - self.mean
        self.squares += float(((kept - mean) ** 2).sum()) + shift * shift * self.numbers * len(kept) / total
        self.mean += shift * len(kept) / total
        self.numbers = total
        self.low, self.high = min(self.low, float(kept.min())), max(self.high, float(kept.max()))
        self.distinct.add_numbers(kept)
        self.spread.add(kept)


@dataclass(frozen=True, slots=True)
class WindowLine:
    """One closed window of the day. `values` counts fields times accepted events, `nulls` those that were null."""

    start_us: int
    end_us: int
    events: int
    quarantined: int
    values: int
    nulls: int
    broken: int  # rules of windows that it broke


@dataclass(slots=True)
class Day:
    """One source's day [start_us, start_us + 24 h) of the project's clock."""

    start_us: int
    events: int = 0
    quarantined: int = 0
    broken: dict[tuple[str, str], Broken] = field(default_factory=dict)
    fields: dict[str, Portrait] = field(default_factory=dict)
    windows: list[WindowLine] = field(default_factory=list)
    findings: list[tuple[int, Finding]] = field(default_factory=list)  # (end of the window, what broke)

    @property
    def null_share(self) -> float:
        """Of all values of all fields."""
        values = sum(portrait.events for portrait in self.fields.values())
        return sum(portrait.nulls for portrait in self.fields.values()) / values if values else 0.0

    def accept(self, source: Source, rows: Sequence[Columns]) -> None:
        """Adds accepted events."""
        self.events += len(rows)
        for declared in source.fields:
            if declared.pii is Pii.DROP:
                continue
            portrait = self.fields.setdefault(declared.name, Portrait())
            column = [row.get(declared.name) for row in rows]
            portrait.add(column, declared.type, declared.pii is Pii.KEEP)

    def refuse(self, violations: Iterable[Violation]) -> None:
        """Adds one refused event and the rules that it broke."""
        self.events += 1
        self.quarantined += 1
        self.count(violations)

    def count(self, violations: Iterable[Violation]) -> None:
        """Adds broken rules alone."""
        for violation in violations:
            pair = (violation.field, violation.rule)
            if pair not in self.broken and len(self.broken) >= MAX_RULES:
                pair = ("", "other")
            self.broken.setdefault(pair, Broken(example=violation.example)).events += 1

    def close_window(self, line: WindowLine, findings: Iterable[Finding]) -> None:
        """Adds the account of a window that ended."""
        self.windows = [*self.windows, line][-MAX_WINDOWS:]
        fresh = [(line.end_us, finding) for finding in findings if finding.is_broken]
        self.findings = [*self.findings, *fresh][-MAX_FINDINGS:]

    def forget(self, texts: Collection[str]) -> bool:
        """Whether one of the texts was shown: among the frequent ones of a field, or as an example. It is no more."""
        shown = {text[: Common.CHARACTERS] for text in texts}
        found = False
        for portrait in self.fields.values():
            for text in shown & set(portrait.common.counts or ()):
                assert portrait.common.counts is not None
                del portrait.common.counts[text]
                found = True
        for broken in self.broken.values():
            if broken.example in shown:
                broken.example, found = "", True
        kept = [(at_us, replace(f, example="") if f.example in shown else f) for at_us, f in self.findings]
        found = found or kept != self.findings
        self.findings = kept
        return found

    def to_state(self) -> dict[str, Any]:
        """Plain values to keep; `from_state` reads them."""
        return {
            "start_us": self.start_us,
            "events": self.events,
            "quarantined": self.quarantined,
            "null_share": self.null_share,
            "broken": [[name, rule, b.events, b.example] for (name, rule), b in self.broken.items()],
            "fields": {name: portrait.to_state() for name, portrait in self.fields.items()},
            "windows": [[getattr(line, name) for name in _LINE] for line in self.windows],
            "findings": [[at_us, *(getattr(finding, name) for name in _FINDING)] for at_us, finding in self.findings],
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Day:
        """What `to_state` wrote."""
        return cls(
            start_us=state["start_us"],
            events=state["events"],
            quarantined=state["quarantined"],
            broken={(name, rule): Broken(events, example) for name, rule, events, example in state["broken"]},
            fields={name: Portrait.from_state(kept) for name, kept in state["fields"].items()},
            windows=[WindowLine(*line) for line in state["windows"]],
            findings=[(at_us, Finding(*kept)) for at_us, *kept in state["findings"]],
        )


_LINE = ("start_us", "end_us", "events", "quarantined", "values", "nulls", "broken")
_FINDING = ("field", "rule", "measured", "allowed", "events", "is_broken", "example", "note")


class Daybook:
    """The open days of one source; `take_changed` gives what is to be kept."""

    def __init__(self) -> None:
        self._days: dict[int, Day] = {}
        self._changed: set[int] = set()
        self._ended: list[Day] = []

    def restore(self, days: Iterable[Day]) -> None:
        """The newest days that were kept."""
        self._days = {day.start_us: day for day in sorted(days, key=lambda day: day.start_us)[-MAX_OPEN_DAYS:]}

    def at(self, time_us: int) -> Day:
        """The day that holds `time_us`, to be changed; a day before all open ones counts in the oldest of them."""
        start_us = time_us // DAY_US * DAY_US
        oldest = min(self._days, default=start_us)
        if start_us < oldest and len(self._days) >= MAX_OPEN_DAYS:
            start_us = oldest
        if start_us not in self._days:
            self._days[start_us] = Day(start_us)
            if len(self._days) > MAX_OPEN_DAYS:
                self._end(min(self._days))
        self._changed.add(start_us)
        return self._days[start_us]

    def open_days(self) -> list[Day]:
        """Oldest first."""
        return [self._days[start_us] for start_us in sorted(self._days)]

    def forget(self, texts: Collection[str]) -> None:
        """As Day.forget, of all open days."""
        self._changed.update(day.start_us for day in self._days.values() if day.forget(texts))

    def take_changed(self) -> list[Day]:
        """The days that changed since the last call."""
        changed = [*self._ended, *(self._days[start_us] for start_us in sorted(self._changed))]
        self._ended, self._changed = [], set()
        return changed

    def give_back(self, days: Iterable[Day]) -> None:
        """What could not be kept."""
        for day in days:
            if self._days.get(day.start_us) is day:
                self._changed.add(day.start_us)
            else:
                self._ended.append(day)

    def _end(self, start_us: int) -> None:
        day = self._days.pop(start_us)
        if start_us in self._changed:
            self._changed.discard(start_us)
            self._ended.append(day)
