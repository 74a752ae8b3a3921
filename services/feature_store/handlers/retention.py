"""History is kept as long as its source says: rows that became visible longer ago, by the project's clock, go."""

from __future__ import annotations

import asyncio
import logging

from millrace.runtime.errors import RoomError

from services.feature_store.handlers.feeds import FeedBook, SourceFeed
from services.feature_store.handlers.history import HistoryWriter
from services.feature_store.ports import Erasing

log = logging.getLogger(__name__)
LOOK_EVERY_S = 60.0
# A mutation rewrites parts: rows go in steps of this share of the retention, and live at most so much longer.
STEP_SHARE = 24


class Retention:
    """`run` is a background task."""

    def __init__(self, erasing: Erasing, feeds: FeedBook, writer: HistoryWriter) -> None:
        self._erasing = erasing
        self._feeds = feeds
        self._writer = writer
        self._done_us: dict[str, int] = {}

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            for feed in list(self._feeds.topics.values()):
                try:
                    await self.expire(feed)
                except RoomError as error:
                    log.warning("what is too old stays in the history of %s for now: %s", feed.topic, error)

    async def expire(self, feed: SourceFeed) -> int:
        """Rows deleted. The clock is what the source's partitions have told: nothing goes before the project's time
        has come that far, however fast a replay or how long a standstill."""
        kept_us = feed.source.retention_us
        if not kept_us:
            return 0
        now_us = min((self._writer.visible_us(feed.table, p) for p in range(feed.partitions)), default=0)
        step_us = max(1, kept_us // STEP_SHARE)
        before_us = (now_us - kept_us) // step_us * step_us
        if before_us <= self._done_us.get(feed.topic, 0):
            return 0
        expired = await self._erasing.expire(feed.project, feed.source.name, before_us)
        self._done_us[feed.topic] = before_us
        return expired
