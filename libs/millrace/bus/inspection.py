"""What a cluster says of its topics and consumer groups, for people and checks; rooms do not need it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import for_code

from millrace.bus.drift import FOREVER_MS, IN_SYNC, TopicState
from millrace.bus.errors import BusUnavailable
from millrace.bus.kafka_clients import admin_of, bounded
from millrace.bus.topics import TIME

OLDEST_DEADLINE_S = 5.0
_KEPT = ("cleanup.policy", "retention.ms", "segment.ms", TIME, IN_SYNC)


@dataclass(frozen=True, slots=True)
class GroupLag:
    """One partition that a group has committed in. `oldest_s`: age of the first record after the commit, by its
    timestamp; 0 where nothing waits, None where it could not be read in time."""

    group: str
    topic: str
    partition: int
    committed: int
    end: int
    oldest_s: float | None

    @property
    def lag_records(self) -> int:
        """Offsets from the commit to the end."""
        return max(0, self.end - self.committed)


class Inspection:
    """Questions to one cluster; `client` holds aiokafka's arguments. Raises BusUnavailable."""

    def __init__(self, client: Mapping[str, Any]) -> None:
        self._client = client

    async def topics(self) -> dict[str, TopicState]:
        """Every topic with what the table speaks of."""
        async with admin_of(self._client) as admin:
            described = await bounded(admin.describe_topics(), "describing topics")
            counts = {topic["topic"]: len(topic["partitions"]) for topic in described}
            replicas = {t["topic"]: min((len(p["replicas"]) for p in t["partitions"]), default=0) for t in described}
            resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in sorted(counts)]
            replies = await bounded(admin.describe_configs(resources), "asking how topics are kept") if counts else []
        kept: dict[str, dict[str, str]] = {}
        for reply in replies:
            for code, message, _, name, entries in reply.resources:
                if code:
                    raise BusUnavailable(f"asking how {name} is kept: {for_code(code).__name__} {message or ''}")
                kept[name] = {entry[0]: entry[1] for entry in entries if entry[0] in _KEPT}
        return {
            name: TopicState(
                name,
                count,
                int(kept[name].get("retention.ms", FOREVER_MS)),
                kept[name].get("cleanup.policy", ""),
                int(kept[name].get("segment.ms", 0)),
                kept[name].get(TIME, ""),
                replicas[name],
                int(kept[name].get(IN_SYNC, 1)),
            )
            for name, count in counts.items()
        }

    async def groups(self) -> list[str]:
        """Names of the consumer groups, sorted."""
        async with admin_of(self._client) as admin:
            found = await bounded(admin.list_consumer_groups(), "listing groups")
        return sorted(name for name, kind in found if kind in ("consumer", ""))

    async def lag(self, groups: Sequence[str]) -> list[GroupLag]:
        """Where each group has committed, how much is left and how old the first of it is."""
        committed: dict[tuple[str, TopicPartition], int] = {}
        async with admin_of(self._client) as admin:
            for group in groups:
                offsets = await bounded(admin.list_consumer_group_offsets(group), f"asking for the offsets of {group}")
                committed |= {(group, place): at.offset for place, at in offsets.items() if at.offset >= 0}
        if not committed:
            return []
        consumer = AIOKafkaConsumer(enable_auto_commit=False, auto_offset_reset="earliest", **self._client)
        try:
            await bounded(consumer.start(), "connecting")
            places = sorted({place for _, place in committed})
            ends = await bounded(consumer.end_offsets(places), "asking for the ends")
            behind = sorted({(place, at) for (_, place), at in committed.items() if at < ends[place]})
            oldest_ms = await _timestamps(consumer, behind)
        finally:
            await consumer.stop()
        now_ms = time.time_ns() // 1_000_000
        return [
            GroupLag(
                group,
                place.topic,
                place.partition,
                at,
                ends[place],
                _age_s(now_ms, at, ends[place], oldest_ms.get((place, at))),
            )
            for (group, place), at in sorted(committed.items())
        ]

    async def remove(self, topics: Sequence[str]) -> None:
        """Delete topics."""
        async with admin_of(self._client) as admin:
            await bounded(admin.delete_topics(list(topics)), "deleting topics")


async def _timestamps(
    consumer: AIOKafkaConsumer, wanted: Sequence[tuple[TopicPartition, int]]
) -> dict[tuple[TopicPartition, int], int]:
    """Of the first record at or after each offset, milliseconds. Several groups may stand in one partition, so one
    offset of each partition is read at a time; what does not come before the deadline is left out."""
    found: dict[tuple[TopicPartition, int], int] = {}
    waiting = list(wanted)
    deadline_s = time.monotonic() + OLDEST_DEADLINE_S
    while waiting and time.monotonic() < deadline_s:
        batch = dict(waiting)  # the last offset of each partition
        consumer.assign(list(batch))
        for place, offset in batch.items():
            consumer.seek(place, offset)
        missing = set(batch)
        while missing and time.monotonic() < deadline_s:
            polled = await bounded(consumer.getmany(*missing, timeout_ms=200, max_records=1), "reading what waits")
            for place, records in polled.items():
                found[place, batch[place]] = records[0].timestamp
                missing.discard(place)
        waiting = [entry for entry in waiting if entry not in batch.items()]
    return found


def _age_s(now_ms: int, committed: int, end: int, oldest_ms: int | None) -> float | None:
    if committed >= end:
        return 0.0
    return None if oldest_ms is None else max(0.0, (now_ms - oldest_ms) / 1000)
