"""`consume`: read a batch, take effect, produce, commit the offsets, in this order, for each partition by itself."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass

from millrace.bus.backoff import Backoff
from millrace.bus.delays import Delays, Member, came_back, due_us, split_due
from millrace.bus.draining import DRAIN_DEADLINE_S, stop_if_cancelled
from millrace.bus.errors import BusUnavailable, OffsetsLost, policy_of
from millrace.bus.events import Batch, TopicPartition
from millrace.bus.handling import Handle, Handling, wait_or_stop
from millrace.bus.lanes import Lanes
from millrace.bus.ports import Bus, Subscription
from millrace.bus.standing import Report, standings
from millrace.bus.topics import delayed_topic, load_topics, retry_topic
from millrace.runtime.errors import Policy

log = logging.getLogger(__name__)

StartOffsets = Callable[[list[TopicPartition]], Awaitable[Mapping[TopicPartition, int]]]

COMMIT_EVERY_S = 0.2  # a commit costs a round trip and a write of the broker; what is not committed only comes again
PATIENCE_S = 0.05  # a batch that takes longer no longer holds up the other partitions
BUSY_WAIT_MS = 20  # while a partition is slow, the others are asked this often, and it is taken up again this soon
PARALLEL = 8  # calls of a handler at once: enough to hide a slow neighbour, few enough for a store's connections
MAX_BATCH_BYTES = 16 * 1024 * 1024  # what one call of a handler holds in memory, before it decodes


def _wall_us() -> int:
    return time.time_ns() // 1000


@dataclass(frozen=True, slots=True)
class _Limits:
    max_records: int
    max_bytes: int
    max_wait_ms: int


class Worker:
    """One consumer group's share of the work in this process.

    `handle` gets batches of one partition, one at a time and in order; up to `parallel` partitions are handled side by
    side, and a slow one does not hold up the others. What it raises is judged by its `policy`: RETRY (also connection
    failures and timeouts) repeats the batch for ever with capped backoff; REJECT cuts a batch of several until the
    poison stands alone and goes to `deadletter.<room>`; CRASH ends `run`; anything else is tried `max_attempts` times
    and then rejected. With `delays` (only where effects commute, see Delays) a record that failed `max_attempts` times
    waits in `delayed.<room>` instead. `handle` must be idempotent: whatever was not committed comes again.

    Records of `retry.<room>` come under the topic they had at first (see Record.via), if it is one of ours; what this
    group gave up, and would not read any more, becomes a dead letter again.
    Offsets are committed a few times a second, when nothing comes, and when the worker stops.
    `start_offsets` may say that fresh partitions begin before the committed offset, which is where others begin.
    A batch holds at most `max_records` records and `max_bytes`; `max_wait_ms` bounds one wait for records, and records
    that arrive end it at once. `gather_ms` suits a sink that gains by large batches and that nobody waits for: its
    records may come that much later.
    """

    def __init__(
        self,
        bus: Bus,
        *,
        room: str,
        group: str,
        handle: Handle,
        topics: Iterable[str] = (),
        max_records: int = 2000,
        max_bytes: int = MAX_BATCH_BYTES,
        max_wait_ms: int = 200,
        start_offsets: StartOffsets | None = None,
        max_attempts: int = 5,
        gather_ms: int = 0,
        parallel: int = PARALLEL,
        delays: Delays | None = None,
        now_us: Callable[[], int] = _wall_us,
    ) -> None:
        self._bus = bus
        self._member = Member(room, group)
        self._topics = frozenset(topics)
        self._limits = _Limits(max_records, max_bytes, max_wait_ms)
        self._gather_ms = gather_ms
        self._start_offsets = start_offsets
        self._delays = delays
        self._now_us = now_us
        self._handling = Handling(
            bus, self._member, handle, max_attempts=max_attempts, parallel=parallel, delays=delays, now_us=now_us
        )
        self._lanes = Lanes(self._work)
        self._subscription: Subscription | None = None
        self._topics_changed = False
        self._next: dict[TopicPartition, int] = {}
        self._uncommitted: dict[TopicPartition, int] = {}
        self._handled: dict[TopicPartition, int] = {}  # not committed before the partition was taken away
        self._waiting: dict[TopicPartition, tuple[int, int]] = {}  # due, since: microseconds
        self._fresh: set[TopicPartition] = set()
        self._committed_s = 0.0
        self._phase = "starting"
        self._records = 0

    @property
    def topics(self) -> frozenset[str]:
        """What is consumed, without the topics by which records come back."""
        return self._topics

    @property
    def assignment(self) -> frozenset[TopicPartition]:
        """Partitions that are this worker's now."""
        return self._subscription.assignment if self._subscription else frozenset()

    @property
    def state(self) -> str:
        """`starting`, `running`, or `retrying: ` and why."""
        trouble = next(iter(self._handling.troubles.values()), "")
        return f"retrying: {trouble}" if trouble else self._phase

    @property
    def handled_records(self) -> int:
        """Records handled since start."""
        return self._records

    @property
    def dead_letters(self) -> int:
        """Records given up on since start."""
        return self._handling.tally.dead_letters.total()

    @property
    def lag_records(self) -> int:
        """Records that wait in our partitions, those in hand included. At least 1 while the assignment is not known.
        Records that wait for their time in `delayed.<room>` do not count: nobody can hurry them."""
        subscription = self._subscription
        if not self._topics:
            return 0
        if subscription is None or self._topics_changed or not subscription.settled:
            return 1
        places = [place for place in subscription.assignment if place[0] != delayed_topic(self._member.room)]
        ends = subscription.end_offsets()
        unknown = any(place not in self._next or place in self._fresh for place in places)
        waiting = sum(max(0, ends.get(place, 0) - self._next.get(place, 0)) for place in places)
        return max(waiting, int(unknown))

    def report(self) -> Report:
        """What happened since start, and how each partition of ours stands, as far as is known without asking."""
        if self._subscription is None:
            return Report(self._member, self._handling.tally, [])
        ends = self._subscription.end_offsets()
        since = self._lanes.oldest_us() | {place: since for place, (_, since) in self._waiting.items()}
        stand = standings(self._subscription.assignment, self._next, ends, since, self._now_us())
        return Report(self._member, self._handling.tally, stand)

    async def learn_lag(self) -> None:
        """Ask the broker what waits now: partitions that rest do not know it yet. Raises BusUnavailable."""
        if self._subscription is not None:
            await self._subscription.learn_ends()

    def hurry(self) -> None:
        """Handle at once what waits, though it is being gathered."""
        if self._subscription is not None:
            self._subscription.hurry()

    async def set_topics(self, names: Iterable[str]) -> None:
        """Consume these topics from now on; they should exist (`Bus.ensure_topics`)."""
        topics = frozenset(names)
        if topics != self._topics:
            self._topics = topics
            self._topics_changed = True

    async def run(self) -> None:
        """Until cancelled; batches in hand are finished first. Raises what `handle` raised with policy CRASH."""
        backoff = Backoff()
        own = load_topics().for_room(self._member.room, delays=self._delays is not None)
        while True:
            stop_if_cancelled()
            self._handling.stop.clear()
            subscription = self._bus.subscription(self._member.group, self._gather_ms)
            try:
                await self._bus.ensure_topics(own)
                self._topics_changed = False
                await subscription.start(self._wanted())
                self._subscription = subscription
                backoff.reset()
                await self._session(subscription)
            except BusUnavailable as error:
                self._phase = f"retrying: {error}"
                log.warning("group %s: %s", self._member.group, error)
                await self._put_down()
                await backoff.wait()
            finally:
                self._subscription = None
                await self._put_down()
                await self._leave(subscription)
                self._next, self._waiting, self._fresh = {}, {}, set()

    async def _put_down(self) -> None:
        """What is in hand may finish; what waits to be tried again comes again."""
        self._handling.stop.set()
        await self._lanes.drain(DRAIN_DEADLINE_S)

    def _wanted(self) -> frozenset[str]:
        if not self._topics:
            return self._topics
        room = self._member.room
        return self._topics | {retry_topic(room)} | ({delayed_topic(room)} if self._delays else frozenset())

    async def _session(self, subscription: Subscription) -> None:
        if self._delays:
            self._handling.delay_partitions = len(await self._bus.partitions(delayed_topic(self._member.room)))
        while True:
            stop_if_cancelled()
            self._take_up(subscription)
            if self._topics_changed:
                self._topics_changed = False
                await self._commit(subscription)  # a new assignment begins at the committed offsets
                await subscription.set_topics(self._wanted())
            await self._position(subscription)
            wait_ms = BUSY_WAIT_MS if self._lanes.busy else self._limits.max_wait_ms
            batches = await subscription.poll(self._limits.max_records, min(wait_ms, self._limits.max_wait_ms))
            self._phase = "running"
            begun = [place for batch in batches for place in await self._begin(subscription, batch)]
            if begun:
                await self._lanes.settle(begun, PATIENCE_S)
            # Who gathers has few batches, and rests after each.
            if not batches or self._gather_ms or time.monotonic() - self._committed_s >= COMMIT_EVERY_S:
                await self._commit(subscription)  # 3. commit
            for place in self._lanes.busy:
                subscription.hold(place)

    def _take_up(self, subscription: Subscription) -> None:
        """Partitions whose batch is done, or whose time has come, are read again. Raises what a batch raised."""
        now_us = self._now_us()
        for place in self._lanes.reap():
            if place not in self._waiting:
                subscription.release(place)
        for place in [place for place, (due, _) in self._waiting.items() if due <= now_us]:
            del self._waiting[place]
            if place not in self._lanes.busy:
                subscription.release(place)

    async def _begin(self, subscription: Subscription, batch: Batch) -> list[TopicPartition]:
        """Give a batch to its partition's lane; records that are not due yet are read again when they are."""
        place = (batch.topic, batch.partition)
        now_us = self._now_us()
        due, later = split_due(batch, self._member, now_us)
        if later is not None:
            first = later.records[0]
            await subscription.seek(place, first.offset)
            subscription.hold(place)
            longest_us = int(max(self._delays.steps_s if self._delays else (0.0,)) * 1_000_000)
            self._waiting[place] = (min(due_us(first), now_us + longest_us), first.timestamp_ms * 1000)
        if due is None:
            return []
        self._lanes.begin(place, due)
        return [place]

    async def _work(self, batch: Batch) -> None:
        """All of one batch, in portions; how far it came is remembered after each."""
        place = (batch.topic, batch.partition)
        for portion in batch.portions(self._limits.max_bytes):
            for part in came_back(portion, self._member):
                if part.topic in self._topics:
                    await self._handling.work(part)
                else:
                    await self._handling.turn_away(part)
            self._records += len(portion.records)
            self._next[place] = self._uncommitted[place] = portion.last_offset + 1
            self._lanes.advanced(place, portion)

    async def _position(self, subscription: Subscription) -> None:
        """Begin fresh partitions where the room's own state says, and learn what waits in them. One whose batch is
        still in hand, from before it was away, waits for that."""
        while True:  # the assignment may change again while the start of the last one is looked up
            taken = subscription.take_fresh()
            if taken:
                self._fresh, self._waiting = set(taken), {}
                for place in self._lanes.busy & self._fresh:
                    subscription.hold(place)
            fresh = sorted(self._fresh - self._lanes.busy)
            if not fresh:
                return
            self._fresh -= set(fresh)
            await self._go_to_start(subscription, fresh)

    async def _go_to_start(self, subscription: Subscription, fresh: list[TopicPartition]) -> None:
        starts: Mapping[TopicPartition, int] = {}
        for place in fresh:
            self._next.pop(place, None)
        if self._start_offsets is not None:
            starts = await self._patiently(self._start_offsets, fresh)
        for place, offset in starts.items():
            await self._seek(subscription, place, offset)
        for place in fresh:
            try:
                at = await subscription.position(place)
                done = max(self._uncommitted.pop(place, at), self._handled.pop(place, at))
                if done > at and place not in starts:  # handled here before the partition was away for a while
                    await subscription.seek(place, done)
                    self._uncommitted[place] = at = done
                self._next[place] = at
            except OffsetsLost as error:
                log.info("group %s: %s", self._member.group, error)

    async def _seek(self, subscription: Subscription, place: TopicPartition, offset: int) -> None:
        """At the room's own place, or before it where less is committed: what has taken effect and is not committed may
        not have been produced."""
        try:
            await subscription.seek(place, min(offset, await subscription.position(place)))
        except OffsetsLost as error:
            log.info("group %s: %s", self._member.group, error)

    async def _patiently(
        self, start_offsets: StartOffsets, fresh: list[TopicPartition]
    ) -> Mapping[TopicPartition, int]:
        backoff = Backoff()
        while True:
            try:
                return await start_offsets(fresh)
            except Exception as error:
                if policy_of(error) is not Policy.RETRY:
                    raise
                stop_if_cancelled()
                self._phase = f"retrying: {type(error).__name__}: {error}"
                log.warning("group %s retries: %s: %s", self._member.group, type(error).__name__, error)
                await wait_or_stop(backoff, self._handling.stop)

    async def _commit(self, subscription: Subscription) -> None:
        """What cannot be committed is remembered, in case the partition comes back."""
        self._committed_s = time.monotonic()
        done, self._uncommitted = self._uncommitted, {}
        if not done:
            return
        mine = {place: offset for place, offset in done.items() if place in subscription.assignment}
        # Where the start is still to be looked up, that look may be older than this commit.
        placed = mine.keys() - self._fresh if subscription.settled else frozenset()
        self._handled.update({place: offset for place, offset in done.items() if place not in placed})
        try:
            if mine:
                await subscription.commit(mine)
        except OffsetsLost as error:
            # The effects stand; if the records come again, here or elsewhere, they change nothing.
            log.info("group %s: %s", self._member.group, error)
            self._handled.update(mine)
        except BusUnavailable:
            self._uncommitted = done | self._uncommitted
            raise

    async def _leave(self, subscription: Subscription) -> None:
        try:
            await self._commit(subscription)
        except BusUnavailable as error:
            log.warning("group %s: leaving without a commit: %s", self._member.group, error)
        try:
            await subscription.stop()
        except BusUnavailable as error:
            log.warning("group %s: leaving: %s", self._member.group, error)
