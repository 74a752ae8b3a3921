"""Ranges of the log, chosen by offset or by visible time."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from millrace.bus.errors import BusUnavailable
from millrace.bus.kafka_clients import bounded
from millrace.bus.shadow import Range

READ_DEADLINE_S = 10.0
VISIBLE = "visible_us"


async def choose_ranges(
    client: Mapping[str, Any], partitions: Mapping[str, int], start: tuple[str, int], end: tuple[str, int]
) -> dict[tuple[str, int], Range]:
    """The range of each partition of the topics. A bound is ("all", 0), ("offset", n) or ("time", microseconds of
    visible time): the first record that is not before it. Raises BusUnavailable."""
    consumer = AIOKafkaConsumer(enable_auto_commit=False, auto_offset_reset="earliest", **client)
    try:
        await bounded(consumer.start(), "connecting")
        places = [TopicPartition(topic, n) for topic, count in sorted(partitions.items()) for n in range(count)]
        begins = await bounded(consumer.beginning_offsets(places), "asking for the beginnings")
        ends = await bounded(consumer.end_offsets(places), "asking for the ends")
        found = {}
        for place in places:
            span = (begins[place], ends[place])
            first = await _bound(consumer, place, span, start, span[0])
            last = await _bound(consumer, place, span, end, span[1])
            found[place.topic, place.partition] = Range(span[0], first, max(first, last))
        return found
    finally:
        await consumer.stop()


async def _bound(
    consumer: AIOKafkaConsumer, place: TopicPartition, span: tuple[int, int], bound: tuple[str, int], otherwise: int
) -> int:
    kind, value = bound
    if kind == "all":
        return otherwise
    if kind == "offset":
        return min(max(value, span[0]), span[1])
    low, high = span  # visible time never goes back in a partition: by halves
    while low < high:
        middle = (low + high) // 2
        record = await _read(consumer, place, middle, high)
        if record is None:  # a gap up to `high`
            high = middle
        elif visible_us(record.headers, record.value, record.timestamp) < value:
            low = record.offset + 1
        else:
            high = middle
    return low


def visible_us(headers: Sequence[tuple[str, bytes]], value: bytes | None, timestamp_ms: int) -> int:
    """When a record became visible, microseconds: as ingestion stamped it; a heartbeat may say it in its body. A record
    without a stamp counts by its timestamp in the topic."""
    for name, text in headers:
        if name == VISIBLE and text.isdigit():
            return int(text)
    try:
        body = json.loads(value or b"")
        if isinstance(body, dict) and isinstance(body.get(VISIBLE), int):
            return int(body[VISIBLE])
    except ValueError:
        pass
    return timestamp_ms * 1000


async def _read(consumer: AIOKafkaConsumer, place: TopicPartition, offset: int, end: int) -> ConsumerRecord | None:
    """The first record at or after `offset`; None when there is none before `end`."""
    consumer.assign([place])
    consumer.seek(place, offset)
    deadline_s = time.monotonic() + READ_DEADLINE_S
    while time.monotonic() < deadline_s:
        polled = await bounded(consumer.getmany(place, timeout_ms=500, max_records=1), "looking for a time")
        for records in polled.values():
            record: ConsumerRecord = records[0]
            return record if record.offset < end else None
    raise BusUnavailable(f"nothing came of {place.topic}:{place.partition} from {offset} on")
