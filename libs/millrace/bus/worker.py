"""`consume`: read a batch, take effect, produce, commit the offsets, in this order."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass

from millrace.bus.backoff import Backoff
from millrace.bus.draining import finish_in_hand, stop_if_cancelled
from millrace.bus.effects import Effects, handed_back
from millrace.bus.errors import BusUnavailable, MessageTooLarge, OffsetsLost, policy_of
from millrace.bus.events import Batch, TopicPartition
from millrace.bus.ports import Bus, Subscription
from millrace.bus.topics import load_topics, retry_topic
from millrace.runtime.errors import Policy

log = logging.getLogger(__name__)

Handle = Callable[[Batch, Effects], Awaitable[None]]
StartOffsets = Callable[[list[TopicPartition]], Awaitable[Mapping[TopicPartition, int]]]

COMMIT_EVERY_S = 0.2  # a commit costs a round trip and a write of the broker; what is not committed only comes again


def _wall_us() -> int:
    return time.time_ns() // 1000


@dataclass(frozen=True, slots=True)
class _Limits:
    max_records: int
    max_wait_ms: int
    max_attempts: int


class _Stopping(Exception):
    """The worker is asked to stop while it waits to try a batch again."""


class Worker:
    """One consumer group's share of the work in this process.

    `handle` gets batches of one partition, one at a time. What it raises is judged by its `policy`: RETRY (also
    connection failures and timeouts) repeats the batch for ever with capped backoff; REJECT cuts a batch of several
    until the poison stands alone and goes to `deadletter.<room>`; CRASH ends `run`; anything else is tried
    `max_attempts` times and then rejected. `handle` must be idempotent: whatever was not committed comes again.

    Records of `retry.<room>` come under the topic they had at first (see Record.via), if it is one of ours.
    Offsets are committed a few times a second, when nothing comes, and when the worker stops.
    `start_offsets` may say that fresh partitions begin before the committed offset, which is where others begin.
    `max_wait_ms` bounds one wait for records; records that arrive end it at once. `gather_ms` suits a sink that gains
    by large batches and that nobody waits for: its records may come that much later.
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
        max_wait_ms: int = 200,
        start_offsets: StartOffsets | None = None,
        max_attempts: int = 5,
        gather_ms: int = 0,
        now_us: Callable[[], int] = _wall_us,
    ) -> None:
        self._bus = bus
        self._room = room
        self._group = group
        self._handle = handle
        self._topics = frozenset(topics)
        self._limits = _Limits(max_records, max_wait_ms, max_attempts)
        self._gather_ms = gather_ms
        self._start_offsets = start_offsets
        self._now_us = now_us
        self._subscription: Subscription | None = None
        self._topics_changed = False
        self._stop = asyncio.Event()
        self._next: dict[TopicPartition, int] = {}
        self._uncommitted: dict[TopicPartition, int] = {}
        self._handled: dict[TopicPartition, int] = {}  # not committed before the partition was taken away
        self._committed_s = 0.0
        self.handled_records = 0
        self.dead_letters = 0
        self.state = "starting"

    @property
    def topics(self) -> frozenset[str]:
        """What is consumed, without the retry topic."""
        return self._topics

    @property
    def assignment(self) -> frozenset[TopicPartition]:
        """Partitions that are this worker's now."""
        return self._subscription.assignment if self._subscription else frozenset()

    @property
    def lag_records(self) -> int:
        """Records that wait in our partitions, those in hand included. At least 1 while the assignment is not known."""
        subscription = self._subscription
        if not self._topics:
            return 0
        if subscription is None or self._topics_changed or not subscription.settled:
            return 1
        ends = subscription.end_offsets()
        assignment = subscription.assignment
        unknown = any(place not in self._next for place in assignment)
        waiting = sum(max(0, ends.get(place, 0) - self._next.get(place, 0)) for place in assignment)
        return max(waiting, int(unknown))

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
        """Until cancelled; the batch in hand is finished first. Raises what `handle` raised with policy CRASH."""
        backoff = Backoff()
        self._stop.clear()
        while True:
            stop_if_cancelled()
            subscription = self._bus.subscription(self._group, self._gather_ms)
            try:
                await self._bus.ensure_topics(load_topics().for_room(self._room))
                self._topics_changed = False
                await subscription.start(self._wanted())
                self._subscription = subscription
                backoff.reset()
                await self._session(subscription)
            except BusUnavailable as error:
                self.state = f"retrying: {error}"
                log.warning("group %s: %s", self._group, error)
                await backoff.wait()
            finally:
                self._subscription = None
                await self._leave(subscription)
                self._next = {}

    def _wanted(self) -> frozenset[str]:
        return self._topics | {retry_topic(self._room)} if self._topics else self._topics

    async def _session(self, subscription: Subscription) -> None:
        while True:
            stop_if_cancelled()
            if self._topics_changed:
                self._topics_changed = False
                await self._commit(subscription)  # a new assignment begins at the committed offsets
                await subscription.set_topics(self._wanted())
            await self._position(subscription)
            batches = await subscription.poll(self._limits.max_records, self._limits.max_wait_ms)
            self.state = "running"
            if batches:
                await finish_in_hand(self._work(batches), f"group {self._group}", self._stop.set)
            # Who gathers has few batches, and rests after each.
            if not batches or self._gather_ms or time.monotonic() - self._committed_s >= COMMIT_EVERY_S:
                await self._commit(subscription)  # 3. commit

    async def _position(self, subscription: Subscription) -> None:
        """Begin fresh partitions where the room's own state says, and learn what waits in them."""
        fresh = subscription.take_fresh()
        if not fresh:
            return
        starts: Mapping[TopicPartition, int] = {}
        if self._start_offsets is not None:
            starts = await self._patiently(self._start_offsets, fresh)
        for place, offset in starts.items():
            await self._begin(subscription, place, offset)
        for place in fresh:
            try:
                at = await subscription.position(place)
                done = max(self._uncommitted.get(place, at), self._handled.pop(place, at))
                if done > at and place not in starts:  # handled here before the partition was away for a while
                    await subscription.seek(place, done)
                    self._uncommitted[place] = at = done
                self._next[place] = at
            except OffsetsLost as error:
                log.info("group %s: %s", self._group, error)

    async def _begin(self, subscription: Subscription, place: TopicPartition, offset: int) -> None:
        """At the room's own place, or before it where less is committed: what has taken effect and is not committed may
        not have been produced."""
        try:
            await subscription.seek(place, min(offset, await subscription.position(place)))
        except OffsetsLost as error:
            log.info("group %s: %s", self._group, error)

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
                await self._pause(backoff, error)

    async def _work(self, batches: list[Batch]) -> None:
        parts = [part for batch in batches for part in handed_back(batch, self._room) if part.topic in self._topics]
        effects = Effects(self._room, self._now_us)
        for part in parts:
            await self._take_effect(part, effects)  # 1. effects
        try:
            await self._produce(effects)  # 2. produce
        except MessageTooLarge:
            for part in parts:
                await self._produce_alone(part)
        self.handled_records += sum(len(batch.records) for batch in batches)
        done = {(batch.topic, batch.partition): batch.last_offset + 1 for batch in batches}
        self._next.update(done)
        self._uncommitted.update(done)

    async def _take_effect(self, batch: Batch, effects: Effects, spent_attempts: int = 0) -> None:
        """Handle `batch`, into `effects`; a poison in it is cut out."""
        backoff = Backoff()
        attempts = spent_attempts
        while True:
            attempts += 1
            taken = Effects(self._room, self._now_us, attempts)
            try:
                await self._handle(batch, taken)
                break
            except Exception as error:
                policy = policy_of(error)
                if policy is Policy.CRASH:
                    raise
                if policy is Policy.RETRY:
                    attempts -= 1
                elif policy is Policy.REJECT or attempts >= self._limits.max_attempts:
                    await self._cut(batch, effects, error, attempts)
                    return
                await self._pause(backoff, error)
        effects.messages.extend(taken.messages)
        effects.rejected += taken.rejected
        self.state = "running"

    async def _cut(self, batch: Batch, effects: Effects, error: Exception, attempts: int) -> None:
        """Halve a batch that cannot be handled; a record that stands alone goes to the dead letters."""
        if len(batch.records) == 1:
            record = batch.records[0]
            log.warning("record %s:%d:%d rejected: %s", record.topic, record.partition, record.offset, error)
            reject = Effects(self._room, self._now_us, attempts)
            reject.reject(record, type(error).__name__, str(error))
            effects.messages.extend(reject.messages)
            effects.rejected += 1
            return
        middle = len(batch.records) // 2
        for half in (batch.cut(0, middle), batch.cut(middle, len(batch.records))):
            await self._take_effect(half, effects, spent_attempts=attempts)

    async def _produce_alone(self, batch: Batch) -> None:
        """Of messages refused together: each batch's by themselves, down to the record whose own is too large.
        That one goes to the dead letters; the others are handled again, and their messages keep their ids."""
        effects = Effects(self._room, self._now_us)
        await self._take_effect(batch, effects)
        try:
            await self._produce(effects)
        except MessageTooLarge as error:
            if len(batch.records) > 1:
                middle = len(batch.records) // 2
                for half in (batch.cut(0, middle), batch.cut(middle, len(batch.records))):
                    await self._produce_alone(half)
                return
            refused = Effects(self._room, self._now_us)
            refused.reject(batch.records[0], type(error).__name__, str(error))
            await self._produce(refused)

    async def _produce(self, effects: Effects) -> None:
        backoff = Backoff()
        while effects.messages:
            try:
                await self._bus.publish(effects.messages)
                break
            except BusUnavailable as error:
                await self._pause(backoff, error)
        self.dead_letters += effects.rejected

    async def _commit(self, subscription: Subscription) -> None:
        """What cannot be committed is remembered, in case the partition comes back."""
        self._committed_s = time.monotonic()
        if not self._uncommitted:
            return
        try:
            await subscription.commit(self._uncommitted)
        except OffsetsLost as error:
            # The effects stand; if the records come again, here or elsewhere, they change nothing.
            log.info("group %s: %s", self._group, error)
            self._handled.update(self._uncommitted)
        self._uncommitted = {}

    async def _pause(self, backoff: Backoff, error: Exception) -> None:
        """Wait before the next attempt. Raises _Stopping when the worker is asked to stop."""
        stop_if_cancelled()
        self.state = f"retrying: {type(error).__name__}: {error}"
        log.warning("group %s retries: %s: %s", self._group, type(error).__name__, error)
        waiting = asyncio.ensure_future(backoff.wait())
        stopping = asyncio.ensure_future(self._stop.wait())
        try:
            await asyncio.wait([waiting, stopping], return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
            stopping.cancel()
        if self._stop.is_set():
            raise _Stopping

    async def _leave(self, subscription: Subscription) -> None:
        try:
            await self._commit(subscription)
        except BusUnavailable as error:
            log.warning("group %s: leaving without a commit: %s", self._group, error)
        try:
            await subscription.stop()
        except BusUnavailable as error:
            log.warning("group %s: leaving: %s", self._group, error)
