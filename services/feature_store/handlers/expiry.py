"""Online rows go when they have had nothing to say for long: else entities that never come again would stay for ever.

A row counts for its view's lookback (the TTL, or the longest window). For as long again it stays; then it goes. What
read as EXPIRED reads as MISSING from then on, and windows that hold nothing have no age any more: values are the same.
Time is the view's own `as_of`, so that a replay, however fast, and a standstill, however long, change nothing. Latest
views without TTL keep their values for ever.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from time import perf_counter

from millrace.bus.events import TopicPartition
from millrace.runtime.errors import RoomError

from services.feature_store.handlers.feeds import FeedBook, ProjectFeed
from services.feature_store.ports import RETRIED, OnlineKeys, OnlineStore, Place

log = logging.getLogger(__name__)
LOOK_EVERY_S = 60.0
STEPS = 4  # of a lookback: all keys are walked through once in each, and a row stays at most that much longer
REST = 4  # times what a step of the walk took, scan included: the server's time is for others

OnExpired = Callable[[str, str, int], None]


class Expiry:
    """`run` is a background task. Of several processes the one that has the project's first partition does it."""

    def __init__(
        self,
        keys: OnlineKeys,
        store: OnlineStore,
        feeds: FeedBook,
        assigned: Callable[[], frozenset[TopicPartition]],
        on_expired: OnExpired = lambda project, view_id, rows: None,
        every_s: float = LOOK_EVERY_S,
    ) -> None:
        self._every_s = every_s
        self._keys = keys
        self._store = store
        self._feeds = feeds
        self._assigned = assigned
        self._on_expired = on_expired
        self._done_us: dict[Place, int] = {}

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(self._every_s)
            for project in list(self._feeds.projects.values()):
                if not self._leads(project):
                    continue
                try:
                    await self.sweep(project)
                except RoomError as error:
                    log.warning("what has expired stays online for now: %s", error)

    async def sweep(self, project: ProjectFeed) -> int:
        """Rows deleted. Raises StoreUnavailable."""
        until_us = await self._until(project)
        before_us = {place: until for place, until in until_us.items() if until > self._done_us.get(place, 0)}
        if not before_us:
            return 0
        expired, began_s = 0, perf_counter()
        async for step in self._keys.walk(project.definition.project.name):
            entities: dict[Place, list[str]] = {}
            for kept in step.found:
                if kept.entity is not None and kept.place in before_us:
                    entities.setdefault(kept.place, []).append(kept.entity)
            for place, found in entities.items():
                rows = await self._store.expire(place, found, before_us[place])
                self._on_expired(place.project, place.view_id, rows)
                expired += rows
            await asyncio.sleep(REST * (perf_counter() - began_s))
            began_s = perf_counter()
        self._done_us |= before_us
        return expired

    async def _until(self, project: ProjectFeed) -> Mapping[Place, int]:
        """Per place, the event time before which nothing counts any more."""
        until: dict[Place, int] = {}
        for feed in project.sources.values():
            for view in feed.views:
                lasts_us = view.lasts_us()
                positions, _ = await self._store.read(feed.places(view))
                as_of_us = min((p.visible_us if p else 0 for p in positions), default=0)
                if lasts_us and as_of_us:
                    step_us = max(1, view.lookback_us() // STEPS)
                    until |= dict.fromkeys(
                        (*feed.places(view), feed.place(view, RETRIED)), (as_of_us - lasts_us) // step_us * step_us
                    )
        return until

    def _leads(self, project: ProjectFeed) -> bool:
        topics = sorted(feed.topic for feed in project.sources.values())
        return bool(topics) and (topics[0], 0) in self._assigned()
