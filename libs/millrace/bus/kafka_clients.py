"""Consumers over aiokafka: the group member and the reader of whole topics.

Offsets are committed by hand, after the effects; reading starts at the earliest record for a group without offsets.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeVar

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import (
    CommitFailedError,
    IllegalGenerationError,
    IllegalStateError,
    KafkaError,
    MessageSizeTooLargeError,
    RebalanceInProgressError,
    RecordListTooLargeError,
    UnknownMemberIdError,
)

from millrace.bus.errors import BusUnavailable, MessageTooLarge, OffsetsLost
from millrace.bus.events import Batch, Record
from millrace.bus.events import TopicPartition as Place
from millrace.bus.gathering import Gatherer

log = logging.getLogger(__name__)

T = TypeVar("T")
Partitions = Callable[[Sequence[str]], Awaitable[dict[str, list[int]]]]

CALL_TIMEOUT_S = 15.0  # no broker call may hang longer; the caller retries with backoff
CLOSE_TIMEOUT_S = 5.0
GROUP_FETCH_WAIT_MS = 15  # a partition drained late waits at most this for the running fetch of its neighbours
IDLE_FETCH_WAIT_MS = 250  # in a pause nobody waits for a neighbour, and the first record ends a fetch anyway
IDLE_AFTER_S = 0.5
READER_FETCH_WAIT_MS = 500  # followers have few, small topics: fewer requests matter more
READER_GATHER_MS = 100  # a record that follows soon after another may come this much later, with its neighbours
HEARTBEAT_MS = 1_000  # how fast a member learns that the others changed
PROBE_AFTER_S = 5.0  # silence after which the broker is asked whether it is still there
SESSION_TIMEOUT_MS = 30_000  # heartbeats share the event loop with handlers: a busy loop must not cost the group
POLL_INTERVAL_MS = 3_600_000  # a handler may retry for an hour while a store is down and stay a member
FETCH_BYTES = 4 * 1024 * 1024


@contextmanager
def broker_errors(what: str) -> Iterator[None]:
    """Turn aiokafka's failures into BusUnavailable, or MessageTooLarge where a repeat cannot help."""
    try:
        yield
    except (MessageSizeTooLargeError, RecordListTooLargeError) as error:
        raise MessageTooLarge(f"{what}: {error}") from error
    except (KafkaError, ConnectionError, TimeoutError) as error:
        raise BusUnavailable(f"{what}: {type(error).__name__}: {error}") from error
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        # aiokafka cancelled a task of its own and let us have it: nobody asked us to stop.
        raise BusUnavailable(f"{what}: given up by the client") from error


async def bounded(call: Awaitable[T], what: str, timeout_s: float = CALL_TIMEOUT_S) -> T:
    """`call` with a deadline and our errors."""
    with broker_errors(what):
        async with asyncio.timeout(timeout_s):
            return await call


@asynccontextmanager
async def admin_of(client: Mapping[str, Any]) -> AsyncIterator[AIOKafkaAdminClient]:
    """An administrator's connection for a block; `client` are a Kafka client's settings. Raises BusUnavailable."""
    admin = AIOKafkaAdminClient(**client)
    try:
        await bounded(admin.start(), "connecting")
        yield admin
    finally:
        await asyncio.shield(admin.close())


async def close_client(stop: Awaitable[None], client: AIOKafkaClient, what: str) -> None:
    """Stop a consumer or producer, and close its connections even where stopping fails or hangs."""
    stopping = asyncio.ensure_future(stop)
    done, _ = await asyncio.wait([stopping], timeout=CLOSE_TIMEOUT_S)
    if not done:
        stopping.cancel()  # not awaited: it may refuse, and there is nothing left to wait for
        log.warning("%s: not done after %.0f s; its connections are closed", what, CLOSE_TIMEOUT_S)
    elif stopping.cancelled() or stopping.exception() is not None:
        log.warning("%s: %r", what, None if stopping.cancelled() else stopping.exception())
    else:
        return
    await client.close()


def to_batches(polled: Mapping[TopicPartition, Sequence[ConsumerRecord]]) -> list[Batch]:
    """Our batches of what aiokafka's getmany answered; None values become empty bytes."""
    return [
        Batch(place.topic, place.partition, tuple(map(_to_record, records)))
        for place, records in polled.items()
        if records
    ]


def _to_record(record: ConsumerRecord) -> Record:
    headers = record.headers
    if None in [value for _, value in headers]:
        headers = tuple((name, value or b"") for name, value in headers)
    return Record(
        record.topic,
        record.partition,
        record.offset,
        record.key,
        headers,
        record.value or b"",
        record.timestamp,
    )


class Ends:
    """Asks where partitions end, over a connection of its own: a broker answers the requests of one connection in turn,
    and a consumer's connection is taken by its fetch for as long as nothing comes."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._settings = settings
        self._consumer: AIOKafkaConsumer | None = None
        self._connecting = asyncio.Lock()

    async def of(self, places: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        """The offset after the last record of each. Raises BusUnavailable."""
        consumer = await self._connected()
        try:
            return await bounded(consumer.end_offsets(list(places)), "asking for the ends") if places else {}
        except BusUnavailable:
            if self._consumer is consumer:
                await self.stop()
            raise

    async def stop(self) -> None:
        """Close; the next question connects again."""
        async with self._connecting:  # nobody may come to a connection that was opened behind our back
            consumer, self._consumer = self._consumer, None
            if consumer is not None:
                await close_client(consumer.stop(), consumer._client, "closing who asks for ends")

    async def _connected(self) -> AIOKafkaConsumer:
        async with self._connecting:
            if self._consumer is None:
                consumer = AIOKafkaConsumer(enable_auto_commit=False, **self._settings)
                try:
                    await bounded(consumer.start(), "connecting")
                except BaseException:
                    await close_client(consumer.stop(), consumer._client, "closing who asks for ends")
                    raise
                self._consumer = consumer
            return self._consumer


class _Assignments(ConsumerRebalanceListener):
    """Remembers what the group gave us; the worker positions fresh partitions in its own task, where errors show."""

    def __init__(self) -> None:
        self.fresh: set[Place] = set()
        self.held: set[Place] = set()
        self.generation = 0
        self.joined = False

    def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        self.generation += 1
        self.joined = False
        self.fresh, self.held = set(), set()

    def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        self.generation += 1
        self.joined = True
        self.fresh = {(place.topic, place.partition) for place in assigned}


class KafkaSubscription:
    """Membership in a Kafka consumer group."""

    def __init__(
        self,
        group: str,
        settings: Mapping[str, Any],
        ends: Ends,
        gather_ms: int = 0,
        session_timeout_ms: int = SESSION_TIMEOUT_MS,
    ) -> None:
        self._session_timeout_ms = session_timeout_ms
        self._group = group
        self._ends = ends
        self._gatherer = Gatherer(gather_ms)
        self._settings = settings
        self._consumer: AIOKafkaConsumer | None = None
        self._assignments = _Assignments()
        self._topics: frozenset[str] = frozenset()
        self._known_ends: dict[Place, int] = {}
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
        with broker_errors("polling"):
            await self._gatherer.end(consumer)
            polled = await self._ask(consumer, max_records, max_wait_ms)
        if generation != self._assignments.generation:
            self._step_back(polled)
            return []
        self._gatherer.begin(consumer, polled, max_records, self._held())
        self._pace(heard=bool(polled))
        await self._probe()
        return to_batches(polled)

    async def seek(self, partition: Place, offset: int) -> None:
        """Read on from `offset`; nothing happens when the partition is no longer ours."""
        if partition in self.assignment:
            self._started().seek(TopicPartition(*partition), offset)

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
        consumer = self._started()
        for place in self.assignment:
            end = consumer.highwater(TopicPartition(*place))
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
            return await bounded(consumer.position(place), "asking for the position")
        except BusUnavailable as error:
            if isinstance(error.__cause__, IllegalStateError):
                raise OffsetsLost(f"{partition} moved to another member") from error
            raise

    async def stop(self) -> None:
        """Leave the group, committing nothing."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            await close_client(consumer.stop(), consumer._client, "leaving the group")

    def _held(self) -> frozenset[TopicPartition]:
        return frozenset(TopicPartition(*place) for place in self._assignments.held)

    async def _ask(
        self, consumer: AIOKafkaConsumer, max_records: int, max_wait_ms: int
    ) -> Mapping[TopicPartition, Sequence[ConsumerRecord]]:
        """Records of the partitions that are not held; aiokafka takes no partitions for all of them."""
        wanted = list(consumer.assignment() - self._held()) if self._assignments.held else []
        if self._assignments.held and not wanted:
            await asyncio.sleep(max_wait_ms / 1000)
            return {}
        polled: Mapping[TopicPartition, Sequence[ConsumerRecord]] = await consumer.getmany(
            *wanted, timeout_ms=max_wait_ms, max_records=max_records
        )
        return polled

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


class KafkaReader:
    """Whole topics of a Kafka cluster from their start, without a group."""

    def __init__(self, topics: Sequence[str], partitions: Partitions, settings: Mapping[str, Any], ends: Ends) -> None:
        self._topics = tuple(topics)
        self._partitions = partitions
        self._settings = settings
        self._ends = ends
        self._gatherer = Gatherer(READER_GATHER_MS)
        self._consumer: AIOKafkaConsumer | None = None
        self._places: list[TopicPartition] = []
        self._heard_s = 0.0

    async def start(self) -> None:
        """Find the partitions and go to their start. Raises BusUnavailable, UnknownTopic."""
        known = await self._partitions(self._topics)
        consumer = AIOKafkaConsumer(
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            fetch_max_wait_ms=READER_FETCH_WAIT_MS,
            max_partition_fetch_bytes=FETCH_BYTES,
            **self._settings,
        )
        self._consumer = consumer
        await bounded(consumer.start(), "starting a reader")
        self._places = [TopicPartition(topic, number) for topic in self._topics for number in known[topic]]
        consumer.assign(self._places)
        await bounded(consumer.seek_to_beginning(*self._places), "going to the start")

    async def poll(self, max_records: int, max_wait_ms: int) -> list[Batch]:
        """As `Reader.poll`."""
        consumer = self._started()
        with broker_errors("reading"):
            await self._gatherer.end(consumer)
            polled = await consumer.getmany(timeout_ms=max_wait_ms, max_records=max_records)
        if polled:
            self._heard_s = time.monotonic()
        self._gatherer.begin(consumer, polled, max_records)
        return to_batches(polled)

    async def go_to_tail(self, records: int) -> None:
        """As `Reader.go_to_tail`."""
        consumer = self._started()
        begins = await bounded(consumer.beginning_offsets(self._places), "asking for the beginnings")
        ends = await self._ends.of(self._places)
        for place in self._places:
            consumer.seek(place, max(begins[place], ends[place] - records))

    async def behind(self) -> int:
        """As `Reader.behind`."""
        ends = await self._ends.of(self._places)
        self._heard_s = time.monotonic()
        return await self._before(ends)

    async def behind_known(self) -> int | None:
        """As `Reader.behind_known`: the ends are those of the last fetch, for as long as the broker is heard of."""
        ends = {place: self._started().highwater(place) for place in self._places}
        known = {place: end for place, end in ends.items() if end is not None}
        if len(known) < len(ends) or time.monotonic() - self._heard_s > PROBE_AFTER_S:
            return None
        return await self._before(known)

    def hurry(self) -> None:
        """As `Reader.hurry`."""
        self._gatherer.hurry()

    async def _before(self, ends: Mapping[TopicPartition, int]) -> int:
        consumer = self._started()
        positions = [await bounded(consumer.position(place), "asking for a position") for place in self._places]
        return sum(max(0, ends[place] - at) for place, at in zip(self._places, positions, strict=True))

    async def stop(self) -> None:
        """Close."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            await close_client(consumer.stop(), consumer._client, "closing a reader")

    def _started(self) -> AIOKafkaConsumer:
        if self._consumer is None:
            raise BusUnavailable("the reader is not started")
        return self._consumer
