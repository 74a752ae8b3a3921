"""Several processes apply the log, each its own partitions; how far each has come, the others know.

Of the online store they see it there. Of the histories each tells it: a training set waits until all partitions are in
their tables, and so do the forgetting of an entity and the consistency check. What a process tells is true for as long
as the tables stand; it lapses when nobody tells it any more, so that a table that was lost and is read anew does not
pass for whole.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from time import monotonic

from millrace.bus.events import TopicPartition
from millrace.runtime.errors import Unavailable

from services.feature_store.domain.values import Position
from services.feature_store.handlers.feeds import FeedBook, SourceFeed
from services.feature_store.handlers.history import NOWHERE, HistoryWriter
from services.feature_store.ports import MarkStore, Place

log = logging.getLogger(__name__)
EVERY_S = 0.2
AGAIN_S = 3.0  # what did not change is told again


Assigned = Callable[[], frozenset[TopicPartition]]


@dataclass(frozen=True, slots=True)
class Own:
    """The partitions of this process, of each of its two groups."""

    online: Assigned
    history: Assigned


class Marks:
    """Tells of the history's own partitions, and learns of all others; `look` sees how far places are online."""

    def __init__(
        self,
        store: MarkStore,
        feeds: FeedBook,
        writer: HistoryWriter,
        own: Own,
        look: Callable[[Sequence[Place]], Awaitable[None]],
        now_s: Callable[[], float] = monotonic,
    ) -> None:
        self._store = store
        self._feeds = feeds
        self._writer = writer
        self._own = own
        self._look = look
        self._now_s = now_s
        self._told: dict[tuple[str, int], tuple[Position, float]] = {}
        self._troubled = False

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(EVERY_S)
            try:
                await self.exchange()
                self._troubled = False
            except Unavailable as error:  # the online group needs the same store, and the room says so there
                if not self._troubled:
                    log.warning("how far the histories are is not exchanged: %s", error)
                self._troubled = True

    async def exchange(self) -> None:
        """Tell what changed here, and learn what others did. Raises StoreUnavailable."""
        await self._tell()
        await self._learn()

    async def _tell(self) -> None:
        own, now_s = self._own.history(), self._now_s()
        news: dict[tuple[str, int], Position] = {}
        for feed, partition in self._partitions():
            place = (feed.table.name, partition)
            if (feed.topic, partition) not in own:
                self._told.pop(place, None)
                continue
            position = self._writer.position(feed.table, partition)
            told, at_s = self._told.get(place, (NOWHERE, now_s))
            if position != told or now_s - at_s >= AGAIN_S:
                news[place] = position
        if news:
            await self._store.tell(news)
            self._told |= {place: (position, now_s) for place, position in news.items()}

    async def _learn(self) -> None:
        applied, written = self._own.online(), self._own.history()
        elsewhere = [(feed, p) for feed, p in self._partitions() if (feed.topic, p) not in applied]
        if elsewhere:
            await self._look([feed.place(view, str(p)) for feed, p in elsewhere for view in feed.views])
        others = [(feed, p) for feed, p in self._partitions() if (feed.topic, p) not in written]
        told = await self._store.told([(feed.table.name, partition) for feed, partition in others])
        written = self._own.history()
        for (feed, partition), mark in zip(others, told, strict=True):
            if (feed.topic, partition) not in written:  # else it became ours meanwhile, and the table has been asked
                self._writer.stands(feed.table, partition, mark or NOWHERE)

    def _partitions(self) -> list[tuple[SourceFeed, int]]:
        return [(feed, partition) for feed in self._feeds.topics.values() for partition in range(feed.partitions)]
