"""A view made ready: its expressions parsed once, and rows turned into what the kernel takes.

Online batches and history go through the same functions here, so they cannot differ.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from millrace.aggregates import LatestLayout, Layout, State, hash_values
from millrace.definitions.keys import composite_key, entity_key
from millrace.definitions.model import Aggregation, FieldType, View
from millrace.expressions import Expression, ExpressionError, parse

Row = Mapping[str, Any]
_NO_TYPES: Mapping[str, str] = {}
_AS_FLOATS = (FieldType.NUMBER.value, FieldType.BOOLEAN.value)
# Partitions of a topic; more do not fit beside the offset in a sequence number.
MOST_PARTITIONS = 1_024


def sequence(offset: np.ndarray, partition: int | np.ndarray) -> np.ndarray:
    """What breaks ties of event time: the higher offset wins, then the higher partition."""
    return offset * MOST_PARTITIONS + partition


@dataclass(frozen=True, slots=True)
class Selection:
    """The rows that a view takes of a batch: their places (int64) and the entity key of each."""

    places: np.ndarray
    entities: list[str]


class CompiledView:
    """One view, ready to be fed. `id` is `name@version`; `fields` are the source's fields that it reads; `types` are
    those of its columns (`millrace.definitions.semantics.view_types`), for the rows of a latest view."""

    def __init__(self, view: View, lateness_us: int, types: Mapping[str, str] = _NO_TYPES) -> None:
        self.view = view
        self.id = f"{view.name}@{view.version}"
        self.lateness_us = lateness_us
        self._where = parse(view.where) if view.where else None
        self._values = [parse(a.expression) if a.expression else None for a in view.aggregates]
        self._derived = [parse(text) for _, text in view.derive]
        self.layout = Layout(view.aggregates) if view.is_windowed else None
        self.latest_layout = LatestLayout(view.columns, [types.get(c) in _AS_FLOATS for c in view.columns])
        expressions = [self._where, *self._values, *self._derived]
        names = {name for e in expressions if e is not None for name in e.names}
        self.fields = frozenset({*view.entity_fields, *view.latest, *names})

    @property
    def all_numbers(self) -> bool:
        """Whether every column is a number, and so the values of a reading are float64."""
        return self.layout is not None or self.latest_layout.all_numbers

    @cached_property
    def form(self) -> Hashable:
        """What is equal of views whose packed rows can be read together."""
        if self.layout is not None:
            functions = tuple((a.function, a.argument) for a in self.view.aggregates)
            return functions, self.view.windows_us, self.view.hop_us
        return len(self.view.columns) if self.all_numbers else self.id

    def select(self, rows: Sequence[Row]) -> Selection:
        """Rows whose entity key is not null and for which `where` is true. Raises ExpressionError."""
        keys = self._keys(rows)
        where = self._where
        if where is None:
            places = [place for place, key in enumerate(keys) if key is not None]
        else:
            places = [place for place, key in enumerate(keys) if key is not None and where.is_true(rows[place])]
        if len(places) < len(keys):
            keys = [keys[place] for place in places]
        return Selection(np.array(places, dtype=np.int64), [key for key in keys if key is not None])

    def _keys(self, rows: Sequence[Row]) -> list[str | None]:
        fields = self.view.entity_fields
        if len(fields) > 1:
            return [composite_key([row.get(field) for field in fields]) for row in rows]
        entity = fields[0]
        return [key if type(key := row.get(entity)) is str else entity_key(key) for row in rows]

    def lift(self, rows: Sequence[Row], event_us: np.ndarray, seq: np.ndarray) -> State:
        """States of a windowed view's rows, one each. Raises ExpressionError."""
        assert self.layout is not None
        return self.layout.lift(self.columns(rows), event_us, seq)

    def columns(self, rows: Sequence[Row]) -> list[np.ndarray | None]:
        """What each aggregate takes of the rows, as `Layout.lift` wants it. Raises ExpressionError."""
        return [self.column(rows, place) for place in range(len(self._values))]

    def column(self, rows: Sequence[Row], place: int) -> np.ndarray | None:
        """What one aggregate takes of the rows. Raises ExpressionError."""
        expression = self._values[place]
        return None if expression is None else _column(self.view.aggregates[place].function, expression, rows)

    def latest(self, row: Row) -> list[Any]:
        """The values of a latest view's row, in the order of its columns. Raises ExpressionError."""
        return [row.get(name) for name in self.view.latest] + [e.evaluate(row) for e in self._derived]

    def latest_column(self, rows: Sequence[Row], place: int) -> list[Any]:
        """One column of a latest view, of all the rows. Raises ExpressionError."""
        if place < len(self.view.latest):
            return [row.get(self.view.latest[place]) for row in rows]
        return self._derived[place - len(self.view.latest)].evaluate_all(rows)

    def lookback_us(self) -> int:
        """How far before a moment an event can still change the value; 0: without limit.

        The TTL counts too: a view with one speaks as long as anything was heard within it.
        """
        view = self.view
        if not view.is_windowed:
            return view.ttl_us
        return max(max(view.windows_us) + view.hop_us, view.ttl_us)

    def lasts_us(self) -> int:
        """How long an online row is kept after its newest event; 0: for ever. Twice as long as it counts: what was
        heard not long ago shall read as EXPIRED, not as MISSING; and as long as tiles are kept for late events."""
        lookback_us = self.lookback_us()
        return lookback_us and max(2 * lookback_us, lookback_us + self.lateness_us)


def _column(function: Aggregation, expression: Expression, rows: Sequence[Row]) -> np.ndarray:
    values = expression.evaluate_all(rows)
    if function is Aggregation.DISTINCT:
        return hash_values(values)
    if function is Aggregation.COUNT:
        return np.array([math.nan if v is None else 1.0 for v in values], dtype=np.float64)
    try:
        return np.array(values, dtype=np.float64)  # None becomes NaN
    except (ValueError, TypeError) as error:
        raise ExpressionError(f"{function.value}({expression.text}) takes numbers: {error}") from error
