"""What a view says of an entity at a moment, by a reference of some twenty lines."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from millrace.definitions.model import Aggregation

from services.feature_store.domain.values import Status
from services.feature_store.domain.views import CompiledView
from tests.unit.aggregates import oracle
from tests.unit.feature_store.world import HOUR_US


@dataclass(frozen=True)
class Row:
    """One event of either source, as history has it."""

    values: dict[str, Any]
    event_us: int
    visible_us: int
    offset: int
    partition: int


def expected(view: CompiledView, rows: Sequence[Row], key: str | None, at_us: int, happened: bool) -> list[tuple]:
    """The reference: (value, status, age) of each column."""
    v, seen = view.view, [r for r in rows if r.event_us < at_us and (happened or r.visible_us <= at_us)]
    seen = [
        r for r in seen if key is not None and key_of(view, r) == key and (not v.where or r.values["delay"] is not None)
    ]
    seen.sort(key=lambda r: (r.event_us, r.offset, r.partition))
    age = at_us - seen[-1].event_us if seen else -1
    silent = Status.EXPIRED if seen and v.ttl_us and age > v.ttl_us else 0
    if not seen and (v.ttl_us or not v.is_windowed):
        silent = Status.MISSING
    cells = []
    for value in latest(view, seen) if not v.is_windowed else windows(view, seen, at_us):
        status = silent or (Status.MISSING if value is None else Status.PRESENT)
        cells.append((value if status == Status.PRESENT else None, status, -1 if status == Status.MISSING else age))
    return cells


def latest(view: CompiledView, seen: Sequence[Row]) -> list[Any]:
    """The newest row's fields, and its hour."""
    if not seen:
        return [None] * len(view.view.columns)
    row = seen[-1].values
    at_us = row["placed_at"]
    return [row[name] for name in view.view.latest] + [None if at_us is None else at_us // HOUR_US % 24]


def windows(view: CompiledView, seen: Sequence[Row], at_us: int) -> list[float | None]:
    """Aggregates of the rows in each window, by the plain formulas."""
    found, v = [], view.view
    for aggregate in v.aggregates:
        for place in range(1, len(aggregate.outputs) + 1):
            for window_us in v.windows_us:
                begin_us = (at_us - window_us) // v.hop_us * v.hop_us
                inside = [
                    oracle.Event(0, r.event_us, 0, 0, r.values.get(aggregate.expression))
                    for r in seen
                    if r.event_us >= begin_us
                ]
                argument = place if aggregate.function is Aggregation.LAST_K else aggregate.argument
                function, whole = aggregate.function.value, not aggregate.expression
                value = oracle.aggregate(function, inside, argument=argument, whole_events=whole)
                found.append(None if value != value else float(value))
    return found


def key_of(view: CompiledView, row: Row) -> str | None:
    parts = [row.values[name] for name in view.view.entity_fields]
    return None if None in parts else "|".join(parts)


def is_same(view: CompiledView, column: int, actual: tuple, wanted: tuple, scale: float) -> bool:
    """Whole numbers, text, status and age exactly, sums to 1e-9 of what went into them, sketches within their error."""
    value, status, age = actual
    value = None if value is None or value != value else value
    if (status, age) != wanted[1:] or (value is None) != (wanted[0] is None):
        return False
    if value is None or isinstance(value, str | bool):
        return value == wanted[0]
    name = view.view.columns[column]
    kind = next((a.function for a in view.view.aggregates if name.startswith(f"{a.name}_")), None)
    slack = {Aggregation.STD: 3e-8, Aggregation.SUM: 1e-9, Aggregation.MEAN: 1e-9}.get(kind, 0.0) * scale
    relative = 0.011 if kind is Aggregation.QUANTILE else 1e-9 if slack else 0.0
    return math.isclose(value, wanted[0], rel_tol=relative, abs_tol=slack)
