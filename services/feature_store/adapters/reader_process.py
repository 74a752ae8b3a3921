"""Views over history, evaluated in a child process: long computations must not touch the latency of online reads."""

from __future__ import annotations

import asyncio
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

import numpy as np
import pyarrow as pa
from millrace.runtime.errors import Unavailable
from millrace.runtime.forks import end_with_parent

from services.feature_store.domain.answers import Reading
from services.feature_store.domain.pointintime import History, read_history
from services.feature_store.domain.views import CompiledView


def read_table(
    view: CompiledView, keys: list[str | None], moments_us: np.ndarray, table: pa.Table, as_happened: bool
) -> Reading:
    """`read_history` over an Arrow table of history; runs in a thread or in the child."""
    fields = sorted(view.fields)
    history = History(
        rows=table.select(fields).to_pylist(),
        event_us=table["_event_us"].to_numpy(),
        visible_us=table["_visible_us"].to_numpy(),
        offsets=table["_offset"].to_numpy(),
        partitions=table["_partition"].to_numpy(),
    )
    return read_history(view, keys, moments_us, history, as_happened=as_happened)


class ProcessReader:
    """A HistoryReader in a child that starts at first use; if it dies, the next call starts another."""

    def __init__(self, processes: int = 1) -> None:
        self._processes = processes
        self._pool: ProcessPoolExecutor | None = None

    async def read(
        self, view: CompiledView, keys: list[str | None], moments_us: np.ndarray, events: pa.Table, as_happened: bool
    ) -> Reading:
        """As `HistoryReader.read`."""
        if self._pool is None:
            # Not forked: the parent has threads, and locks that a child would inherit locked.
            spawn = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(self._processes, spawn, initializer=end_with_parent)
        try:
            return await asyncio.get_running_loop().run_in_executor(
                self._pool, read_table, view, keys, moments_us, events, as_happened
            )
        except BrokenProcessPool as error:
            self._pool = None
            raise Unavailable(f"the process that reads history died: {error}") from error

    async def close(self) -> None:
        """Ends the child; what it was doing is dropped."""
        pool, self._pool = self._pool, None
        if pool is not None:
            await asyncio.to_thread(pool.shutdown, wait=True, cancel_futures=True)


class ThreadReader:
    """A HistoryReader in a thread: for a few examples, where a process would cost more than the work."""

    async def read(
        self, view: CompiledView, keys: list[str | None], moments_us: np.ndarray, events: pa.Table, as_happened: bool
    ) -> Reading:
        """As `HistoryReader.read`."""
        return await asyncio.to_thread(read_table, view, keys, moments_us, events, as_happened)
