"""What each column of a view costs: its part in the bytes of a row, and in the work that an event makes.

Columns of one aggregate share its state: `sum(x)` over three windows is kept and updated once, and costs each a third.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from millrace.aggregates import Layout, tile_start
from millrace.aggregates.layout import take

from services.feature_store.domain.online import Events
from services.feature_store.domain.views import CompiledView, Selection, sequence

NUMBER_BYTES = 8.0
Work = Callable[[], object]


def works(view: CompiledView, events: Events, chosen: Selection) -> list[Work]:
    """The work of each aggregate, or of each column of a latest view, on these events: what differs between them."""
    rows = [events.rows[i] for i in chosen.places.tolist()]
    if view.layout is None:
        return [partial(view.latest_column, rows, place) for place in range(len(view.view.columns))]
    event_us = events.event_us[chosen.places]
    seq = sequence(events.offsets[chosen.places], events.partition)
    _, owner = np.unique(np.array(chosen.entities, dtype=object), return_inverse=True)
    start_us = tile_start(event_us, view.view.hop_us)
    order = np.lexsort((start_us, owner))
    owner, start_us = owner[order], start_us[order]
    starts = np.flatnonzero(np.append(True, (owner[1:] != owner[:-1]) | (start_us[1:] != start_us[:-1])))

    def fold(place: int) -> None:
        layout = Layout([view.view.aggregates[place]])
        layout.merge(take(layout.lift([view.column(rows, place)], event_us, seq), order), starts)

    return [partial(fold, place) for place in range(len(view.view.aggregates))]


def row_bytes(view: CompiledView, values: Sequence[Sequence[Any]]) -> list[float]:
    """Bytes that each part takes of a row, or of a tile, by column; `values` are some of each column's, of which those
    that are kept as text tell how long they are."""
    if view.layout is not None:
        widths = [Layout([aggregate]).dtype.itemsize - NUMBER_BYTES for aggregate in view.view.aggregates]
        return of_columns(view, widths)
    numeric = view.latest_layout.numeric
    return [
        NUMBER_BYTES if is_number else _mean([len(json.dumps(value)) + 1 for value in column])
        for is_number, column in zip(numeric, values, strict=True)
    ]


def of_columns(view: CompiledView, parts: Sequence[float]) -> list[float]:
    """What was said of aggregates, said of their columns; of a latest view's columns as it is."""
    if view.layout is None:
        return list(parts)
    windows = len(view.view.windows_us)
    shared = [(part, len(a.outputs) * windows) for part, a in zip(parts, view.view.aggregates, strict=True)]
    return [part / count for part, count in shared for _ in range(count)]


def shares(parts: Sequence[float]) -> list[float]:
    """Of the whole, each between 0 and 1; equal ones of nothing."""
    whole = sum(parts)
    return [part / whole if whole else 1 / len(parts) for part in parts]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else NUMBER_BYTES
