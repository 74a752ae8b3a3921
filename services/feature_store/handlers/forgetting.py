"""One entity out of the online store, history and snapshots; what others' features took from it is computed anew."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from millrace.runtime.errors import Unavailable
from millrace.runtime.forgetting import Obeyed
from millrace.runtime.forgotten import Forgotten
from millrace.wire.ingestion.v1.forgetting_pb2 import Forget, Identity

from services.feature_store.domain.online import Events, new_rows
from services.feature_store.domain.values import Position
from services.feature_store.domain.views import MOST_PARTITIONS, CompiledView
from services.feature_store.handlers.feeds import FeedBook, ProjectFeed, SourceFeed
from services.feature_store.handlers.history import HistoryWriter
from services.feature_store.handlers.online import OnlineFeatures
from services.feature_store.handlers.snapshots import SnapshotRewriter
from services.feature_store.handlers.timelines import Timelines
from services.feature_store.ports import RETRIED, Erasing, KeptShadows, OnlineStore, Place, Write

log = logging.getLogger(__name__)
FOREVER_US = 2**62
KEYS_AT_ONCE = 500  # recomputed with one read of history
ATTEMPTS = 20  # of a swap that the worker was faster than, before it is held back
PATIENCE_S = 10.0  # for history to come as far as the online store is
CLEANED_US = 30 * 60_000_000  # parts that a deletion replaced leave the disk within it, and Redis' old log


@dataclass(frozen=True, slots=True)
class Stores:
    """What is forgotten from."""

    online: OnlineStore
    erasing: Erasing
    snapshots: SnapshotRewriter
    timelines: Timelines
    shadows: KeptShadows


class Forgetting:
    """Obeys requests. `hurry` lets history read at once what waits for it."""

    def __init__(
        self,
        feeds: FeedBook,
        online: OnlineFeatures,
        writer: HistoryWriter,
        stores: Stores,
        hurry: Callable[[], None],
        now_us: Callable[[], int],
    ) -> None:
        self._feeds = feeds
        self._online = online
        self._writer = writer
        self._stores = stores
        self._hurry = hurry
        self._now_us = now_us

    async def obey(self, request: Forget) -> Obeyed:
        """Deletes, and computes anew. Idempotent. Raises Unavailable, StoreUnavailable: to be repeated."""
        done = Obeyed()
        if request.phase == Forget.DONE:
            return done
        feed = self._feeds.projects.get(request.project)
        if feed is None:
            raise Unavailable(f"the definition of {request.project} has not been read yet")
        await self._writer.flush()
        known = Forgotten()
        known.put(request)
        rows = 0
        for one in request.identities:
            if one.source in feed.sources:
                rows += await self._online_rows(feed.sources[one.source], one, known)
        await self._stores.online.rewrite_log()
        gone_us = self._now_us() + CLEANED_US
        done.add("feature_store: online rows", rows, gone_us, "computed anew without its events; the log is rewritten")
        erased = 0
        for one in request.identities:
            erased += await self._stores.erasing.erase(request.project, one.source, one.field, one.entity, one.cut_us)
        await self._stores.timelines.clear()
        if request.HasField("example"):
            erased += await self._stores.erasing.erase_reads(request.project, request.example.entity)
        done.add("feature_store: history rows", erased, self._now_us() + CLEANED_US, "parts of the table are rewritten")
        await self._snapshots(request, feed, done)
        dropped = await self._stores.shadows.drop(request.project)
        if dropped:  # a copy of what was; whole, since it can be made again
            gone_us = self._now_us() + CLEANED_US
            done.add("feature_store: kept shadows", len(dropped), gone_us, f"dropped: {', '.join(dropped)}")
        return done

    async def _snapshots(self, request: Forget, feed: ProjectFeed, done: Obeyed) -> None:
        rewritten = await self._stores.snapshots.rewrite(request)
        done.snapshots.extend(rewritten.superseded)
        done.add(
            "feature_store: snapshot rows",
            rewritten.rows,
            self._now_us(),
            f"{len(rewritten.superseded)} snapshots rewritten under a new digest, {rewritten.objects} objects deleted",
        )

    async def _online_rows(self, feed: SourceFeed, one: Identity, known: Forgotten) -> int:
        """Rows written or deleted, over all views of the source."""
        rows = 0
        names = {name for name, _ in feed.table.fields}
        for view in feed.views:
            fields = view.view.entity_fields
            keys = {one.entity} if fields == (one.field,) else set[str]()
            if one.field in names:
                touched = self._stores.erasing.touched(feed.table, one.field, one.entity, one.cut_us, fields)
                keys.update(await touched)
            chosen = sorted(keys)
            for begin in range(0, len(chosen), KEYS_AT_ONCE):
                rows += await self._recompute(feed, view, chosen[begin : begin + KEYS_AT_ONCE], known)
        return rows

    async def _recompute(self, feed: SourceFeed, view: CompiledView, keys: list[str], known: Forgotten) -> int:
        for attempt in range(ATTEMPTS + 1):
            with self._online.held(feed.topic, attempt == ATTEMPTS):
                written = await self._try(feed, view, keys, known)
            if written is not None:
                return written
        raise Unavailable(f"{feed.topic} is being written by somebody else")

    async def _try(self, feed: SourceFeed, view: CompiledView, keys: list[str], known: Forgotten) -> int | None:
        """Rows written over all partitions; None when the worker was faster."""
        places = [*feed.places(view), feed.place(view, RETRIED)]
        positions, found = await self._stores.online.read(places, [(place, keys) for place in places])
        await self._history_has(feed, positions)
        events = await self._events(feed, view, keys, known)
        written = 0
        for place, position, own in zip(places, positions, found, strict=True):
            if position is None:
                continue
            before = dict(zip(keys, own, strict=True))
            rows = _rows(view, _of_place(events, place, position))
            gone = [key for key, row in before.items() if row is not None and key not in rows]
            changed = {key: row for key, row in rows.items() if before.get(key) != row}
            if not gone and not changed:
                continue
            write = Write(place, position, position, changed)
            if not await self._stores.online.swap([write], gone):
                return None
            written += len(gone) + len(changed)
        return written

    async def _history_has(self, feed: SourceFeed, positions: Sequence[Position | None]) -> None:
        """Until the table holds what the online store has applied. Raises Unavailable."""
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + PATIENCE_S
        for partition, position in enumerate(positions[:-1]):
            wanted = -1 if position is None else position.offset
            while (reached := self._writer.position(feed.table, partition).offset) < wanted:
                if loop.time() > deadline_s:
                    raise Unavailable(f"the history of {feed.topic}/{partition} is at offset {reached}, not {wanted}")
                self._hurry()
                await self._writer.moved(0.05)

    async def _events(self, feed: SourceFeed, view: CompiledView, keys: list[str], known: Forgotten) -> pa.Table:
        """What the table knows of these keys without the forgotten, as (partition, via) sorts it."""
        since_us = self._since(feed, view)
        table = await self._stores.erasing.events(feed.table, view.view.entity_fields, keys, since_us)
        rows = table.to_pylist()
        keep = [not known.is_row(feed.project, feed.source.name, row, row["_visible_us"]) for row in rows]
        return table.filter(pa.array(keep, type=pa.bool_()))

    def _since(self, feed: SourceFeed, view: CompiledView) -> int:
        lookback_us = view.lookback_us()
        if not lookback_us:
            return -FOREVER_US
        marks = [self._writer.visible_us(feed.table, p) for p in range(feed.partitions)]
        return min(marks, default=0) - lookback_us - view.lateness_us


def _of_place(events: pa.Table, place: Place, position: Position) -> Events:
    """The events that the rows of this place are made of: its partition's, as far as it has come."""
    if not events.num_rows:
        return Events.none()
    via = np.array([bool(text) for text in events["_via"].to_pylist()])
    if place.label == RETRIED:
        mask, partition = via, MOST_PARTITIONS - 1
    else:
        partition = int(place.label)
        inside = (events["_partition"].to_numpy() == partition) & (events["_offset"].to_numpy() <= position.offset)
        mask = inside & ~via
    mine = events.filter(pa.array(mask))
    names = [name for name in mine.column_names if not name.startswith("_")]
    return Events(
        mine.select(names).to_pylist(),
        mine["_event_id"].to_pylist(),
        mine["_event_us"].to_numpy(),
        mine["_visible_us"].to_numpy(),
        mine["_offset"].to_numpy(),
        partition,
    )


def _rows(view: CompiledView, events: Events) -> Mapping[str, bytes]:
    chosen = view.select(events.rows)
    return new_rows(view, events, chosen, dict.fromkeys(chosen.entities))
