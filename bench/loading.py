"""Events put straight onto `data.<project>.<source>`, stamped as ingestion stamps them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import NamedTuple

from aiokafka import AIOKafkaProducer
from aiokafka.codec import has_lz4
from aiokafka.partitioner import DefaultPartitioner
from millrace.bus.events import JSON, Event
from millrace.bus.topics import data_topic

from bench.world import World
from services.ingestion.handlers import messages

BATCH_BYTES = 256 * 1024
MOST_WAITING = 32  # batches on the way to the broker
SAY_EVERY = 100_000


class Stamped(NamedTuple):
    """An accepted event: Kafka key, event id, the row as JSON, event time and visible time (microseconds)."""

    key: bytes
    id: str
    body: bytes
    event_us: int
    visible_us: int


async def append(
    world: World, project: str, source: str, kind: str, events: Iterable[Stamped], say: Callable[[str], None]
) -> int:
    """Appends them in order, each partition's in batches. Returns how many. They must come by visible time."""
    async with world.bus() as bus:
        partitions = await bus.partitions(data_topic(project, source))
    producer = AIOKafkaProducer(
        bootstrap_servers=world.kafka,
        enable_idempotence=True,
        acks="all",
        max_batch_size=BATCH_BYTES,
        compression_type="lz4" if has_lz4() else None,
    )
    await producer.start()
    try:
        return await _Appending(producer, data_topic(project, source), partitions, kind, say).run(events)
    finally:
        await producer.stop()


async def beat(world: World, project: str, sources: Iterable[str], visible_us: int) -> None:
    """A heartbeat on every partition of the sources: nothing before `visible_us` will come any more."""
    async with world.bus() as bus:
        for source in sources:
            partitions = await bus.partitions(data_topic(project, source))
            await bus.publish([messages.heartbeat(project, source, p, visible_us) for p in partitions])


class _Appending:
    """Fills one batch per partition and sends it when it is full."""

    def __init__(
        self, producer: AIOKafkaProducer, topic: str, partitions: list[int], kind: str, say: Callable[[str], None]
    ) -> None:
        self._producer, self._topic, self._partitions, self._kind, self._say = producer, topic, partitions, kind, say
        self._partition_of = DefaultPartitioner()
        self._batches = {partition: producer.create_batch() for partition in partitions}
        self._waiting: set[asyncio.Future[object]] = set()

    async def run(self, events: Iterable[Stamped]) -> int:
        count = 0
        for count, event in enumerate(events, 1):
            await self._add(event)
            if count % SAY_EVERY == 0:
                self._say(f"{count:,} events on {self._topic}")
        for partition in self._partitions:
            await self._send(partition)
        if self._waiting:
            await asyncio.gather(*self._waiting)
        return count

    async def _add(self, event: Stamped) -> None:
        partition = self._partition_of(event.key, self._partitions, self._partitions)
        headers = self._headers(event)
        while self._batches[partition].append(timestamp=None, key=event.key, value=event.body, headers=headers) is None:
            await self._send(partition)

    def _headers(self, event: Stamped) -> list[tuple[str, bytes]]:
        stamps = {"visible_us": str(event.visible_us), "event_us": str(event.event_us)}
        return Event(
            event.id, self._kind, messages.SOURCE, event.body, event.key.decode(), event.visible_us,
            content_type=JSON, extensions=stamps,
        ).to_headers()  # fmt: skip

    async def _send(self, partition: int) -> None:
        batch, self._batches[partition] = self._batches[partition], self._producer.create_batch()
        if not batch.record_count():
            return
        if len(self._waiting) >= MOST_WAITING:
            done, self._waiting = await asyncio.wait(self._waiting, return_when=asyncio.FIRST_COMPLETED)
            for sent in done:
                sent.result()
        batch.close()
        self._waiting.add(await self._producer.send_batch(batch, self._topic, partition=partition))
