"""Bare consumers, for scale: aiokafka's getmany, raw or decoded by msgspec, and confluent-kafka's consume.

Argument: {"kafka", "topic", "group", "events", "way"}. Time runs from the first batch's arrival to the last event.
"""

import asyncio
import json
import os
import sys
import threading
import time
from typing import Any

BATCH, WAIT_MS = 10_000, 200


async def by_aiokafka(asked: Any, *, typed: bool) -> tuple[int, float, float]:
    """(events, seconds, processor seconds)"""
    import msgspec
    from aiokafka import AIOKafkaConsumer

    class Reading(msgspec.Struct):
        reading_id: str = ""  # a heartbeat has none of them
        sensor: str = ""
        at: int = 0
        value: float = 0.0

    decode = msgspec.json.Decoder(Reading).decode
    consumer = AIOKafkaConsumer(
        asked["topic"], bootstrap_servers=asked["kafka"], group_id=None, auto_offset_reset="earliest"
    )
    await consumer.start()
    events, started_s, cpu_s = 0, 0.0, 0.0
    try:
        while events < asked["events"]:
            for records in (await consumer.getmany(timeout_ms=WAIT_MS, max_records=BATCH)).values():
                if not started_s:
                    started_s, cpu_s = time.perf_counter(), time.process_time()
                if typed:
                    [decode(record.value) for record in records[: asked["events"] - events]]
                events += len(records)
        return events, time.perf_counter() - started_s, time.process_time() - cpu_s
    finally:
        await consumer.stop()


def by_confluent(asked: Any) -> tuple[int, float, float]:
    """(events, seconds, processor seconds); the fetch back-off of a second, its default, would be all one measures."""
    from confluent_kafka import Consumer

    consumer = Consumer(
        {
            "bootstrap.servers": asked["kafka"],
            "group.id": asked["group"],
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "fetch.queue.backoff.ms": 5,
        }
    )
    consumer.subscribe([asked["topic"]])
    events, started_s, cpu_s = 0, 0.0, 0.0
    try:
        while events < asked["events"]:
            records = consumer.consume(BATCH, WAIT_MS / 1000)
            if records and not started_s:
                started_s, cpu_s = time.perf_counter(), time.process_time()
            for record in records:
                record.value()
            events += len(records)
        return events, time.perf_counter() - started_s, time.process_time() - cpu_s
    finally:
        consumer.close()


def end_with_the_bench() -> None:
    """The bench holds the other end of standard input: when it goes, however it goes, so do we."""
    sys.stdin.buffer.read()
    os._exit(1)


def main() -> None:
    """One run."""
    threading.Thread(target=end_with_the_bench, daemon=True).start()
    asked = json.loads(sys.argv[1])
    if asked["way"] == "confluent":
        events, wall_s, cpu_s = by_confluent(asked)
    else:
        events, wall_s, cpu_s = asyncio.run(by_aiokafka(asked, typed=asked["way"] == "typed"))
    print(json.dumps({"events": events, "wall_s": wall_s, "cpu_s": cpu_s}), flush=True)


if __name__ == "__main__":
    main()
