"""Topics for people: which there are, reading records, turning payloads into plain dicts."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from importlib import import_module
from typing import Any

from millrace.cli.errors import CliError

CONNECT_TIMEOUT_MS = 5_000


def payload_of(topic: str) -> str:
    """The payload's name by topics.yaml: `json`, `original`, or a protobuf message; `unknown` for a foreign topic."""
    from millrace.bus.topics import load_topics

    rows = load_topics().rows
    exact = [row.payload for row in rows if row.pattern == topic]
    by_prefix = [row.payload for row in rows if "{" in row.pattern and topic.startswith(row.pattern.partition("{")[0])]
    return next(iter([*exact, *by_prefix]), "unknown")


def decode(topic: str, event_type: str, data: bytes) -> Any:
    """The payload as a plain value; text that says why where it cannot be read."""
    if not data:
        return None
    payload = payload_of(topic)
    if payload.startswith("millrace.wire."):
        if topic == "labels" and event_type.endswith(".clock.advanced.v1"):
            payload = "millrace.wire.labeling.v1.LabelHeartbeat"
        return _decode_protobuf(payload, data)
    try:
        return json.loads(data)
    except ValueError:
        return f"{len(data)} bytes that are not JSON"


def message_class(name: str) -> Any:
    """The class of a message such as `millrace.wire.trainer.v1.RunEvent`; CliError when there is none."""
    package, _, short = name.rpartition(".")
    for module_name in ("events_pb2", "common_pb2", "service_pb2", "forgetting_pb2"):
        try:
            module = import_module(f"{package}.{module_name}")
        except ModuleNotFoundError:
            continue
        if hasattr(module, short):
            return getattr(module, short)
    raise CliError(f"topics.yaml names the payload {name}, which this version does not know")


def _decode_protobuf(name: str, data: bytes) -> Any:
    from google.protobuf.message import DecodeError

    from millrace.cli.output import as_dict

    try:
        return as_dict(message_class(name).FromString(data))
    except DecodeError as error:
        return f"{len(data)} bytes that are not {name}: {error}"


def record_dict(record: Any) -> dict[str, Any]:
    """A Kafka record as one plain object."""
    headers = {name: value.decode(errors="replace") for name, value in record.headers}
    return {
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "key": record.key.decode(errors="replace") if record.key else "",
        "id": headers.get("ce_id", ""),
        "type": headers.get("ce_type", ""),
        "time": headers.get("ce_time", ""),
        "cause": headers.get("ce_causationid", ""),
        "actor": headers.get("ce_actor", ""),
        "data": decode(record.topic, headers.get("ce_type", ""), record.value or b""),
    }


@asynccontextmanager
async def reader(client: Mapping[str, Any], topics: list[str]) -> AsyncIterator[Any]:
    """A consumer without a group on all partitions of `topics`; `client` as of places.kafka_client. CliError when Kafka
    or a topic is away."""
    from aiokafka import AIOKafkaConsumer
    from aiokafka.errors import KafkaError

    quiet()
    consumer = AIOKafkaConsumer(**client, enable_auto_commit=False)
    try:
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_MS / 1000):
                places = await _partitions(client, topics)
                await consumer.start()
        except (KafkaError, OSError, TimeoutError) as error:
            raise unreachable(client, error) from error
        consumer.assign(places)
        yield consumer
    finally:
        await consumer.stop()


def unreachable(client: Mapping[str, Any], error: BaseException) -> CliError:
    """One line for a broker that does not answer, or does not let us in."""
    known = f"Kafka at {client['bootstrap_servers']} cannot be reached ({type(error).__name__})"
    protocol = client.get("security_protocol", "PLAINTEXT")
    return CliError(f"{known}; spoke {protocol}, as MILLRACE_KAFKA_SECURITY says" if protocol != "PLAINTEXT" else known)


async def _partitions(client: Mapping[str, Any], topics: list[str]) -> list[Any]:
    from aiokafka import TopicPartition
    from aiokafka.admin import AIOKafkaAdminClient

    admin = AIOKafkaAdminClient(**client)
    try:
        await admin.start()
        present = await admin.list_topics()
        missing = [topic for topic in topics if topic not in present]
        if missing:
            raise CliError(f"no topic {missing[0]} (there are: {', '.join(sorted(present)) or 'none'})")
        described = await admin.describe_topics(topics)
    finally:
        await admin.close()
    return [TopicPartition(row["topic"], part["partition"]) for row in described for part in row["partitions"]]


async def read_last(
    client: Mapping[str, Any], topics: list[str], count: int, handle: Callable[[Any], None], *, follow: bool
) -> None:
    """Hands over the last `count` records, ordered by time, then, with `follow`, all new ones."""
    async with reader(client, topics) as consumer:
        pairs = list(consumer.assignment())
        ends = await consumer.end_offsets(pairs)
        begins = await consumer.beginning_offsets(pairs)
        for pair in pairs:
            consumer.seek(pair, max(begins[pair], ends[pair] - count))
        old = [record async for record in _until(consumer, ends)]
        for record in sorted(old, key=lambda r: r.timestamp)[-count:]:
            handle(record)
        if follow:
            async for record in consumer:
                handle(record)


async def _until(consumer: Any, ends: dict[Any, int]) -> AsyncIterator[Any]:
    """Records before `ends`. Compaction leaves gaps, so positions decide, not counts."""
    behind = [pair for pair in ends if await consumer.position(pair) < ends[pair]]
    while behind:
        for records in (await consumer.getmany(timeout_ms=500)).values():
            for record in records:
                yield record
        behind = [pair for pair in behind if await consumer.position(pair) < ends[pair]]


def quiet() -> None:
    """aiokafka logs what a command already says in its one line."""
    import logging

    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
