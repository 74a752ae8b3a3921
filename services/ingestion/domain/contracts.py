"""The one contract check behind every door: a decoded JSON value in, a clean row or the broken rules out."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from millrace.definitions.model import Field, FieldType, Pii, Source

from services.ingestion.domain.values import BadValue, converter, key_text, treatment

EXAMPLE_CHARACTERS = 80  # of a broken value, kept with its count
MAX_PROFILED = 1e150  # squares of larger numbers overflow, and one of them would hide the rest of a window
MAX_UNKNOWN_NAMES = 16  # names of undeclared fields kept per event

Rule = Callable[[Any], str]  # "" when kept, else what was expected


@dataclass(frozen=True, slots=True)
class Violation:
    """One broken rule: json, size, type, required, range, set, regex, future, key, event_type, schema,
    unknown_source."""

    field: str
    rule: str
    reason: str
    example: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """An event that kept its contract. Timestamps in `columns` are integer microseconds."""

    columns: dict[str, Any]
    key: str
    event_us: int
    unknown: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Refusal:
    """An event that broke its contract; the first violation is the one reported to its producer."""

    violations: tuple[Violation, ...]


@dataclass(frozen=True, slots=True)
class _Column:
    name: str
    convert: Callable[[Any], Any]
    rules: tuple[tuple[str, Rule], ...]
    required: bool
    treat: Callable[[Any], Any] | None
    personal: bool


class Contract:
    """A source's contract, compiled once, of the definition `version`. `numeric` are the fields that are profiled.

    A null and an absent field are the same. Undeclared fields are not kept: their names come back in `Row.unknown` to
    be counted. The key is read after PII treatment, so that a hashed key is a hash everywhere.
    """

    def __init__(self, source: Source, secret: bytes, version: int = 0) -> None:
        self.source = source
        self.version = version
        self._columns = tuple(_compile(field, source, secret) for field in source.fields)
        self._names = frozenset(field.name for field in source.fields)
        self._treated = tuple(column for column in self._columns if column.treat is not None)
        numbers = (FieldType.NUMBER, FieldType.INTEGER)
        self.numeric = tuple(f.name for f in source.fields if f.type in numbers and f.pii is Pii.KEEP)

    def check(self, value: Any, latest_us: int) -> Row | Refusal:
        """The verdict on one decoded event; an event time after `latest_us` is refused (0: no clock yet)."""
        if type(value) is not dict:
            return Refusal((Violation("", "json", "expected one JSON object"),))
        columns: dict[str, Any] = {}
        violations: list[Violation] = []
        get = value.get
        for column in self._columns:
            raw = get(column.name)
            if raw is None:
                if column.required:
                    violations.append(Violation(column.name, "required", "expected a value, found null"))
                continue
            try:
                columns[column.name] = kept = column.convert(raw)
            except BadValue as error:
                violations.append(_violation(column, "type", str(error), raw))
                continue
            for rule, test in column.rules:
                expected = test(kept)
                if expected:
                    violations.append(_violation(column, rule, expected, raw))
        return self._finish(value, columns, violations, latest_us)

    def number(self, value: Any, name: str) -> float | None:
        """The field as a number for its profile, whether or not the event was accepted; None when it is none."""
        raw: Any = value.get(name) if type(value) is dict else None
        if type(raw) in (int, float) and abs(raw) <= MAX_PROFILED:  # NaN compares false, too
            return float(raw)
        return None

    def _finish(
        self, value: dict[str, Any], columns: dict[str, Any], violations: list[Violation], latest_us: int
    ) -> Row | Refusal:
        source = self.source
        event_us = columns.get(source.event_time)
        if event_us is not None and event_us > latest_us:
            example = str(value[source.event_time])[:EXAMPLE_CHARACTERS]
            violations.append(Violation(source.event_time, "future", _ahead(event_us, latest_us), example))
        for column in self._treated:
            if column.treat is not None and column.name in columns:
                columns[column.name] = column.treat(columns[column.name])
        key = key_text(columns.get(source.key))
        if not key and not any(violation.field == source.key for violation in violations):
            violations.append(Violation(source.key, "key", "expected a key that is neither null nor empty"))
        if violations or event_us is None:
            return Refusal(tuple(violations))
        unknown = tuple(name for name in value if name not in self._names) if len(value) > len(columns) else ()
        return Row(columns, key, event_us, unknown[:MAX_UNKNOWN_NAMES])


def _ahead(event_us: int, latest_us: int) -> str:
    if not latest_us:
        return (
            "the project's replayed clock has not started, so nobody knows when this became visible: "
            "start its replay first, or declare the event's available_us"
        )
    return f"event time is {(event_us - latest_us) / 1e6:.0f} s later than the project's clock and its allowance"


def _compile(field: Field, source: Source, secret: bytes) -> _Column:
    rules: list[tuple[str, Rule]] = []
    if field.range is not None:
        rules.append(("range", _range(*field.range)))
    if field.set is not None:
        rules.append(("set", _set(field.set)))
    if field.regex is not None:
        rules.append(("regex", _regex(field.regex)))
    return _Column(
        name=field.name,
        convert=converter(field.type),
        rules=tuple(rules),
        required=(field.required and field.name != source.key) or field.name == source.event_time,
        treat=treatment(field.pii, secret),
        personal=field.pii is not Pii.KEEP,
    )


def _range(low: float, high: float) -> Rule:
    expected = f"expected a value in [{low:g}, {high:g}]"
    return lambda value: "" if low <= value <= high else expected


def _set(allowed: tuple[str, ...]) -> Rule:
    members = frozenset(allowed)
    listed = ", ".join(allowed[:10]) + (", …" if len(allowed) > 10 else "")
    expected = f"expected one of {listed}"
    return lambda value: "" if key_text(value) in members else expected


def _regex(pattern: str) -> Rule:
    match = re.compile(pattern).fullmatch
    expected = f"expected a text that is wholly {pattern}"
    return lambda value: "" if match(key_text(value)) else expected


def _violation(column: _Column, rule: str, reason: str, raw: Any) -> Violation:
    """With the value as an example, unless it is personal."""
    example = "" if column.personal else str(raw)[:EXAMPLE_CHARACTERS]
    return Violation(column.name, rule, f"{reason}, found {example}" if example else reason, example)
