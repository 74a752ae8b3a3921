"""Packed rows of a view from its history, all at once: what the stream would have written, event by event."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from millrace.aggregates import Latest, Lifted, merge_rows

from services.feature_store.adapters.columns_arrow import ENTITY, event_columns, value_name
from services.feature_store.domain.online import keep_from_us
from services.feature_store.domain.views import CompiledView


def packed_rows(view: CompiledView, events: pa.Table) -> dict[str, bytes]:
    """Entity to packed row, from `HistoryParts.part`, which has every event of the entities that it has.

    Raises ExpressionError.
    """
    chosen = event_columns(view, events)
    if not chosen.num_rows:
        return {}
    keys = chosen[ENTITY].combine_chunks()
    owner = keys.indices.to_numpy().astype(np.int64)
    entities = keys.dictionary.to_pylist()
    make = _latest_rows if view.layout is None else _window_rows
    rows = make(view, chosen, owner, len(entities))
    return {entities[place]: row for place, row in rows.items()}


def _window_rows(view: CompiledView, chosen: pa.Table, owner: np.ndarray, entities: int) -> dict[int, bytes]:
    layout = view.layout
    assert layout is not None
    event_us, visible_us, seq = (chosen[name].to_numpy() for name in ("_event_us", "_visible_us", "_seq"))
    names = set(chosen.column_names)
    values = [
        chosen[value_name(place)].to_numpy() if value_name(place) in names else None
        for place in range(len(view.view.aggregates))
    ]
    present = np.unique(owner)
    place_of = np.full(entities, -1, dtype=np.int64)
    place_of[present] = np.arange(len(present))
    own = place_of[owner]
    packed = merge_rows(
        layout,
        [None] * len(present),
        Lifted(own, event_us, layout.lift(values, event_us, seq)),
        hop_us=view.view.hop_us,
        keep_from_us=keep_from_us(view, own, visible_us, len(present)),
    )
    return dict(zip(present.tolist(), packed, strict=True))


def _latest_rows(view: CompiledView, chosen: pa.Table, owner: np.ndarray, entities: int) -> dict[int, bytes]:
    event_us, seq = chosen["_event_us"].to_numpy(), chosen["_seq"].to_numpy()
    order = np.lexsort((seq, event_us, owner))
    newest = order[np.append(np.flatnonzero(np.diff(owner[order])), len(order) - 1)]
    rows = chosen.select(sorted(view.fields)).take(pa.array(newest)).to_pylist()
    return {
        place: view.latest_layout.pack(Latest(at_us, number, view.latest(row)))
        for place, at_us, number, row in zip(
            owner[newest].tolist(), event_us[newest].tolist(), seq[newest].tolist(), rows, strict=True
        )
    }
