"""One lane per partition: batches of a partition one at a time, those of several partitions side by side."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable

from millrace.bus.events import Batch, TopicPartition
from millrace.bus.handling import Stopping

log = logging.getLogger(__name__)


class Lanes:
    """Batches in hand, at most one per partition."""

    def __init__(self, work: Callable[[Batch], Awaitable[None]]) -> None:
        self._work = work
        self._tasks: dict[TopicPartition, asyncio.Future[None]] = {}
        self._oldest_us: dict[TopicPartition, int] = {}

    @property
    def busy(self) -> frozenset[TopicPartition]:
        """Partitions whose batch is in hand, or done and not yet reaped."""
        return frozenset(self._tasks)

    def begin(self, place: TopicPartition, batch: Batch) -> None:
        """Take up a batch. The partition must not be busy."""
        if place in self._tasks:
            raise RuntimeError(f"{place} is in hand already")
        self._oldest_us[place] = batch.records[0].timestamp_ms * 1000
        self._tasks[place] = asyncio.ensure_future(self._work(batch))

    def advanced(self, place: TopicPartition, portion: Batch) -> None:
        """A part of the batch is done: what is left is not older than its last record."""
        self._oldest_us[place] = portion.records[-1].timestamp_ms * 1000

    def oldest_us(self) -> dict[TopicPartition, int]:
        """Per busy partition: the timestamp of its oldest record in hand, microseconds."""
        return {place: self._oldest_us[place] for place, task in self._tasks.items() if not task.done()}

    async def settle(self, places: Iterable[TopicPartition], timeout_s: float) -> None:
        """Until these are done, or one of them failed, or the time is over."""
        tasks = [self._tasks[place] for place in places]
        await asyncio.wait(tasks, timeout=timeout_s, return_when=asyncio.FIRST_EXCEPTION)

    def reap(self) -> list[TopicPartition]:
        """Partitions whose batch is done since the last call. Raises what a batch raised, unless it was Stopping."""
        done = [place for place, task in self._tasks.items() if task.done()]
        for place in done:
            task = self._tasks.pop(place)
            error = None if task.cancelled() else task.exception()
            if error is not None and not isinstance(error, Stopping):
                raise error
        return done

    async def drain(self, deadline_s: float) -> None:
        """Let what is in hand finish; after the deadline it is cancelled."""
        tasks, self._tasks = list(self._tasks.values()), {}
        if not tasks:
            return
        _, late = await asyncio.wait(tasks, timeout=deadline_s)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late)
        for task in tasks:
            if not task.cancelled() and task.exception() is not None:
                log.info("a batch is left unfinished: %r", task.exception())
