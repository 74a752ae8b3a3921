"""The labelled spine as known at a time, and totals."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pyarrow as pa

from services.labeling.errors import NotCaughtUp
from services.labeling.handlers.history import HistoryHandler
from services.labeling.ports import Counts, History, LabelBook, Projects

NO_BOUND_US = 2**62


class SpineHandler:
    """Answers questions about labels; `hurry` lets the history's records come at once, though they are gathered."""

    def __init__(
        self,
        book: LabelBook,
        history: History,
        projects: Projects,
        progress: HistoryHandler,
        *,
        deadline_s: float,
        hurry: Callable[[], None],
    ) -> None:
        self._book = book
        self._history = history
        self._projects = projects
        self._progress = progress
        self._deadline_s = deadline_s
        self._hurry = hurry

    async def spine(self, project: str, from_us: int, to_us: int, as_of_us: int, include_censored: bool) -> pa.Table:
        """As `Labeling.Spine`; 0 for no bound. Labels that are out but still on their way to the history are waited
        for. Raises UnknownProject, NotCaughtUp."""
        self._projects.reading(project)
        as_of_us = as_of_us or NO_BOUND_US
        known_us = min(as_of_us, (await self._book.watermarks()).get(project, -1))
        self._hurry()
        if not await self._progress.wait_for(project, known_us, self._deadline_s):
            raise NotCaughtUp(f"the label history of {project} has not reached {known_us} in {self._deadline_s:g} s")
        return await self._history.spine(project, from_us, to_us or NO_BOUND_US, as_of_us, include_censored)

    async def counts(self, project: str) -> Counts:
        """Totals. Raises UnknownProject."""
        self._projects.reading(project)
        return await self._book.counts(project)


def ipc_chunks(table: pa.Table, chunk_bytes: int) -> Iterator[bytes]:
    """`table` as one Arrow IPC stream, cut into pieces of at most `chunk_bytes`."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    whole = memoryview(sink.getvalue())
    for start in range(0, len(whole), chunk_bytes):
        yield bytes(whole[start : start + chunk_bytes])
