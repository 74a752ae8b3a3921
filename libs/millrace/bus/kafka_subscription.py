"""Membership in a group, over aiokafka.

Offsets are committed by hand, after the effects; reading starts at the earliest record for a group without offsets.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.errors import (
    CommitFailedError,
    IllegalGenerationError,
    IllegalStateError,
    RebalanceInProgressError,
    UnknownMemberIdError,
)

from millrace.bus.errors import BusUnavailable, OffsetsLost
from millrace.bus.events import Batch
from millrace.bus.events import TopicPartition as Place
from millrace.bus.gathering import Gatherer
from millrace.bus.kafka_clients import (
    FETCH_BYTES,
    PROBE_AFTER_S,
    Ends,
    bounded,
    broker_errors,
    close_client,
    to_batches,
)
from millrace.bus.sharing import Pages, Share

GROUP_FETCH_WAIT_MS = 15  # a partition drained late waits at most this for the running fetch of its neighbours
IDLE_FETCH_WAIT_MS = 250  # in a pause nobody waits for a neighbour, and the first record ends a fetch anyway
IDLE_AFTER_S = 0.5
HEARTBEAT_MS = 1_000  # how fast a member learns that the others changed
SESSION_TIMEOUT_MS = 30_000  # heartbeats share the event loop with handlers: a busy loop must not cost the group
POLL_INTERVAL_MS = 3_600_000  # a handler may retry for an hour while a store is down and stay a member


class _Assignments(ConsumerRebalanceListener):
    """Remembers what the group gave us; the worker positions fresh partitions in its own task, where errors show."""

    def __init__(self, share: Share) -> None:
        self._share = share
        self.fresh: set[Place] = set()
        self.held: set[Place] = set()
        self.generation = 0
        self.joined = False

    def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        self.generation += 1
        self.joined = False
        self.fresh, self.held = set(), set()
        self._share.dealt()

    def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        self.generation += 1
        self.joined = True
        self._share.dealt()
        self.fresh = {(place.topic, place.partition) for place in assigned}


class KafkaSubscription:
    """Membership in a Kafka consumer group. What another group of the process has read lately is taken from `pages`;
    who gathers lets the others read first."""

    def __init__(
        self,
        group: str,
        settings: Mapping[str, Any],
        ends: Ends,
        pages: Pages,
        gather_ms: int = 0,
        session_timeout_ms: int = SESSION_TIMEOUT_MS,
    ) -> None:
        self._pages = pages
        self._share = pages.share(follows=gather_ms > 0)
        self._session_timeout_ms = session_timeout_ms
        self._group = group
        self._ends = ends
        self._gatherer = Gatherer(gather_ms)
        self._settings = settings
        self._consumer: AIOKafkaConsumer | None = None
        self._assignments = _Assignments(self._share)
        self._topics: frozenset[str] = frozenset()
        self._known_ends: dict[Place, int] = {}
        self._told_ends: dict[TopicPartition, int] = {}
        self._turn = 0
        self._heard_s = self._probed_s = time.monotonic()

    @property
    def assignment(self) -> frozenset[Place]:
        """Partitions that are ours now."""
        if self._consumer is None or not self._assignments.joined:
            return frozenset()
        return frozenset((place.topic, place.partition) for place in self._consumer.assignment())

    @property
    def settled(self) -> bool:
        """As `Subscription.settled`."""
        if not self._topics:
            return True
        if self._consumer is None or not self._assignments.joined or self._assignments.fresh:
            return False
        return self._topics <= {topic for topic in self._topics if self._consumer.partitions_for_topic(topic)}

    def take_fresh(self) -> list[Place]:
        """Partitions assigned since the last call."""
        fresh, self._assignments.fresh = sorted(self._assignments.fresh), set()
        if fresh:
            self._told_ends = {}
        return fresh

    async def start(self, topics: Iterable[str]) -> None:
        """Connect and join. Raises BusUnavailable."""
        consumer = AIOKafkaConsumer(
            group_id=self._group,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            isolation_level="read_uncommitted",
            fetch_max_wait_ms=GROUP_FETCH_WAIT_MS,
            max_partition_fetch_bytes=FETCH_BYTES,
            session_timeout_ms=self._session_timeout_ms,
            heartbeat_interval_ms=HEARTBEAT_MS,
            max_poll_interval_ms=POLL_INTERVAL_MS,
            metadata_max_age_ms=5_000,
            **self._settings,
        )
        self._consumer = consumer  # before it is started: `stop` closes it however far it came
        await bounded(consumer.start(), "starting a consumer")
        await self.set_topics(topics)

    async def set_topics(self, topics: Iterable[str]) -> None:
        """Replace the topics subscribed to; topics that do not exist yet join when the broker tells of them."""
        self._topics = frozenset(topics)
        consumer = self._started()
        self._assignments.joined = False
        self._share.subscribes(self._topics)
        with broker_errors("subscribing"):
            if self._topics:
                consumer.subscribe(sorted(self._topics), listener=self._assignments)
            else:
                consumer.unsubscribe()

    async def poll(self, max_records: int, max_wait_ms: int) -> list[Batch]:
        """As `Subscription.poll`."""
        consumer = self._started()
        if not self._topics:
            await asyncio.sleep(max_wait_ms / 1000)
            return []
        generation = self._assignments.generation
        if self._assignments.joined and not self._assignments.fresh:
            self._share.polls(self.assignment)
        with broker_errors("polling"):
            await self._gatherer.end(consumer)
            led, found = self._led(), self._found()
            consumer.pause(*led, *found)  # the broker need not send it again
            polled = await self._ask(consumer, found, led, max_records, max_wait_ms)
            if led and not found and not polled:
                await self._pages.offered(max_wait_ms / 1000)
                found = self._found()
        if generation != self._assignments.generation:
            self._step_back(polled)
            return []
        batches = self._took(consumer, found, max_records - sum(map(len, polled.values())))
        batches += self._read(consumer, polled)
        read = {TopicPartition(batch.topic, batch.partition): batch.last_offset + 1 for batch in batches}
        full = sum(len(batch.records) for batch in batches) >= max_records or bool(self._found())
        self._gatherer.begin(consumer, read, self._end, full=full, held=self._held())
        self._pace(heard=bool(batches))
        await self._probe()
        return batches

    async def seek(self, partition: Place, offset: int) -> None:
        """Read on from `offset`; nothing happens when the partition is no longer ours."""
        if partition in self.assignment:
            self._started().seek(TopicPartition(*partition), offset)
            self._share.goes(partition, offset)

    def hold(self, partition: Place) -> None:
        """As `Subscription.hold`. Not a pause: what is fetched ahead of a held partition stays."""
        if partition in self.assignment:
            self._assignments.held.add(partition)

    def release(self, partition: Place) -> None:
        """As `Subscription.release`."""
        self._assignments.held.discard(partition)

    async def commit(self, offsets: Mapping[Place, int]) -> None:
        """Store the next offsets to read. Raises OffsetsLost, BusUnavailable."""
        if not offsets.keys() <= self.assignment:
            raise OffsetsLost(f"{sorted(offsets.keys() - self.assignment)} moved to another member")
        consumer = self._started()
        places = {TopicPartition(*place): offset for place, offset in offsets.items()}
        try:
            await bounded(consumer.commit(places), "committing offsets")
        except BusUnavailable as error:
            lost = (CommitFailedError, IllegalGenerationError, IllegalStateError, RebalanceInProgressError)
            if isinstance(error.__cause__, (*lost, UnknownMemberIdError)):
                raise OffsetsLost(f"{sorted(offsets)}: {error}") from error
            raise

    def end_offsets(self) -> Mapping[Place, int]:
        """The last known end of each assigned partition."""
        for place in self.assignment:
            end = self._end(TopicPartition(*place))
            if end is not None:
                self._known_ends[place] = max(end, self._known_ends.get(place, 0))
        return self._known_ends

    async def learn_ends(self) -> None:
        """As `Subscription.learn_ends`."""
        places = [TopicPartition(*place) for place in sorted(self.assignment)]
        if places:
            ends = await self._ends.of(places)
            self._known_ends.update({(place.topic, place.partition): end for place, end in ends.items()})

    def hurry(self) -> None:
        """As `Subscription.hurry`."""
        self._gatherer.hurry()

    async def position(self, partition: Place) -> int:
        """The next offset that poll would return; also learns the partition's end."""
        consumer = self._started()
        place = TopicPartition(*partition)
        ends = await self._ends.of([place])
        self._known_ends[partition] = ends[place]
        try:
            at: int = await bounded(consumer.position(place), "asking for the position")
        except BusUnavailable as error:
            if isinstance(error.__cause__, IllegalStateError):
                raise OffsetsLost(f"{partition} moved to another member") from error
            raise
        self._share.goes(partition, at)
        return at

    async def stop(self) -> None:
        """Leave the group, committing nothing."""
        self._share.leave()
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            await close_client(consumer.stop(), consumer._client, "leaving the group")

    def _held(self) -> frozenset[TopicPartition]:
        return frozenset(TopicPartition(*place) for place in self._assignments.held)

    def _awake(self) -> set[TopicPartition]:
        """Our partitions that are not held."""
        return set(self._started().assignment() - self._held())

    def _found(self) -> set[TopicPartition]:
        """Those of them of which another group has read what comes next."""
        return {place for place in self._awake() if self._finds(place)}

    def _led(self) -> set[TopicPartition]:
        """Those that another group is about to read: who gathers lets it."""
        return {place for place in self._awake() if self._share.is_led((place.topic, place.partition))}

    def _finds(self, place: TopicPartition) -> bool:
        # aiokafka goes back by itself, without a rebalance, where the log was made anew; it tells only in private.
        subscription = self._started()._subscription.subscription
        state = subscription.assignment.state_value(place) if subscription and subscription.assignment else None
        if state is None or not state.has_valid_position:
            return False
        return self._share.finds((place.topic, place.partition), at_most=state.position)

    async def _ask(
        self,
        consumer: AIOKafkaConsumer,
        found: set[TopicPartition],
        led: set[TopicPartition],
        max_records: int,
        max_wait_ms: int,
    ) -> Mapping[TopicPartition, Sequence[ConsumerRecord]]:
        """Records of the partitions that are not held, and that nobody else reads: where somebody does, none waits."""
        others = found | led
        wanted = list(self._awake() - others)
        if others:
            max_wait_ms = 0
        if found:
            max_records = max(1, max_records // 2)  # the other half is for what was found
        if not wanted and (others or self._assignments.held):
            await asyncio.sleep(max_wait_ms / 1000)
            return {}
        # aiokafka takes no partitions for all of them.
        asked = wanted if others or self._assignments.held else []
        polled: Mapping[TopicPartition, Sequence[ConsumerRecord]] = await consumer.getmany(
            *asked, timeout_ms=max_wait_ms, max_records=max_records
        )
        return polled

    def _took(self, consumer: AIOKafkaConsumer, found: set[TopicPartition], most_records: int) -> list[Batch]:
        """What another group has read, at most so many records of the partitions where something was found."""
        batches: list[Batch] = []
        self._turn += 1
        for place in sorted(found, key=lambda place: (place.partition + self._turn) % len(found)):
            if most_records > 0 and self._finds(place):
                batch, self._told_ends[place] = self._share.take((place.topic, place.partition), most_records)
                most_records -= len(batch.records)
                batches.append(batch)
                consumer.seek(place, batch.last_offset + 1)
            if not self._finds(place):
                consumer.resume(place)
        return batches

    def _read(
        self, consumer: AIOKafkaConsumer, polled: Mapping[TopicPartition, Sequence[ConsumerRecord]]
    ) -> list[Batch]:
        """What was read here, for the other groups, too."""
        batches = to_batches(polled)
        for batch in batches:
            end = consumer.highwater(TopicPartition(batch.topic, batch.partition))
            self._share.read(batch, end if end is not None else batch.last_offset + 1)
        return batches

    def _end(self, place: TopicPartition) -> int | None:
        """The last known end of a partition, by what was fetched here or by another group."""
        ends = [self._started().highwater(place), self._told_ends.get(place)]
        return max((end for end in ends if end is not None), default=None)

    def _started(self) -> AIOKafkaConsumer:
        if self._consumer is None:
            raise BusUnavailable("the subscription is not started")
        return self._consumer

    def _step_back(self, polled: Mapping[TopicPartition, Sequence[ConsumerRecord]]) -> None:
        """Records that came while the assignment changed are read again, from where the new owner positions."""
        consumer = self._started()
        for place, records in polled.items():
            if records and (place.topic, place.partition) in self.assignment:
                consumer.seek(place, records[0].offset)

    def _pace(self, heard: bool) -> None:
        """Short fetches while records come, long ones in a pause: idle groups cost the broker most otherwise."""
        now_s = time.monotonic()
        if heard:
            self._heard_s = self._probed_s = now_s
        idle = now_s - self._heard_s > IDLE_AFTER_S
        # Fixed in aiokafka's constructor, but read for every request.
        self._started()._fetcher._fetch_max_wait_ms = IDLE_FETCH_WAIT_MS if idle else GROUP_FETCH_WAIT_MS

    async def _probe(self) -> None:
        """Raise BusUnavailable when the broker has gone silent: aiokafka itself only logs it."""
        if time.monotonic() - self._probed_s > PROBE_AFTER_S:
            places = [TopicPartition(*place) for place in sorted(self.assignment)[:1]]
            if places:
                await bounded(self._started().end_offsets(places), "asking whether the broker is there", 5.0)
            self._probed_s = time.monotonic()
