"""The bus's twin: topics, partitions, groups and offsets in memory, with the promises of the real one and no more.

What is not committed comes again; a rebalance takes partitions away; keys keep their partition (murmur2, as in Kafka).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field

from aiokafka.partitioner import murmur2

from millrace.bus.errors import BusUnavailable, MessageTooLarge, OffsetsLost, UnknownTopic
from millrace.bus.events import MAX_MESSAGE_BYTES, Batch, Message, Record, TopicPartition
from millrace.bus.ports import TopicSpec


@dataclass(slots=True)
class _Log:
    """One partition: records in the order of their offsets, possibly with gaps after a compaction."""

    records: list[Record] = field(default_factory=list)
    end: int = 0

    def read(self, offset: int, limit: int) -> tuple[Record, ...]:
        if self.end == len(self.records):
            return tuple(self.records[offset : offset + limit])
        return tuple([record for record in self.records if record.offset >= offset][:limit])


@dataclass(slots=True)
class _Group:
    """Members in the order they joined, and what the group has committed."""

    members: list[MemorySubscription] = field(default_factory=list)
    committed: dict[TopicPartition, int] = field(default_factory=dict)


class MemoryBroker:
    """What the buses of one test share. `available = False` makes every verb fail as if the broker were gone."""

    def __init__(self, default_partitions: int = 2) -> None:
        self.default_partitions = default_partitions
        self.available = True
        self.logs: dict[str, list[_Log]] = {}
        self.groups: dict[str, _Group] = {}
        self._arrival = asyncio.Event()
        self._round_robin = 0

    def check(self) -> None:
        """Raise BusUnavailable while the broker is away."""
        if not self.available:
            raise BusUnavailable("the broker is gone (memory)")

    def create(self, spec: TopicSpec) -> None:
        """Create one topic unless it exists, and give its partitions to the groups that wait for it."""
        if spec.name not in self.logs:
            self.logs[spec.name] = [_Log() for _ in range(spec.partitions)]
            for group in self.groups.values():
                self.rebalance(group)

    def append(self, message: Message) -> None:
        """Append one message."""
        if message.topic not in self.logs:
            self.create(TopicSpec(message.topic, self.default_partitions))
        logs = self.logs[message.topic]
        partition = self._partition_of(message, len(logs))
        log = logs[partition]
        headers = tuple(message.event.to_headers())
        now_ms = time.time_ns() // 1_000_000
        log.records.append(Record(message.topic, partition, log.end, message.key, headers, message.event.data, now_ms))
        log.end += 1

    def announce(self) -> None:
        """Wake everybody who waits for records."""
        self._arrival.set()
        self._arrival = asyncio.Event()

    async def wait(self, seconds: float) -> None:
        """Until something changed, at most `seconds`."""
        try:
            async with asyncio.timeout(seconds):  # not wait_for: in Python 3.11 it can swallow a cancellation
                await self._arrival.wait()
        except TimeoutError:
            return

    def compact(self, topic: str) -> None:
        """Keep the last record of each key, as Kafka may do at any time; offsets stay."""
        for log in self.logs[topic]:
            last = {record.key: record.offset for record in log.records}
            log.records = [record for record in log.records if last[record.key] == record.offset]

    def rebalance(self, group: _Group) -> None:
        """Deal the partitions of each topic out to the members that want it."""
        shares: dict[int, set[TopicPartition]] = {id(member): set() for member in group.members}
        for topic, logs in sorted(self.logs.items()):
            takers = [member for member in group.members if topic in member.topics]
            for partition in range(len(logs)) if takers else ():
                shares[id(takers[partition % len(takers)])].add((topic, partition))
        for member in group.members:
            member.assign(frozenset(shares[id(member)]))
        self.announce()

    def _partition_of(self, message: Message, count: int) -> int:
        if message.partition is not None:
            return message.partition
        if message.key is None:
            self._round_robin += 1
            return self._round_robin % count
        return (murmur2(message.key) & 0x7FFFFFFF) % count


def _take(
    logs: Mapping[str, list[_Log]],
    positions: dict[TopicPartition, int],
    limit: int,
    held: Set[TopicPartition] = frozenset(),
) -> list[Batch]:
    """What lies at `positions`, moving them on; `limit` counts records over all partitions."""
    batches = []
    for (topic, partition), offset in sorted(positions.items()):
        records = logs[topic][partition].read(offset, limit) if limit and (topic, partition) not in held else ()
        if records:
            positions[topic, partition] = records[-1].offset + 1
            limit -= len(records)
            batches.append(Batch(topic, partition, records))
    return batches


class MemorySubscription:
    """Membership in a group of a MemoryBroker."""

    def __init__(self, broker: MemoryBroker, group: str) -> None:
        self._broker = broker
        self._group = broker.groups.setdefault(group, _Group())
        self._positions: dict[TopicPartition, int] = {}
        self._fresh: set[TopicPartition] = set()
        self._held: set[TopicPartition] = set()
        self.topics: frozenset[str] = frozenset()

    @property
    def assignment(self) -> frozenset[TopicPartition]:
        """Partitions that are ours now."""
        return frozenset(self._positions)

    @property
    def settled(self) -> bool:
        """As `Subscription.settled`; assignments are immediate here."""
        return not self._fresh and all(topic in self._broker.logs for topic in self.topics)

    def assign(self, partitions: frozenset[TopicPartition]) -> None:
        """Called by the broker: as in Kafka's eager protocol every partition starts again from what was committed."""
        if partitions == self.assignment:
            return
        self._positions = {partition: self._group.committed.get(partition, 0) for partition in partitions}
        self._fresh, self._held = set(partitions), set()

    def take_fresh(self) -> list[TopicPartition]:
        """Partitions assigned since the last call."""
        fresh, self._fresh = sorted(self._fresh), set()
        return fresh

    async def start(self, topics: Iterable[str]) -> None:
        """Join the group."""
        self._broker.check()
        self._group.members.append(self)
        await self.set_topics(topics)

    async def set_topics(self, topics: Iterable[str]) -> None:
        """Replace the topics subscribed to."""
        self.topics = frozenset(topics)
        self._broker.rebalance(self._group)

    async def poll(self, max_records: int, max_wait_ms: int) -> list[Batch]:
        """As `Subscription.poll`."""
        self._broker.check()
        deadline_s = time.monotonic() + max_wait_ms / 1000
        while not self._fresh:
            batches = _take(self._broker.logs, self._positions, max_records, self._held)
            left_s = deadline_s - time.monotonic()
            if batches or left_s <= 0:
                return batches
            await self._broker.wait(left_s)
            self._broker.check()
        return []

    async def seek(self, partition: TopicPartition, offset: int) -> None:
        """Read on from `offset`."""
        if partition in self._positions:
            self._positions[partition] = offset

    def hold(self, partition: TopicPartition) -> None:
        """Leave it out."""
        if partition in self._positions:
            self._held.add(partition)

    def release(self, partition: TopicPartition) -> None:
        """Take it in again."""
        self._held.discard(partition)

    async def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Store the next offsets to read."""
        self._broker.check()
        if self not in self._group.members or not offsets.keys() <= self._positions.keys() or self._fresh:
            raise OffsetsLost(f"{sorted(offsets)} moved to another member")
        self._group.committed.update(offsets)

    def end_offsets(self) -> Mapping[TopicPartition, int]:
        """The end of each assigned partition."""
        return {(topic, partition): self._broker.logs[topic][partition].end for topic, partition in self._positions}

    async def learn_ends(self) -> None:
        """The ends are always known here."""
        self._broker.check()

    def hurry(self) -> None:
        """Nothing is gathered here."""

    async def position(self, partition: TopicPartition) -> int:
        """The next offset that poll would return."""
        if partition not in self._positions:
            raise OffsetsLost(f"{partition} moved to another member")
        return self._positions[partition]

    async def stop(self) -> None:
        """Leave the group."""
        if self in self._group.members:
            self._group.members.remove(self)
            self._positions = {}
            self._broker.rebalance(self._group)


class MemoryReader:
    """Whole topics of a MemoryBroker."""

    def __init__(self, broker: MemoryBroker, topics: Sequence[str]) -> None:
        self._broker = broker
        self._topics = tuple(topics)
        self._positions: dict[TopicPartition, int] = {}

    async def start(self) -> None:
        """As `Reader.start`."""
        self._broker.check()
        for topic in self._topics:
            if topic not in self._broker.logs:
                raise UnknownTopic(f"topic {topic} does not exist")
            self._positions.update(dict.fromkeys([(topic, p) for p in range(len(self._broker.logs[topic]))], 0))

    async def poll(self, max_records: int, max_wait_ms: int) -> list[Batch]:
        """As `Reader.poll`."""
        self._broker.check()
        batches = _take(self._broker.logs, self._positions, max_records)
        if not batches:
            await self._broker.wait(max_wait_ms / 1000)
            batches = _take(self._broker.logs, self._positions, max_records)
        return batches

    async def go_to_tail(self, records: int) -> None:
        """As `Reader.go_to_tail`."""
        self._broker.check()
        for topic, partition in self._positions:
            end = self._broker.logs[topic][partition].end
            self._positions[topic, partition] = max(0, end - records)

    async def behind(self) -> int:
        """As `Reader.behind`."""
        self._broker.check()
        logs = self._broker.logs
        return sum(logs[topic][partition].end - offset for (topic, partition), offset in self._positions.items())

    async def behind_known(self) -> int | None:
        """Nothing is known without asking."""
        return None

    def hurry(self) -> None:
        """Nothing is gathered here."""

    async def stop(self) -> None:
        """Nothing to close."""


class MemoryBus:
    """A client of a MemoryBroker."""

    def __init__(self, broker: MemoryBroker | None = None) -> None:
        self.broker = broker or MemoryBroker()

    async def start(self) -> None:
        """Nothing to open."""

    async def stop(self) -> None:
        """Nothing to close."""

    async def publish(self, messages: Sequence[Message]) -> None:
        """Append."""
        self.broker.check()
        for message in messages:
            size = len(message.event.data) + len(message.key or b"")
            if size > MAX_MESSAGE_BYTES:
                raise MessageTooLarge(f"publishing: {size} bytes in one message, at most {MAX_MESSAGE_BYTES}")
            self.broker.append(message)
        self.broker.announce()

    async def ensure_topics(self, topics: Sequence[TopicSpec]) -> None:
        """Create what is missing."""
        self.broker.check()
        for spec in topics:
            self.broker.create(spec)

    async def retain(self, topics: Sequence[TopicSpec]) -> list[str]:
        """As `Bus.retain`: nothing is ever dropped here, so nothing has to change."""
        return []

    async def partitions(self, topic: str) -> list[int]:
        """Partition numbers."""
        self.broker.check()
        if topic not in self.broker.logs:
            raise UnknownTopic(f"topic {topic} does not exist")
        return list(range(len(self.broker.logs[topic])))

    def subscription(self, group: str, gather_ms: int = 0) -> MemorySubscription:
        """A membership, not yet started; here nothing is gained by gathering."""
        return MemorySubscription(self.broker, group)

    def reader(self, topics: Sequence[str]) -> MemoryReader:
        """A reader, not yet started."""
        return MemoryReader(self.broker, topics)

    def records(self, topic: str) -> list[Record]:
        """Everything in `topic` by partition and offset, for a test to look at."""
        return [record for log in self.broker.logs.get(topic, []) for record in log.records]
