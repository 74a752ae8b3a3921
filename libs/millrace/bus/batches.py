"""Messages packed into a producer's batches, so that one acknowledgement is awaited per batch and not per message.

A batch that comes packed does not linger: who publishes many at once has gathered them already.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import MessageSizeTooLargeError
from aiokafka.partitioner import murmur2
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.record.default_records import DefaultRecordBatchBuilder

from millrace.bus.events import MAX_MESSAGE_BYTES, Message, TopicPartition

SURELY_SMALL_BYTES = MAX_MESSAGE_BYTES // 8  # of the payload: what is this small is not measured to the byte

Packed = dict[TopicPartition, list[BatchBuilder]]


async def send_packed(producer: AIOKafkaProducer, messages: Sequence[Message]) -> list[asyncio.Future[Any]]:
    """Hands all messages over, in their order per partition; one future per batch. Raises KafkaError: nothing was
    handed over where a message is too large, else any of them may have been."""
    partitions = {topic: sorted(await producer.partitions_for(topic)) for topic in {m.topic for m in messages}}
    packed = _pack(producer, messages, partitions)
    waiting: list[asyncio.Future[Any]] = []
    for turn in range(max(map(len, packed.values()))):
        # Turn by turn, because one request carries a batch of each partition, and takes in what waits.
        for (topic, partition), batches in packed.items():
            if turn < len(batches):
                sent = await producer.send_batch(batches[turn], topic, partition=partition)
                sent.add_done_callback(_heard)
                waiting.append(sent)
    return waiting


def partition_of(message: Message, partitions: Sequence[int]) -> int:
    """As said, else by the key (murmur2, as Kafka's own clients do), else any."""
    if message.partition is not None:
        return message.partition
    if message.key is None:
        return random.choice(partitions)
    place: int = (murmur2(message.key) & 0x7FFFFFFF) % len(partitions)
    return partitions[place]


def _pack(producer: AIOKafkaProducer, messages: Sequence[Message], partitions: dict[str, list[int]]) -> Packed:
    packed: Packed = {}
    for message in messages:
        headers = message.event.to_headers()
        _require_size(message, headers)
        batches = packed.setdefault((message.topic, partition_of(message, partitions[message.topic])), [])
        if not batches or not _fits(batches[-1], message, headers):
            batches.append(producer.create_batch())
            _fits(batches[-1], message, headers)  # an empty batch takes any message
    for batches in packed.values():
        for batch in batches:
            batch.close()
    return packed


def _fits(batch: BatchBuilder, message: Message, headers: list[tuple[str, bytes]]) -> bool:
    return batch.append(timestamp=None, key=message.key, value=message.event.data, headers=headers) is not None


def _require_size(message: Message, headers: list[tuple[str, bytes]]) -> None:
    data = message.event.data
    if len(data) <= SURELY_SMALL_BYTES and len(message.key or b"") <= SURELY_SMALL_BYTES and _are_small(headers):
        return
    size = DefaultRecordBatchBuilder.estimate_size_in_bytes(message.key, data, headers)
    if size > MAX_MESSAGE_BYTES:
        raise MessageSizeTooLargeError(f"a message of {size} bytes; at most {MAX_MESSAGE_BYTES} go into one")


def _are_small(headers: list[tuple[str, bytes]]) -> bool:
    return sum([len(value) for _, value in headers]) <= SURELY_SMALL_BYTES


def _heard(sent: asyncio.Future[Any]) -> None:
    """Take note of a failure that nobody awaits any more, so that asyncio does not complain about it."""
    if not sent.cancelled():
        sent.exception()
