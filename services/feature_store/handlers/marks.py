"""Several processes write the histories, each those of its own partitions; what each has written, the others know.

A training set waits until all partitions are in their tables, and so do the forgetting of an entity and the consistency
check. What a process tells is true for as long as the tables stand; it lapses when nobody tells it any more, so that a
table that was lost and is read anew does not pass for whole.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from time import monotonic

from millrace.bus.events import TopicPartition
from millrace.runtime.errors import Unavailable

from services.feature_store.domain.values import Position
from services.feature_store.handlers.feeds import FeedBook
from services.feature_store.handlers.history import HistoryWriter
from services.feature_store.ports import MarkStore

log = logging.getLogger(__name__)
EVERY_S = 0.2
AGAIN_S = 3.0  # what did not change is told again


class Marks:
    """Tells of the partitions that are `assigned` to this process's history, and learns of the others."""

    def __init__(
        self,
        store: MarkStore,
        feeds: FeedBook,
        writer: HistoryWriter,
        assigned: Callable[[], frozenset[TopicPartition]],
        now_s: Callable[[], float] = monotonic,
    ) -> None:
        self._store = store
        self._feeds = feeds
        self._writer = writer
        self._assigned = assigned
        self._now_s = now_s
        self._told: dict[tuple[str, int], tuple[Position, float]] = {}
        self.problem = ""

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(EVERY_S)
            try:
                await self.exchange()
                self.problem = ""
            except Unavailable as error:
                if not self.problem:
                    log.warning("how far the histories are is not exchanged: %s", error)
                self.problem = str(error)

    async def exchange(self) -> None:
        """Tell what changed here, and learn what others wrote. Raises StoreUnavailable."""
        own, now_s = self._assigned(), self._now_s()
        news: dict[tuple[str, int], Position] = {}
        others = []
        for feed in self._feeds.topics.values():
            for partition in range(feed.partitions):
                place = (feed.table.name, partition)
                if (feed.topic, partition) not in own:
                    others.append((feed.table, partition))
                    self._told.pop(place, None)
                    continue
                position = self._writer.position(feed.table, partition)
                before = self._told.get(place)
                if position.visible_us and (before is None or before[0] != position or now_s - before[1] >= AGAIN_S):
                    news[place] = position
        if news:
            await self._store.tell(news)
            self._told |= {place: (position, now_s) for place, position in news.items()}
        told = await self._store.told([(table.name, partition) for table, partition in others])
        for (table, partition), mark in zip(others, told, strict=True):
            if mark is not None and mark != self._writer.position(table, partition):
                self._writer.reached(table, partition, mark)
