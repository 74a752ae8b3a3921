"""Whole topics without a group, over aiokafka."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from millrace.bus.errors import BusUnavailable
from millrace.bus.events import Batch
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

Partitions = Callable[[Sequence[str]], Awaitable[dict[str, list[int]]]]

READER_FETCH_WAIT_MS = 500  # followers have few, small topics: fewer requests matter more
READER_GATHER_MS = 100  # a record that follows soon after another may come this much later, with its neighbours


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
        read = {place: records[-1].offset + 1 for place, records in polled.items() if records}
        self._gatherer.begin(consumer, read, consumer.highwater, full=sum(map(len, polled.values())) >= max_records)
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
