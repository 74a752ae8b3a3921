"""A replay into a shadow: wait until the range has taken effect, then compare with what is live, and tell."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict
from typing import Any

from millrace.bus.errors import policy_of
from millrace.bus.shadow import ShadowPlan
from millrace.bus.worker import Worker
from millrace.runtime.errors import Policy

from services.feature_store.domain.shadow import Difference
from services.feature_store.errors import UnknownProject
from services.feature_store.handlers.feeds import FeedBook, SourceFeed
from services.feature_store.handlers.history import HistoryWriter
from services.feature_store.ports import ShadowRowStore, ShadowTableStore

LOOK_AGAIN_S = 0.2
Tell = Callable[[Mapping[str, Any]], None]


class ShadowRun:
    """One run of a plan. `tell` gets what is known so far after every step; the last one has `done`."""

    def __init__(
        self,
        plan: ShadowPlan,
        feeds: FeedBook,
        workers: tuple[Worker, Worker],
        writer: HistoryWriter,
        stores: tuple[ShadowRowStore, ShadowTableStore],
        tell: Tell,
    ) -> None:
        self._plan = plan
        self._feeds = feeds
        self._online, self._history = workers
        self._writer = writer
        self._rows, self._tables = stores
        self._tell = tell

    async def run(self, definitions_ready: Callable[[], Awaitable[None]]) -> None:
        """Replay and compare. Failures that the user can mend are told, not raised."""
        try:
            await definitions_ready()
            feeds = self._feeds_of_plan()
            await self._caught_up()
            history = [await self._tables.compare(feed.table, self._spans(feed)) for feed in feeds]
            online = await self._compare_online(feeds)
        except Exception as error:
            if policy_of(error) is Policy.RETRY:
                raise  # begun again, where it stopped
            self._tell({"done": True, "error": str(error)})
            return
        compared = [*history, *online]
        self._tell(
            {
                "done": True,
                "error": "",
                "records": self._plan.records,
                "dead_letters": self._history.dead_letters + self._online.dead_letters,
                "same": all(difference.is_same for difference in compared),
                "history": [asdict(difference) for difference in history],
                "online": [asdict(difference) for difference in online],
            }
        )

    def _feeds_of_plan(self) -> list[SourceFeed]:
        """Raises UnknownProject: also for a topic that feeds nothing, which would be waited for in vain."""
        project = self._feeds.project(self._plan.project)
        by_topic = {feed.topic: feed for feed in project.sources.values()}
        idle = sorted(self._plan.topics - by_topic.keys())
        if idle:
            raise UnknownProject(f"{', '.join(idle)} feeds no view of {self._plan.project}: nothing to replay")
        return [by_topic[topic] for topic in sorted(self._plan.topics)]

    async def _caught_up(self) -> None:
        """Until both groups have handled the range and every row is written."""
        while True:
            for worker in (self._online, self._history):
                await worker.learn_lag()
            self._history.hurry()
            waiting = max(self._online.lag_records, self._history.lag_records)
            if not waiting and not self._writer.held_rows and self._plan.topics <= self._online.topics:
                return
            done = min(self._online.handled_records, self._history.handled_records)
            self._tell({"done": False, "phase": "replay", "records": done, "of": self._plan.records})
            await asyncio.sleep(LOOK_AGAIN_S)

    async def _compare_online(self, feeds: list[SourceFeed]) -> list[Difference]:
        if not self._plan.is_whole:
            why = "the range does not begin with the log: live rows hold what went before it"
            return [Difference("online rows", why=why)]

        def looked_at(keys: int) -> None:
            self._tell({"done": False, "phase": "compare", "records": keys, "of": 0})

        sources = [feed.source.name for feed in feeds]
        lasts_us = {view.id: view.lasts_us() for feed in feeds for view in feed.views}
        return await self._rows.compare(self._plan.project, sources, lasts_us, self._plan.follows, looked_at)

    def _spans(self, feed: SourceFeed) -> dict[int, tuple[int, int]]:
        mine = {p: span for (topic, p), span in self._plan.ranges.items() if topic == feed.topic}
        return {partition: (span.start, span.end) for partition, span in mine.items()}
