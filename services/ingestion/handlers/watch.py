"""What a lane tells of its source beside its events: the findings of each window, and the days of the data docs.

Events are taken as they are counted and looked at in batches: whoever asks for an answer looks at what waits first.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from millrace.definitions.model import DAY_US, Source

from services.ingestion.domain.contracts import Refusal, Row, Violation
from services.ingestion.domain.daily import Day, Daybook, WindowLine
from services.ingestion.domain.expectations import Columns, Expectations, Finding
from services.ingestion.domain.known import KnownValues
from services.ingestion.domain.profiles import Window
from services.ingestion.handlers.judge import Judged

LOOKED_AT_ONCE = 1_000  # rows that wait at most: numpy's own cost is paid once for them
WAITING_BYTES = 4 * 1024 * 1024  # of canonical JSON that they may stand for

Known = Mapping[tuple[str, str], KnownValues]
"""(source, field) to the values seen there, of the fields of this project that others refer to."""


@dataclass(slots=True)
class _Waiting:
    rows: list[Columns] = field(default_factory=list)
    times_us: list[int] = field(default_factory=list)
    refusals: list[tuple[int, Sequence[Violation]]] = field(default_factory=list)
    unknown: list[tuple[int, Sequence[Violation]]] = field(default_factory=list)
    size_bytes: int = 0


class SourceWatch:
    """Of one source. Used from one event loop."""

    def __init__(self, source: Source, known: Known | None = None) -> None:
        self.days = Daybook()
        self.last_findings: tuple[Finding, ...] = ()
        self.newest_us = 0
        self._source = source
        self._known: Known = known or {}
        self._expectations = Expectations(source, self._known)
        self._waiting = _Waiting()
        self._values = 0
        self._nulls = 0
        self._before_the_clock: list[Sequence[Violation]] = []  # as lanes count them: in the first window

    def follow(self, source: Source, known: Known) -> None:
        """Another contract, from the next event on."""
        self.look()
        self._source, self._known = source, known
        self._expectations.follow(source, known)

    def take(self, counted: Sequence[Judged]) -> None:
        """New events with their verdicts, accepted and refused."""
        waiting = self._waiting
        for judged in counted:
            verdict = judged.verdict
            if isinstance(verdict, Row):
                waiting.rows.append(verdict.columns)
                waiting.times_us.append(judged.wanted_us)
                waiting.size_bytes += len(judged.body)
                if verdict.unknown:
                    violations = [Violation(name, "unknown", "not declared") for name in verdict.unknown]
                    waiting.unknown.append((judged.wanted_us, violations))
            elif isinstance(verdict, Refusal):
                waiting.refusals.append((judged.wanted_us, verdict.violations))
        is_many = len(waiting.rows) + len(waiting.refusals) >= LOOKED_AT_ONCE
        if is_many or waiting.size_bytes >= WAITING_BYTES:
            self.look()

    def look(self) -> None:
        """Looks at what waits."""
        waiting, self._waiting = self._waiting, _Waiting()
        for at_us, violations in waiting.refusals:
            if at_us > 0:
                self.days.at(at_us).refuse(violations)
            else:
                self._before_the_clock.append(violations)
        for at_us, violations in waiting.unknown:
            self.days.at(at_us).count(violations)
        if not waiting.rows:
            return
        self.newest_us = max(self.newest_us, *waiting.times_us)
        self._expectations.add(waiting.rows, waiting.times_us)
        self._remember(waiting.rows)
        self._values += len(waiting.rows) * len(self._source.fields)
        self._nulls += sum(len(self._source.fields) - len(row) for row in waiting.rows)
        for start_us, rows in _by_day(waiting.rows, waiting.times_us).items():
            self.days.at(start_us).accept(self._source, rows)

    def forget(self, texts: Collection[str]) -> None:
        """Neither days nor rules keep one of these texts as an example."""
        self.look()
        self.days.forget(texts)
        self._expectations.forget(texts)

    def begin(self, now_us: int) -> None:
        """The project's clock was heard of, perhaps for the first time."""
        self._expectations.begin(now_us)

    def close(self, window: Window) -> tuple[Finding, ...]:
        """The findings of a window that ended; call it once per window, in order."""
        self.look()
        findings = self._expectations.close(window.start_us, window.end_us)
        for violations in self._before_the_clock:
            self.days.at(window.start_us).refuse(violations)
        self._before_the_clock.clear()
        broken = sum(finding.is_broken for finding in findings)
        if window.events or broken or self._values:
            line = WindowLine(
                window.start_us,
                window.end_us,
                window.events,
                window.quarantined,
                self._values,
                self._nulls,
                broken,
            )
            self.days.at(window.start_us).close_window(line, findings)
        self._values = self._nulls = 0
        self.last_findings = findings
        return findings

    def to_state(self) -> dict[str, Any]:
        """What the open window counted so far, to be kept with it. Where nothing is expected of windows, what waits is
        left to be looked at in larger batches: a kill may then cost a day's portrait what came in some seconds."""
        if self._expectations.has_rules:
            self.look()
        return {"expectations": self._expectations.to_state(), "values": self._values, "nulls": self._nulls}

    def resume(self, state: Mapping[str, Any]) -> None:
        """Goes on where a stopped process was."""
        self._expectations.resume(state.get("expectations", {}))
        self._values, self._nulls = state.get("values", 0), state.get("nulls", 0)

    def day(self, start_us: int) -> Day | None:
        """An open day."""
        self.look()
        return next((day for day in self.days.open_days() if day.start_us == start_us), None)

    def _remember(self, rows: Sequence[Columns]) -> None:
        """Values of fields that others refer to."""
        for (source, name), book in self._known.items():
            if source == self._source.name:
                values = {row.get(name) for row in rows}
                values.discard(None)
                book.add(map(book.mark, values))


def _by_day(rows: Sequence[Columns], times_us: Sequence[int]) -> dict[int, list[Columns]]:
    if min(times_us) // DAY_US == max(times_us) // DAY_US:
        return {times_us[0] // DAY_US * DAY_US: list(rows)}
    days: dict[int, list[Columns]] = {}
    for row, at_us in zip(rows, times_us, strict=True):
        days.setdefault(at_us // DAY_US * DAY_US, []).append(row)
    return days
