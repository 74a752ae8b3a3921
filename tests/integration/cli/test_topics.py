"""events tail and deadletter against a real Kafka."""

import asyncio
import json
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from millrace.cli.main import app
from millrace.wire.common.v1 import common_pb2
from typer.testing import CliRunner

from infra.kafka.topics import make_topics
from tests.support.stack import RunningStack

pytestmark = pytest.mark.stack
Run = Callable[..., Any]


@pytest.fixture
def millrace(stack: RunningStack, monkeypatch: pytest.MonkeyPatch) -> Run:
    """The command, pointed at the stack by its settings."""
    make_topics(stack.kafka)
    monkeypatch.setenv("MILLRACE_KAFKA_BOOTSTRAP", stack.kafka)
    return lambda *arguments: CliRunner().invoke(app, [*arguments])


def send(stack: RunningStack, topic: str, *values: bytes, headers: tuple[tuple[str, bytes], ...] = ()) -> list[int]:
    """Appends records; returns their offsets."""

    async def run() -> list[int]:
        async with AIOKafkaProducer(bootstrap_servers=stack.kafka) as producer:
            return [(await producer.send_and_wait(topic, v, key=b"k", headers=list(headers))).offset for v in values]

    return asyncio.run(run())


def last(stack: RunningStack, topic: str, count: int) -> list[Any]:
    """The newest records of a topic with one partition."""

    async def run() -> list[Any]:
        async with AIOKafkaConsumer(topic, bootstrap_servers=stack.kafka, auto_offset_reset="earliest") as consumer:
            (pair,) = consumer.assignment()
            end = (await consumer.end_offsets([pair]))[pair]
            consumer.seek(pair, max(0, end - count))
            return [await asyncio.wait_for(anext(consumer), 10) for _ in range(min(count, end))]

    return asyncio.run(run())


def test_tail_shows_the_newest_decoded(stack: RunningStack, millrace: Run) -> None:
    mark = uuid.uuid4().hex
    ticks = [common_pb2.ClockTick(project=mark, now_us=n).SerializeToString() for n in range(5)]
    send(stack, "clocks", *ticks, headers=(("ce_id", b"e1"), ("ce_type", b"millrace.ingestion.clock.advanced.v1")))
    result = millrace("events", "tail", "clocks", "-n", "3", "--json")
    shown = [json.loads(line) for line in result.stdout.splitlines()]
    assert [event["data"]["now_us"] for event in shown] == [2, 3, 4]
    assert {(event["key"], event["id"], event["data"]["project"]) for event in shown} == {("k", "e1", mark)}
    assert mark in millrace("events", "tail", "-n", "1000").stdout


def test_tail_of_a_topic_that_is_not_there(millrace: Run) -> None:
    result = millrace("events", "tail", "kitchen.sink")
    assert result.exit_code == 1
    assert result.stderr.startswith("error: no topic kitchen.sink (there are: ")


def test_kafka_that_is_gone_is_one_line(millrace: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MILLRACE_KAFKA_BOOTSTRAP", "127.0.0.1:1")
    result = millrace("events", "tail", "clocks")
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1].startswith("error: Kafka at 127.0.0.1:1 cannot be reached")


def test_a_dead_letter_goes_back_as_it_came(stack: RunningStack, millrace: Run) -> None:
    letter = common_pb2.DeadLetter(
        room="labeling", topic="predictions", partition=1, offset=42, error="MalformedEvent", reason="no entity",
        attempts=5, key=b"key", payload=b"\x00bytes", headers={"ce_id": "original-id"},
    )  # fmt: skip
    (offset,) = send(stack, "deadletter.labeling", letter.SerializeToString())

    assert "no entity" in millrace("deadletter", "list", "labeling").stdout
    shown = json.loads(millrace("deadletter", "show", "labeling", str(offset), "--json").stdout)
    assert (shown["topic"], shown["offset"], shown["headers"]) == ("predictions", 42, {"ce_id": "original-id"})
    for_people = millrace("deadletter", "show", "labeling", str(offset)).stdout
    assert {"no entity", "original-id"} <= {
        part.strip() for line in for_people.splitlines() for part in line.split("  ")
    }

    result = millrace("deadletter", "replay", "labeling", str(offset), "--actor", "ada")
    assert (result.exit_code, result.stdout) == (0, "1 handed back to labeling\n")
    (record,) = last(stack, "retry.labeling", 1)
    assert (record.key, record.value) == (b"key", b"\x00bytes")
    headers = dict(record.headers)
    assert (headers["ce_id"], headers["retry_topic"], headers["replayed_by"]) == (
        b"original-id",
        b"predictions",
        b"ada",
    )
    # If it fails again, its letter names its first place and counts all attempts.
    assert (headers["retry_partition"], headers["retry_offset"], headers["retry_attempts"]) == (b"1", b"42", b"5")


def test_a_letter_that_comes_back_again_names_the_last_who_replayed_it(stack: RunningStack, millrace: Run) -> None:
    letter = common_pb2.DeadLetter(
        room="monitor", topic="predictions", payload=b"again", payload_bytes=5,
        headers={"ce_id": "e", "ce_actor": "eve", "replayed_by": "ada"},
    )  # fmt: skip
    (offset,) = send(stack, "deadletter.monitor", letter.SerializeToString())
    assert millrace("deadletter", "replay", "monitor", str(offset), "--actor", "bob").exit_code == 0
    (record,) = last(stack, "retry.monitor", 1)
    assert [
        (name, value) for name, value in sorted(record.headers) if name == "retry_topic" or name[:5] != "retry"
    ] == [
        ("ce_actor", b"eve"),
        ("ce_id", b"e"),
        ("replayed_by", b"bob"),
        ("retry_topic", b"predictions"),
    ]


def test_replaying_what_is_not_there(millrace: Run) -> None:
    assert "has no dead letter at offset 999" in millrace("deadletter", "replay", "trainer", "999").stderr
    assert "give one offset, or --all" in millrace("deadletter", "replay", "trainer").stderr
    assert "no room is called kitchen" in millrace("deadletter", "list", "kitchen").stderr
