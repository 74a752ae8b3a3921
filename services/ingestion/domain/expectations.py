"""Rules that no event can break alone: null share, uniqueness, references, freshness. They judge the accepted events
of one window, and refuse none: what is right in a repeat, or comes before what it refers to, an event cannot tell."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from millrace.definitions.model import Field, Pii, Source

from services.ingestion.domain.contracts import EXAMPLE_CHARACTERS
from services.ingestion.domain.known import KnownValues

NULL_SHARE, UNIQUE, REFERENCES, FRESHNESS = "null_share", "unique", "references", "freshness"
WINDOW_RULES = (NULL_SHARE, UNIQUE, REFERENCES, FRESHNESS)
LEAST_EVENTS = 20  # fewer have no share worth a word
MAX_VALUES = 100_000  # of one unique field in one window, about 10 MB; beyond it repeats of new values go unseen
MAX_UNMATCHED = 10_000  # values of one field in one window that wait for what they refer to

Columns = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Finding:
    """What one rule measured over one window. `measured` and `allowed` are a share of events (null_share), events
    (unique, references) or seconds (freshness); `events` is what it was measured over."""

    field: str  # empty: the source itself
    rule: str
    measured: float
    allowed: float
    events: int
    is_broken: bool
    example: str = ""
    note: str = ""  # what bounds the measure, or why there is no verdict


@dataclass(slots=True)
class _Counted:
    """One field's tally in the open window."""

    events: int = 0  # accepted ones
    values: int = 0  # those that are not null
    repeats: int = 0
    example: str = ""
    seen: set[float] = field(default_factory=set)  # numbers, or hashes of texts
    unmatched: dict[int, list[Any]] = field(default_factory=dict)  # fingerprint: [events, example]
    is_bounded: bool = False  # there was more than could be remembered
    is_resumed: bool = False  # what came before a restart is counted, but not remembered


class Expectations:
    """The open window of one source. Times are microseconds of the project's clock."""

    def __init__(self, source: Source, known: Mapping[tuple[str, str], KnownValues]) -> None:
        self._tallies: dict[str, _Counted] = {}
        self._last_us = 0
        self._longest_us = 0
        self.follow(source, known)

    @property
    def has_rules(self) -> bool:
        """Whether anything is expected of windows."""
        return bool(self._fields or self._source.freshness_us)

    def follow(self, source: Source, known: Mapping[tuple[str, str], KnownValues]) -> None:
        """Judges by another contract from now on; tallies of fields that are still watched go on."""
        self._source, self._known = source, known
        self._fields = [f for f in source.fields if f.max_null_share is not None or f.unique or f.references]
        self._tallies = {f.name: self._tallies.get(f.name, _Counted()) for f in self._fields}

    def add(self, rows: Sequence[Columns], times_us: Sequence[int]) -> None:
        """Accepted events, and when they came."""
        if not rows:
            return
        for watched in self._fields:
            self._add_field(watched, [row.get(watched.name) for row in rows])
        if self._source.freshness_us:
            self._add_times(times_us)
        else:
            self._last_us = max(self._last_us, *times_us)  # a rule that comes later counts from here

    def begin(self, now_us: int) -> None:
        """The clock was heard of: where nothing ever came, silence is counted from here on."""
        self._last_us = self._last_us or now_us

    def close(self, start_us: int, end_us: int) -> tuple[Finding, ...]:
        """What the window [start, end) shows; the next one begins."""
        found: list[Finding] = []
        for watched in self._fields:
            found.extend(self._judge(watched, self._tallies[watched.name]))
            self._tallies[watched.name] = _Counted()
        if self._source.freshness_us:
            found.append(self._judge_freshness(start_us, end_us))
        return tuple(found)

    def forget(self, texts: Collection[str]) -> None:
        """None of these texts is kept as an example any more."""
        for tally in self._tallies.values():
            tally.example = "" if tally.example in texts else tally.example
            for unmatched in tally.unmatched.values():
                unmatched[1] = "" if unmatched[1] in texts else unmatched[1]

    def to_state(self) -> dict[str, Any]:
        """Plain values to keep: counts, not values; `resume` reads them."""
        fields = {name: [c.events, c.values, c.repeats, c.example] for name, c in self._tallies.items() if c.events}
        return {"last_us": self._last_us, "longest_us": self._longest_us, "fields": fields}

    def resume(self, state: Mapping[str, Any]) -> None:
        """Goes on where a stopped process was."""
        self._last_us, self._longest_us = state.get("last_us", 0), state.get("longest_us", 0)
        for name, (events, values, repeats, example) in state.get("fields", {}).items():
            if name in self._tallies:
                self._tallies[name] = _Counted(events, values, repeats, example, is_resumed=True)

    def _add_field(self, watched: Field, column: Sequence[Any]) -> None:
        tally = self._tallies[watched.name]
        values = [value for value in column if value is not None]
        tally.events += len(column)
        tally.values += len(values)
        if watched.unique:
            self._add_unique(watched, tally, values)
        if watched.references is not None:
            self._add_references(watched, tally, values)

    def _add_unique(self, watched: Field, tally: _Counted, values: Sequence[Any]) -> None:
        seen = tally.seen
        # Numbers stand for themselves (-1 and -2 have one hash); texts may be long.
        marks = [hash(value) if type(value) is str else value for value in values]
        fresh = set(marks)
        if len(fresh) == len(marks) and len(seen) + len(fresh) <= MAX_VALUES and seen.isdisjoint(fresh):
            seen.update(fresh)
            return
        for value, mark in zip(values, marks, strict=True):
            if mark in seen:
                tally.repeats += 1
                tally.example = tally.example or _shown(watched, value)
            elif len(seen) < MAX_VALUES:
                seen.add(mark)
            else:
                tally.is_bounded = True

    def _add_references(self, watched: Field, tally: _Counted, values: Sequence[Any]) -> None:
        book = self._book(watched)
        if book is None or not values:
            return
        counts: dict[Any, int] = {}
        for value in values:
            counts[value] = counts.get(value, 0) + 1
        marks = [book.mark(value) for value in counts]
        for (value, count), mark, is_known in zip(counts.items(), marks, book.known(marks), strict=True):
            if is_known:
                continue
            waiting = tally.unmatched.get(mark)
            if waiting is not None:
                waiting[0] += count
            elif len(tally.unmatched) < MAX_UNMATCHED:
                tally.unmatched[mark] = [count, _shown(watched, value)]
            else:
                tally.is_bounded = True

    def _add_times(self, times_us: Sequence[int]) -> None:
        for at_us in sorted(times_us):
            if self._last_us:
                self._longest_us = max(self._longest_us, at_us - self._last_us)
            self._last_us = max(self._last_us, at_us)

    def _judge(self, watched: Field, tally: _Counted) -> Iterable[Finding]:
        if watched.max_null_share is not None:
            share = 1 - tally.values / tally.events if tally.events else 0.0
            is_enough = tally.events >= LEAST_EVENTS
            note = "" if is_enough else f"fewer than {LEAST_EVENTS} events have no share"
            allowed = watched.max_null_share
            yield Finding(
                watched.name, NULL_SHARE, share, allowed, tally.events, is_enough and share > allowed, "", note
            )
        if watched.unique:
            note = _bounds(tally, f"values beyond {MAX_VALUES:,} are not remembered: at least so many")
            yield Finding(watched.name, UNIQUE, tally.repeats, 0, tally.values, tally.repeats > 0, tally.example, note)
        if watched.references is not None:
            yield self._judge_references(watched, tally)

    def _judge_references(self, watched: Field, tally: _Counted) -> Finding:
        book = self._book(watched)
        place = f"{watched.references.source}.{watched.references.field}" if watched.references else ""
        if book is None or not book.is_ready:
            full = book is not None and book.is_full
            note = f"{place} has more values than are remembered" if full else f"{place} is still being read"
            return Finding(watched.name, REFERENCES, 0, 0, tally.values, False, "", f"no verdict: {note}")
        marks = list(tally.unmatched)
        lost = [mark for mark, is_known in zip(marks, book.known(marks), strict=True) if not is_known]
        events = sum(tally.unmatched[mark][0] for mark in lost)
        example = tally.unmatched[lost[0]][1] if lost else ""
        note = _bounds(tally, f"values beyond {MAX_UNMATCHED:,} are not looked up: at least so many")
        return Finding(watched.name, REFERENCES, events, 0, tally.values, events > 0, example, note)

    def _judge_freshness(self, start_us: int, end_us: int) -> Finding:
        self.begin(start_us)
        longest_us = max(self._longest_us, end_us - self._last_us)
        self._longest_us = 0
        allowed_us = self._source.freshness_us
        return Finding("", FRESHNESS, longest_us / 1e6, allowed_us / 1e6, 0, longest_us > allowed_us)

    def _book(self, watched: Field) -> KnownValues | None:
        wanted = watched.references
        return self._known.get((wanted.source, wanted.field)) if wanted else None


def _bounds(tally: _Counted, bound: str) -> str:
    if tally.is_resumed:
        return "counted across a restart in the window: at least so many"
    return bound if tally.is_bounded else ""


def _shown(watched: Field, value: Any) -> str:
    return "" if watched.pii is not Pii.KEEP else str(value)[:EXAMPLE_CHARACTERS]
