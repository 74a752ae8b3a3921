"""Events into the online store: read the rows they touch, merge by the kernel, swap rows and position together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from time import perf_counter

from millrace.aggregates import RowError
from millrace.bus.effects import Effects
from millrace.bus.events import Batch, Event, Message, TopicPartition, derive_id, event_type
from millrace.expressions import ExpressionError
from millrace.wire.feature_store.v1 import events_pb2

from services.feature_store.domain.costs import works
from services.feature_store.domain.online import Decoded, Events, new_rows
from services.feature_store.domain.values import Position
from services.feature_store.domain.views import CompiledView, Selection
from services.feature_store.errors import BadRecord, StoreBehind, SwapRefused
from services.feature_store.handlers.feeds import FeedBook, SourceFeed
from services.feature_store.handlers.filler import Filler
from services.feature_store.handlers.progress import Progress
from services.feature_store.handlers.seen import SEEN
from services.feature_store.handlers.spending import Spending
from services.feature_store.ports import RETRIED, OnlineStore, Place, Write

# Two owners of one partition meet only around a rebalance; a third refusal in a row is not that.
SWAP_ATTEMPTS = 3
NOTHING = Position(-1, 0)
LATE_TOPIC = "data.late"


class OnlineFeatures:
    """Applies batches to the online store. `rewind` is set when the consumer must look where to begin again."""

    def __init__(
        self,
        store: OnlineStore,
        feeds: FeedBook,
        progress: Progress,
        filler: Filler | None = None,
        on_late: Callable[[SourceFeed, int], None] = lambda feed, events: None,
    ) -> None:
        self._filler = filler
        self._on_late = on_late
        self._without: set[tuple[str, str]] = set()
        self._store = store
        self._feeds = feeds
        self._progress = progress
        self._known: dict[Place, Position] = {}
        self._held: dict[str, asyncio.Event] = {}
        self.rewind = asyncio.Event()
        self.spending = Spending()

    @contextmanager
    def held(self, topic: str, is_held: bool = True) -> Iterator[None]:
        """No batch of the topic begins to be applied inside the block."""
        if not is_held:
            yield
            return
        free = self._held[topic] = asyncio.Event()
        try:
            yield
        finally:
            del self._held[topic]
            free.set()

    @contextmanager
    def without(self, project: str, views: frozenset[str]) -> Iterator[None]:
        """Inside the block nothing is applied to these views."""
        left_out = {(project, view_id) for view_id in views}
        self._without |= left_out
        for place in [p for p in self._known if (p.project, p.view_id) in left_out]:
            del self._known[place]
        try:
            yield
        finally:
            self._without -= left_out

    async def start_offsets(self, fresh: list[TopicPartition]) -> Mapping[TopicPartition, int]:
        """Right after what the store holds; where a view has nothing yet, after what history made of it, or the
        beginning of the log. Views that are filled beside others are left out until they are there."""
        starts: dict[TopicPartition, int] = {}
        for topic, partition in fresh:
            feed = self._feeds.topics.get(topic)
            if feed is None:
                continue  # the way back of dead letters: Kafka's own offsets are right
            views = [view for view in feed.views if (feed.project, view.id) not in self._without]
            found = await self._positions(feed, views, partition)
            if self._filler is not None and None in found.values():
                for view in (view for view, position in found.items() if position is None):
                    if self._known.get(feed.place(view, str(partition)), NOTHING) != NOTHING:
                        self._filler.forget(feed.project, view.id)  # it was there: to be filled again
                found = await self._filled(feed, found, partition)
            for view, position in found.items():
                place = feed.place(view, str(partition))
                self._known[place] = position or NOTHING
                self._progress.reset(place, self._known[place].visible_us)
            starts[topic, partition] = min(((p or NOTHING).offset for p in found.values()), default=-1) + 1
        return starts

    async def _positions(
        self, feed: SourceFeed, views: Sequence[CompiledView], partition: int
    ) -> dict[CompiledView, Position | None]:
        positions, _ = await self._store.read([feed.place(view, str(partition)) for view in views])
        return dict(zip(views, positions, strict=True))

    async def _filled(
        self, feed: SourceFeed, found: Mapping[CompiledView, Position | None], partition: int
    ) -> dict[CompiledView, Position | None]:
        """The views that can go on now, with where they stand: all of them, or those that need not wait."""
        assert self._filler is not None
        missing = [view for view, position in found.items() if position is None]
        if len(missing) < len(found):
            waiting = [view for view in missing if await self._filler.later(feed, view, self.rewind)]
            return {view: position for view, position in found.items() if view not in waiting}
        for view in missing:
            await self._filler.fill(feed, view, str(partition))
        return await self._positions(feed, missing, partition)

    async def handle(self, batch: Batch, effects: Effects) -> None:
        """Handle one batch. Raises BadRecord (reject), StoreUnavailable, StoreBehind, SwapRefused (retry)."""
        feed = self._feeds.topics.get(batch.topic)
        if feed is None:
            return
        if batch.topic in self._held:
            await self._held[batch.topic].wait()
        decoded = feed.reader.decode(batch, effects.reject)
        try:
            await self._apply(feed, decoded)
        except (ExpressionError, RowError) as error:
            raise BadRecord(str(error)) from error
        # Also of what was applied before: then the report may not have been produced. Its id is always the same.
        late = late_messages(feed, decoded.events)
        for message in late:
            effects.publish(message)
        if late:
            self._on_late(feed, len(late))

    def visible_us(self) -> dict[str, int]:
        """Per project: the visible time applied in all partitions, also by other processes as far as that is known
        here; 0 before it is."""
        marks: dict[str, int] = {}
        for feed in self._feeds.topics.values():
            mark = self._progress.visible_us([place for view in feed.views for place in feed.places(view)])
            marks[feed.project] = min(mark, marks.get(feed.project, mark))
        return marks

    def _remember(self, place: Place, position: Position) -> None:
        self._known[place] = position
        self._progress.note(place, position.visible_us)

    async def _apply(self, feed: SourceFeed, decoded: Decoded) -> None:
        if not len(decoded.events) and await self._pass_time(feed, decoded):
            return
        for _ in range(SWAP_ATTEMPTS):
            writes = await self._prepare(feed, decoded)
            if not writes or await self._store.swap(writes):
                for write in writes:
                    self._remember(write.place, write.position)
                return
        raise SwapRefused(f"{feed.topic}:{decoded.label} is being written by somebody else")

    async def _pass_time(self, feed: SourceFeed, decoded: Decoded) -> bool:
        """A batch without events only moves positions, on top of those remembered; False when they are not right."""
        places = self._places(feed, decoded)
        known = [self._known.get(place, NOTHING) for place in places]
        if decoded.label == RETRIED or NOTHING in known or any(p.offset >= decoded.last_offset for p in known):
            return False
        writes = [
            Write(place, position, self._moved(position, decoded, Events.none()), {})
            for place, position in zip(places, known, strict=True)
        ]
        if not await self._store.swap(writes):
            return False
        for write in writes:
            self._remember(write.place, write.position)
        return True

    def _places(self, feed: SourceFeed, decoded: Decoded) -> list[Place]:
        """The places of the views that take part. A view that is new here waits for the rewind, to miss nothing."""
        views = [view for view in feed.views if (feed.project, view.id) not in self._without]
        places = [feed.place(view, decoded.label) for view in views]
        return [place for place in places if decoded.label == RETRIED or place in self._known]

    async def _prepare(self, feed: SourceFeed, decoded: Decoded) -> list[Write]:
        """The writes that the batch makes on top of what the store holds now."""
        places = set(self._places(feed, decoded))
        views = [view for view in feed.views if feed.place(view, decoded.label) in places]
        jobs = [_Job(view, feed.place(view, decoded.label), view.select(decoded.events.rows)) for view in views]
        marks = [SEEN + i for i in decoded.events.ids] if decoded.label == RETRIED else []
        wanted = [(job.place, [*job.entities, *marks]) for job in jobs]
        positions, rows = await self._store.read([job.place for job in jobs], wanted)
        writes = []
        for job, position, (_, keys), own in zip(jobs, positions, wanted, rows, strict=True):
            found = dict(zip(keys, own, strict=True))
            have = position or NOTHING
            if have.offset < self._known.get(job.place, NOTHING).offset:
                if position is None and self._filler is not None:  # emptied, here or by another process
                    self._filler.forget(feed.project, job.view.id)
                self.rewind.set()
                raise StoreBehind(f"{job.place} is at {have.offset}, it was at {self._known[job.place].offset}")
            if have.offset >= decoded.last_offset:
                self._remember(job.place, have)
                continue
            fresh = decoded.events.after(have.offset)
            if decoded.label == RETRIED:
                fresh = fresh.unseen({i for i in fresh.ids if found[SEEN + i] is not None})
            writes.append(self._write(job, position, fresh, decoded, found))
        return writes

    def _write(
        self,
        job: _Job,
        position: Position | None,
        fresh: Events,
        decoded: Decoded,
        found: Mapping[str, bytes | None],
    ) -> Write:
        chosen = job.chosen if fresh is decoded.events else job.view.select(fresh.rows)
        moved = self._moved(position or NOTHING, decoded, fresh)
        old = {entity: found[entity] for entity in job.entities}
        started = perf_counter()
        rows = new_rows(job.view, fresh, chosen, old)
        spent = (job.place.project, job.view.id)
        if self.spending.note(spent, len(fresh), perf_counter() - started) and chosen.entities:
            self.spending.weigh(spent, lambda: works(job.view, fresh, chosen))
        if decoded.label == RETRIED:
            rows |= {SEEN + i: b"1" for i in fresh.ids}
        return Write(job.place, position, moved, rows)

    def _moved(self, before: Position, decoded: Decoded, fresh: Events) -> Position:
        """The position after the batch. The visible time of a partition never goes back."""
        visible = int(fresh.visible_us.max()) if len(fresh) else 0
        return Position(decoded.last_offset, max(before.visible_us, decoded.heartbeat_us, visible))


class _Job:
    """One view's share of a batch."""

    def __init__(self, view: CompiledView, place: Place, chosen: Selection) -> None:
        self.view = view
        self.place = place
        self.chosen = chosen
        self.entities = list(dict.fromkeys(chosen.entities))


def late_messages(feed: SourceFeed, events: Events) -> list[Message]:
    """One report per event that came later than its source declares."""
    messages = []
    for i in events.late(feed.source.lateness_us):
        event_us, visible_us = int(events.event_us[i]), int(events.visible_us[i])
        late = events_pb2.LateEvent(
            project=feed.project,
            source=feed.source.name,
            event_id=events.ids[i],
            event_us=event_us,
            visible_us=visible_us,
            lateness_us=visible_us - event_us,
        )
        event = Event(
            id=derive_id(events.ids[i], "feature_store.late"),
            type=event_type("feature_store", "event", "delayed"),
            source="millrace/feature_store",
            data=late.SerializeToString(),
            subject=f"{feed.project}/{feed.source.name}",
            time_us=visible_us,
            causation_id=events.ids[i],
        )
        messages.append(Message(LATE_TOPIC, event, key=event.subject.encode()))
    return messages
