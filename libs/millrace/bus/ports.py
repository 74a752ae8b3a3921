"""What rooms need of a bus. `KafkaBus` is the real one, `MemoryBus` its twin; one suite runs over both."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from millrace.bus.events import Batch, Message, TopicPartition


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """One topic as it shall be. `retention_hours` None: kept for ever. With `broker_time` records carry the time at
    which they came, whatever their producer says: retention and age are counted from there."""

    name: str
    partitions: int = 1
    retention_hours: int | None = 168
    compact: bool = False
    broker_time: bool = False


class Subscription(Protocol):
    """Membership in a group: the consumer primitive under `Worker`. Not safe for concurrent use."""

    @property
    def assignment(self) -> frozenset[TopicPartition]:
        """Partitions that are ours now."""
        ...

    @property
    def settled(self) -> bool:
        """Whether the assignment answers the topics last asked for, and nothing fresh waits to be taken."""
        ...

    def take_fresh(self) -> list[TopicPartition]:
        """Partitions assigned since the last call; their start may be set with `seek` before the next poll."""
        ...

    async def start(self, topics: Iterable[str]) -> None:
        """Join the group. Raises BusUnavailable; `stop` it also then."""
        ...

    async def set_topics(self, topics: Iterable[str]) -> None:
        """Replace the topics subscribed to."""
        ...

    async def poll(self, max_records: int, max_wait_ms: int) -> list[Batch]:
        """What has arrived, at most `max_records`, one batch per partition; empty after `max_wait_ms` or when the
        assignment changed. Raises BusUnavailable."""
        ...

    async def seek(self, partition: TopicPartition, offset: int) -> None:
        """Read on from `offset`; of no effect when the partition is no longer ours."""
        ...

    def hold(self, partition: TopicPartition) -> None:
        """Let polls leave the partition out until `release`, or until it is assigned anew."""
        ...

    def release(self, partition: TopicPartition) -> None:
        """Let polls give records of the partition again."""
        ...

    async def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Store the next offsets to read. Raises OffsetsLost, BusUnavailable."""
        ...

    def end_offsets(self) -> Mapping[TopicPartition, int]:
        """The last known end of each assigned partition; a partition not heard of yet is missing."""
        ...

    async def learn_ends(self) -> None:
        """Ask the broker where the assigned partitions end now; `end_offsets` then knows. Raises BusUnavailable."""
        ...

    def hurry(self) -> None:
        """Let what waits come at once, though it is being gathered."""
        ...

    async def position(self, partition: TopicPartition) -> int:
        """The next offset that poll would return. Raises BusUnavailable."""
        ...

    async def stop(self) -> None:
        """Leave the group, committing nothing."""
        ...


class Reader(Protocol):
    """Whole topics from the start, without a group."""

    async def start(self) -> None:
        """Find the partitions and go to their start. Raises BusUnavailable, UnknownTopic; `stop` it also then."""
        ...

    async def poll(self, max_records: int, max_wait_ms: int) -> list[Batch]:
        """What has arrived, one batch per partition; empty after `max_wait_ms`. Raises BusUnavailable."""
        ...

    async def go_to_tail(self, records: int) -> None:
        """Leave out all but the last `records` offsets of each partition. Raises BusUnavailable."""
        ...

    async def behind(self) -> int:
        """Offsets between the position and the end, as the broker says now. Raises BusUnavailable."""
        ...

    async def behind_known(self) -> int | None:
        """As `behind`, by what the broker said last; None where that is not known, or too old to be relied on."""
        ...

    def hurry(self) -> None:
        """Let what waits come at once, though it is being gathered."""
        ...

    async def stop(self) -> None:
        """Close."""
        ...


class Bus(Protocol):
    """Topics of records with keys, partitions and groups."""

    async def start(self) -> None:
        """Make ready. A broker that is away is no failure here: each verb says so when it is used."""
        ...

    async def stop(self) -> None:
        """Close what this bus opened itself; subscriptions and readers are their owners' to stop."""
        ...

    async def publish(self, messages: Sequence[Message]) -> None:
        """Append; returns when all are acknowledged by all in-sync replicas. Raises BusUnavailable or MessageTooLarge,
        after which any of the messages may or may not have been appended."""
        ...

    async def ensure_topics(self, topics: Sequence[TopicSpec]) -> None:
        """Create what is missing and wait until it is usable. Existing topics are left as they are."""
        ...

    async def retain(self, topics: Sequence[TopicSpec]) -> list[str]:
        """Give existing topics that are not compacted the retention that they shall have; names of those changed.
        Raises BusUnavailable."""
        ...

    async def partitions(self, topic: str) -> list[int]:
        """Partition numbers, ascending. Raises UnknownTopic, BusUnavailable."""
        ...

    def subscription(self, group: str, gather_ms: int = 0) -> Subscription:
        """A membership, not yet started. Records may be held back for `gather_ms` so that larger batches come."""
        ...

    def reader(self, topics: Sequence[str]) -> Reader:
        """A reader, not yet started."""
        ...
