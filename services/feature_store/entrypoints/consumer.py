"""The two consumer groups. They read the same topics and do not wait for each other."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from functools import partial

from millrace.bus.ports import Bus
from millrace.bus.worker import Worker

from services.feature_store.handlers import DATA, HANDLERS, HISTORY, ONLINE
from services.feature_store.handlers.history import HistoryEvents
from services.feature_store.handlers.online import OnlineFeatures

ROOM = "feature_store"
# The history gains by large inserts; an online read may be waiting for the other.
GATHER_MS = {ONLINE: 0, HISTORY: 1000}


class Consumers:
    """Both workers, and the rewind of the online one."""

    def __init__(self, bus: Bus, online: OnlineFeatures, history: HistoryEvents, batch_records: int) -> None:
        self._online = online
        owners: dict[str, OnlineFeatures | HistoryEvents] = {ONLINE: online, HISTORY: history}
        self.online, self.history = (
            Worker(
                bus,
                room=ROOM,
                group=group,
                handle=partial(HANDLERS[DATA][group], owner),
                max_records=batch_records,
                start_offsets=owner.start_offsets,
                gather_ms=GATHER_MS[group],
            )
            for group, owner in owners.items()
        )

    async def follow(self, topics: Iterable[str], *, rewind: bool) -> None:
        """Consume these topics from now on; `rewind` when a view is new on a topic that was consumed before."""
        names = sorted(topics)
        if rewind:
            self._online.rewind.set()
        await self.online.set_topics(names)
        await self.history.set_topics(names)

    async def run_online(self) -> None:
        """The online worker, joined anew whenever it must look where to begin: the store was emptied, a view is new."""
        while True:
            self._online.rewind.clear()
            working = asyncio.ensure_future(self.online.run())
            rewinding = asyncio.ensure_future(self._online.rewind.wait())
            try:
                await asyncio.wait((working, rewinding), return_when=asyncio.FIRST_COMPLETED)
            finally:
                rewinding.cancel()
                working.cancel()
                await asyncio.wait((working,))
            if (
                not working.cancelled()
                and (error := working.exception()) is not None
                and not self._online.rewind.is_set()
            ):
                raise error
