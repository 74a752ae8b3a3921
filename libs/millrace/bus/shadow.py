"""A bus for replaying a range of the log beside the live room: it reads what is live and writes nothing that is.

Groups and topics written to get names of their own, consumers see the range alone, and what else the room consumes is
left out: the room's code runs as it is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from millrace.bus.events import Batch, Message, TopicPartition
from millrace.bus.ports import Bus, Reader, Subscription, TopicSpec
from millrace.runtime.errors import ConfigurationError

RETENTION_HOURS = 24
"""Of topics that a shadow writes: somebody looks at them once, right after."""
_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")


@dataclass(frozen=True, slots=True)
class Range:
    """Offsets `[start, end)` of one partition; `begin` is where the log began when the range was chosen."""

    begin: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class ShadowPlan:
    """What is replayed, and under which name. With `follows` a consumer goes on after the end, as the live one does;
    with `keeps` the shadow's keys and tables stay for somebody to look at."""

    name: str
    project: str
    ranges: Mapping[TopicPartition, Range]
    follows: bool = False
    keeps: bool = False

    @property
    def topics(self) -> frozenset[str]:
        """Topics of the ranges."""
        return frozenset(topic for topic, _ in self.ranges)

    @property
    def is_whole(self) -> bool:
        """Whether every range begins where its partition began at first: nothing went before it."""
        return all(span.start == span.begin == 0 for span in self.ranges.values())

    @property
    def records(self) -> int:
        """Offsets in the ranges."""
        return sum(max(0, span.end - span.start) for span in self.ranges.values())

    def topic(self, name: str) -> str:
        """Where the shadow writes what the room writes to `name`."""
        return f"shadow.{self.name}.{name}"

    def group(self, name: str) -> str:
        """The shadow's consumer group."""
        return f"{name}.shadow.{self.name}"

    def to_json(self) -> str:
        """As `from_json` reads it."""
        ranges = [[*place, span.begin, span.start, span.end] for place, span in sorted(self.ranges.items())]
        known = {"name": self.name, "project": self.project, "follows": self.follows, "keeps": self.keeps}
        return json.dumps({**known, "ranges": ranges})

    @classmethod
    def from_json(cls, text: str) -> ShadowPlan:
        """Raises ConfigurationError."""
        try:
            content: dict[str, Any] = json.loads(text)
            ranges = {(str(t), int(p)): Range(int(b), int(s), int(e)) for t, p, b, s, e in content["ranges"]}
            plan = cls(
                checked_name(content["name"]),
                str(content["project"]),
                ranges,
                follows=bool(content["follows"]),
                keeps=bool(content.get("keeps", False)),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigurationError(f"this is no plan of a shadow: {type(error).__name__}: {error}") from error
        return plan


def checked_name(name: str) -> str:
    """A name that topics, keys and databases can bear. Raises ConfigurationError."""
    if not _NAME.fullmatch(name):
        raise ConfigurationError(f"{name!r} is no name for a shadow: a small letter, then up to 31 of a-z, 0-9, _")
    return name


class ShadowBus:
    """A Bus over another one, as the plan says."""

    def __init__(self, bus: Bus, plan: ShadowPlan) -> None:
        self._bus = bus
        self._plan = plan
        self._made: set[str] = set()

    async def start(self) -> None:
        """As `Bus.start`."""
        await self._bus.start()

    async def stop(self) -> None:
        """As `Bus.stop`."""
        await self._bus.stop()

    async def publish(self, messages: Sequence[Message]) -> None:
        """To topics of the shadow's own; they are made when first written to."""
        renamed = [replace(message, topic=self._plan.topic(message.topic), partition=None) for message in messages]
        missing = {message.topic for message in renamed} - self._made
        if missing:
            await self._bus.ensure_topics([TopicSpec(name, 1, RETENTION_HOURS) for name in sorted(missing)])
            self._made |= missing
        await self._bus.publish(renamed)

    async def ensure_topics(self, topics: Sequence[TopicSpec]) -> None:
        """Nothing: what the live room reads is there, and what it writes is not written."""

    async def retain(self, topics: Sequence[TopicSpec]) -> list[str]:
        """Nothing: how long the live topics keep their records is none of a shadow's business."""
        return []

    async def partitions(self, topic: str) -> list[int]:
        """As `Bus.partitions`."""
        return await self._bus.partitions(topic)

    def subscription(self, group: str, gather_ms: int = 0) -> Subscription:
        """A member of the shadow's own group, which sees the ranges alone."""
        return _RangedSubscription(self._bus.subscription(self._plan.group(group), gather_ms), self._plan)

    def reader(self, topics: Sequence[str]) -> Reader:
        """As `Bus.reader`: definitions and clocks are the live ones."""
        return self._bus.reader(topics)


class _RangedSubscription:
    """Begins at the start of each range and ends at its end."""

    def __init__(self, inner: Subscription, plan: ShadowPlan) -> None:
        self._inner = inner
        self._plan = plan

    @property
    def assignment(self) -> frozenset[TopicPartition]:
        return self._inner.assignment

    @property
    def settled(self) -> bool:
        return self._inner.settled

    def take_fresh(self) -> list[TopicPartition]:
        return self._inner.take_fresh()

    async def start(self, topics: Iterable[str]) -> None:
        await self._inner.start(self._plan.topics & frozenset(topics))

    async def set_topics(self, topics: Iterable[str]) -> None:
        await self._inner.set_topics(self._plan.topics & frozenset(topics))

    async def poll(self, max_records: int, max_wait_ms: int) -> list[Batch]:
        batches = [self._inside(batch) for batch in await self._inner.poll(max_records, max_wait_ms)]
        return [batch for batch in batches if batch.records]

    async def seek(self, partition: TopicPartition, offset: int) -> None:
        await self._inner.seek(partition, max(offset, self._start(partition)))

    def hold(self, partition: TopicPartition) -> None:
        self._inner.hold(partition)

    def release(self, partition: TopicPartition) -> None:
        self._inner.release(partition)

    async def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        await self._inner.commit(offsets)

    def end_offsets(self) -> Mapping[TopicPartition, int]:
        return {place: min(end, self._end(place, end)) for place, end in self._inner.end_offsets().items()}

    async def learn_ends(self) -> None:
        await self._inner.learn_ends()

    def hurry(self) -> None:
        self._inner.hurry()

    async def position(self, partition: TopicPartition) -> int:
        """Never before the start of the range."""
        at, start = await self._inner.position(partition), self._start(partition)
        if at >= start:
            return at
        await self._inner.seek(partition, start)
        return start

    async def stop(self) -> None:
        await self._inner.stop()

    def _start(self, place: TopicPartition) -> int:
        span = self._plan.ranges.get(place)
        return span.start if span else 0

    def _end(self, place: TopicPartition, otherwise: int) -> int:
        span = self._plan.ranges.get(place)
        if span is None:
            return 0  # a partition that was added since: not in the range
        return otherwise if self._plan.follows else span.end

    def _inside(self, batch: Batch) -> Batch:
        """The batch up to the end; behind it the partition is not read any more."""
        place = (batch.topic, batch.partition)
        end = self._end(place, batch.last_offset + 1)
        inside = sum(record.offset < end for record in batch.records)
        if batch.last_offset + 1 >= end and not self._plan.follows:
            self._inner.hold(place)
        return batch if inside == len(batch.records) else batch.cut(0, inside)
