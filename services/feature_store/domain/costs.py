"""What each column of a view costs: its part in the bytes of a row, and in the work that an event makes.

Columns of one aggregate share its state: `sum(x)` over three windows is kept and updated once, and costs each a third.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from millrace.aggregates import Layout, tile_start
from millrace.aggregates.layout import take
from millrace.aggregates.rows import COMPRESS_TILE_BYTES, unpack

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


def part_bytes(view: CompiledView, values: Sequence[Sequence[Any]], rows: Sequence[bytes]) -> list[float]:
    """Bytes that each part takes of a row, by column: for comparing them. `values` are some of each column's, of which
    those that are kept as text tell how long they are; `rows` are some packed rows, for tiles that are compressed."""
    if view.layout is not None:
        return of_columns(view, _tile_bytes(view.layout, rows))
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


def _tile_bytes(layout: Layout, rows: Sequence[bytes]) -> list[float]:
    """Bytes of each aggregate's state, in one tile, or compressed in all of the rows."""
    sizes = [0.0] * len(layout.aggregates)
    if layout.dtype.itemsize <= COMPRESS_TILE_BYTES or not rows:
        for name in layout.names:
            sizes[layout.place(name)] += layout.dtype[name].itemsize
    else:
        for name, column in unpack(layout, rows).state.items():
            sizes[layout.place(name)] += len(zlib.compress(column.tobytes(), 1))
    return sizes


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else NUMBER_BYTES
