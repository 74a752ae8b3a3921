"""A view's events as columns: fields go from Arrow to numpy as they are, and only real expressions see Python rows.

What comes out of here equals what `CompiledView.select`, `columns` and `latest` make of the same events one by one.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from millrace.aggregates import hash_values
from millrace.definitions.model import Aggregate, Aggregation
from millrace.expressions import Expression, parse
from millrace.expressions.tree import IsNull, Name

from services.feature_store.domain.values import as_number
from services.feature_store.domain.views import CompiledView
from services.feature_store.handlers.schemas import TIMELINE
from services.feature_store.handlers.tables import composite_texts

ENTITY = "_entity"
# Aggregates that take a field as a number; what is not here goes through the view's own rows.
_NUMBERS = frozenset(
    {
        Aggregation.SUM,
        Aggregation.MEAN,
        Aggregation.STD,
        Aggregation.MIN,
        Aggregation.MAX,
        Aggregation.FIRST,
        Aggregation.LAST,
        Aggregation.LAST_K,
        Aggregation.QUANTILE,
    }
)
_SYSTEM = [name for name, _ in TIMELINE]


def value_name(position: int) -> str:
    """The column that holds what a windowed view's aggregate takes of each event."""
    return f"_value_{position}"


def event_columns(view: CompiledView, events: pa.Table) -> pa.Table:
    """The events that the view takes: ENTITY (a dictionary of texts), the TIMELINE columns, then its fields.

    A windowed view has one column per aggregate that takes a value in place of the fields. Raises ExpressionError.
    """
    entity = composite_texts([events[field].combine_chunks() for field in view.view.entity_fields])
    keep = pc.is_valid(entity)
    if view.view.where:
        keep = pc.and_(keep, _truth(parse(view.view.where), events))
    chosen = events.append_column(ENTITY, entity.dictionary_encode()).filter(keep)
    if not view.view.is_windowed:
        return chosen.select([ENTITY, *_SYSTEM, *sorted(view.fields)])
    table = chosen.select([ENTITY, *_SYSTEM])
    for position, values in enumerate(_aggregate_values(view, chosen)):
        if values is not None:
            table = table.append_column(value_name(position), pa.array(values))
    return table


def latest_column(view: CompiledView, column: int, events: pa.Table, rows: np.ndarray) -> pa.Array:
    """One column of a latest view at `rows` of its events (int64; -1: null), in the type that its values have."""
    if column < len(view.view.latest):
        return events[view.view.latest[column]].combine_chunks().take(pa.array(rows, mask=rows < 0))
    expression = parse(view.view.derive[column - len(view.view.latest)][1])
    wanted, place = np.unique(rows[rows >= 0], return_inverse=True)
    needed = events.select(sorted(expression.names)).take(pa.array(wanted)).to_pylist() if expression.names else None
    values = [expression.evaluate(row) for row in needed or [{}] * len(wanted)]
    spread = np.full(len(rows), -1, dtype=np.int64)
    spread[rows >= 0] = place
    return _inferred(values).take(pa.array(spread, mask=spread < 0))


def as_floats(values: pa.Array) -> pa.Array:
    """float64; whole numbers, booleans and timestamps are numbers to a model."""
    return values.cast(pa.float64(), safe=False)


def _inferred(values: list[object]) -> pa.Array:
    """Texts, truths, or numbers as float64: what an expression gives depends on the row, its column must not."""
    kinds = {type(value) for value in values if value is not None}
    if kinds <= {str} or kinds <= {bool}:
        return pa.array(values, pa.string() if kinds == {str} else pa.bool_() if kinds else pa.float64())
    return pa.array([as_number(value) for value in values], pa.float64())


def _truth(where: Expression, events: pa.Table) -> pa.Array:
    tree = where.tree
    if isinstance(tree, IsNull) and isinstance(tree.operand, Name):
        column = events[tree.operand.name].combine_chunks()
        return pc.is_valid(column) if tree.negated else pc.is_null(column)
    rows = events.select(sorted(where.names)).to_pylist() if where.names else [{}] * events.num_rows
    return pa.array([where.is_true(row) for row in rows], pa.bool_())


def _aggregate_values(view: CompiledView, events: pa.Table) -> list[np.ndarray | None]:
    plain = [_plain(aggregate, events) for aggregate in view.view.aggregates]
    hard = [i for i, a in enumerate(view.view.aggregates) if a.expression and plain[i] is None]
    if hard:
        names = {name for i in hard for name in parse(view.view.aggregates[i].expression).names}
        # The view works out all of its aggregates; fields that the hard ones do not need are left null for it.
        evaluated = view.columns(events.select(sorted(names)).to_pylist())
        for i in hard:
            plain[i] = evaluated[i]
    return plain


def _plain(aggregate: Aggregate, events: pa.Table) -> np.ndarray | None:
    """What the aggregate takes, where that is a field and nothing else; None otherwise, and for `count()`."""
    tree = parse(aggregate.expression).tree if aggregate.expression else None
    if not isinstance(tree, Name):
        return None
    column = events[tree.name].combine_chunks()
    if aggregate.function is Aggregation.COUNT:
        return np.where(pc.is_valid(column).to_numpy(zero_copy_only=False), 1.0, np.nan)
    if aggregate.function is Aggregation.DISTINCT:
        distinct = column.dictionary_encode()
        hashes = np.append(hash_values(distinct.dictionary.to_pylist()), np.uint64(0))
        codes = pc.fill_null(distinct.indices, len(hashes) - 1).to_numpy(zero_copy_only=False)
        found: np.ndarray = hashes[codes]
        return found
    if aggregate.function in _NUMBERS and not pa.types.is_string(column.type):
        numbers: np.ndarray = pc.fill_null(as_floats(column), np.nan).to_numpy(zero_copy_only=False)
        return numbers
    return None
