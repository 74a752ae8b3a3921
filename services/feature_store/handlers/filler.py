"""The online store from history: for a view that is new, and for a store that lost what it held.

The log keeps days, history keeps everything. A place is filled up to what history holds of its partition, part by part
(entities by hash, so that what is worked out at once is bounded), and gets its position with the last one; from there
the stream goes on. Whoever fills a place writes only on top of what he found: two who fill it at once help each other,
and a place that is filled cannot be written by one who was late. What a fill has written stays after a crash, and the
next one goes on behind it.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import math
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from time import monotonic

import pyarrow as pa
from millrace.aggregates import RowError
from millrace.bus.backoff import Backoff
from millrace.expressions import ExpressionError
from millrace.runtime.errors import Unavailable

from services.feature_store.domain.values import Filling
from services.feature_store.domain.views import CompiledView
from services.feature_store.handlers.feeds import SourceFeed
from services.feature_store.handlers.seen import SEEN
from services.feature_store.ports import RETRIED, HistoryParts, OnlineKeys, OnlineStore, Place

log = logging.getLogger(__name__)
EMPTYING_LAPSES_S = 60  # without a word of who deletes, others go on
LOOK_AGAIN_S = 0.1
ROWS_AT_ONCE = 2_000  # of one script call: some milliseconds in which the store answers nobody else
Pack = Callable[[CompiledView, pa.Table], dict[str, bytes]]


class Filler:
    """Fills places; `part_events` bounds what is in memory at once, `pack` makes rows of events."""

    def __init__(
        self, store: OnlineStore, keys: OnlineKeys, history: HistoryParts, pack: Pack, part_events: int
    ) -> None:
        self._store = store
        self._keys = keys
        self._history = history
        self._pack = pack
        self._part_events = part_events
        self._tried: set[tuple[str, str]] = set()
        self._running: dict[tuple[str, str], asyncio.Future[None]] = {}
        self.problem = ""

    async def fill(self, feed: SourceFeed, view: CompiledView, label: str) -> None:
        """As `parts`, to its end. Where an expression cannot be evaluated the place is left to the log, whose worker
        puts such records aside one by one. Raises StoreUnavailable, RowError."""
        try:
            async for _ in self.parts(feed, view, label):
                pass
        except ExpressionError as error:
            log.warning("history of %s is left to the log: %s", view.id, error)

    async def later(self, feed: SourceFeed, view: CompiledView, ready: asyncio.Event) -> bool:
        """Whether the view is filled beside everything else; `ready` is set when it is there. False: there is nothing
        to fill it from, or it was tried."""
        name = (feed.project, view.id)
        if name in self._tried:
            return name in self._running
        if not await self.events(feed):
            return False
        self._tried.add(name)
        self._running[name] = asyncio.ensure_future(self._beside(feed, view, ready))
        return True

    async def _beside(self, feed: SourceFeed, view: CompiledView, ready: asyncio.Event) -> None:
        backoff = Backoff()
        try:
            for label in labels(feed):
                while True:
                    try:
                        await self.fill(feed, view, label)
                        break
                    except Unavailable as error:
                        self.problem = f"{view.id}: {error}"
                        await backoff.wait()
        except RowError as error:
            log.warning("history of %s is left to the log: %s", view.id, error)
        finally:
            self.problem = ""
            del self._running[feed.project, view.id]
            ready.set()

    def forget(self, project: str, view_id: str) -> None:
        """A view was dropped: should it come again, it is filled again."""
        self._tried.discard((project, view_id))

    async def close(self) -> None:
        """Stops; what was filled stays, and the next process goes on."""
        running = list(self._running.values())
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    async def parts(self, feed: SourceFeed, view: CompiledView, label: str) -> AsyncIterator[int]:
        """Makes the view's rows of one partition; the events of each part as it is done. Nothing where history has
        nothing, or the place has a position. Raises StoreUnavailable, ExpressionError, RowError."""
        place = feed.place(view, label)
        while (filling := await self._standing(feed, place)) is not None:
            events = await self._history.part(
                feed.table,
                sorted(view.fields),
                label,
                filling.position.offset,
                view.view.entity_fields,
                (filling.done, filling.parts),
            )
            rows = await asyncio.to_thread(self._pack, view, events)
            if label == RETRIED:  # what was handed back is known by its id, so that it is applied once
                rows |= {SEEN + identity: b"1" for identity in events["_event_id"].to_pylist()}
            after = filling._replace(done=filling.done + 1)
            if await self._write(feed, view, label, filling, after, rows):
                yield events.num_rows
                if after.done == after.parts:
                    return

    async def _standing(self, feed: SourceFeed, place: Place) -> Filling | None:
        """What is filled next; None where history has nothing, or the place has a position."""
        while True:
            if await self._store.is_emptying(place):
                await asyncio.sleep(LOOK_AGAIN_S)
                continue
            (position,), _ = await self._store.read([place])
            if position is not None:  # the place went on without us, whatever the filling still says
                return None
            filling = await self._store.filling(place)
            if filling is not None:
                return filling
            extent = await self._history.extent(feed.table, place.label)
            if extent is None:
                return None
            filling = Filling(extent.position, max(1, math.ceil(extent.events / self._part_events)), 0)
            if await self._store.fill(place, None, filling, {}):
                return filling

    async def _write(
        self,
        feed: SourceFeed,
        view: CompiledView,
        label: str,
        before: Filling,
        after: Filling,
        rows: Mapping[str, bytes],
    ) -> bool:
        pieces = list(_pieces(rows, ROWS_AT_ONCE)) or [{}]
        place = feed.place(view, label)
        for piece in pieces[:-1]:
            if not await self._store.fill(place, before, before, piece):
                return False
        return await self._store.fill(place, before, after, pieces[-1])

    async def events(self, feed: SourceFeed) -> int:
        """How many events history has of the source."""
        extents = [await self._history.extent(feed.table, label) for label in labels(feed)]
        return sum(extent.events for extent in extents if extent is not None)

    async def clear(self, views: Sequence[tuple[SourceFeed, CompiledView]]) -> None:
        """Deletes everything that is kept of these views of one project. Whoever applies the log, or fills, here or in
        another process, waits meanwhile: what he wrote beside the walk through the store would go with the rest."""
        places = [feed.place(view, label) for feed, view in views for label in labels(feed)]
        chosen = {place.view_id for place in places}
        await self._store.begin_emptying(places, EMPTYING_LAPSES_S)
        told_s = monotonic()
        try:
            async for step in self._keys.walk(places[0].project):
                if mine := [kept.key for kept in step.found if kept.place.view_id in chosen and kept.is_held]:
                    await self._keys.delete(mine)
                if monotonic() - told_s > EMPTYING_LAPSES_S / 4:
                    await self._store.begin_emptying(places, EMPTYING_LAPSES_S)
                    told_s = monotonic()
        finally:
            await self._store.end_emptying(places)


def labels(feed: SourceFeed) -> list[str]:
    """The labels of a view's places: the way back of dead letters first, then the partitions."""
    return [RETRIED, *map(str, range(feed.partitions))]


def _pieces(rows: Mapping[str, bytes], most: int) -> Iterator[dict[str, bytes]]:
    items = iter(rows.items())
    while piece := dict(itertools.islice(items, most)):
        yield piece
