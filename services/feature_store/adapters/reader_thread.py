"""Views over the history of a few entities, row by row: with status and age, as an online read has them."""

from __future__ import annotations

import asyncio

import numpy as np
import pyarrow as pa

from services.feature_store.domain.answers import Reading
from services.feature_store.domain.pointintime import History, read_history
from services.feature_store.domain.views import CompiledView


def read_table(
    view: CompiledView, keys: list[str | None], moments_us: np.ndarray, table: pa.Table, as_happened: bool
) -> Reading:
    """`read_history` over an Arrow table of history; runs in a thread."""
    fields = sorted(view.fields)
    history = History(
        rows=table.select(fields).to_pylist(),
        event_us=table["_event_us"].to_numpy(),
        visible_us=table["_visible_us"].to_numpy(),
        offsets=table["_offset"].to_numpy(),
        partitions=table["_partition"].to_numpy(),
    )
    return read_history(view, keys, moments_us, history, as_happened=as_happened)


class ThreadReader:
    """A HistoryReader in a thread: for a few examples, where a process would cost more than the work."""

    async def read(
        self, view: CompiledView, keys: list[str | None], moments_us: np.ndarray, events: pa.Table, as_happened: bool
    ) -> Reading:
        """As `HistoryReader.read`."""
        return await asyncio.to_thread(read_table, view, keys, moments_us, events, as_happened)
