"""`millrace topics list|lag|check` and doctor's finding, against a real Kafka."""

import asyncio
import json
import time
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from millrace.bus.kafka import KafkaBus
from millrace.bus.ports import TopicSpec
from millrace.cli.main import app
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


def create(stack: RunningStack, name: str, partitions: int = 1, **settings: str) -> None:
    """A topic as somebody else would make it."""

    async def run() -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=stack.kafka)
        await admin.start()
        try:
            configs = {key.replace("_", "."): value for key, value in settings.items()}
            await admin.create_topics([NewTopic(name, partitions, 1, topic_configs=configs)])
        finally:
            await admin.close()
        bus = KafkaBus(stack.kafka, "test")
        await bus.ensure_topics([TopicSpec(name, partitions)])  # waits until it has a leader
        await bus.stop()

    asyncio.run(run())


def remove(stack: RunningStack, *names: str) -> None:
    """What would be drift for the other tests of this stack."""

    async def run() -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=stack.kafka)
        await admin.start()
        await admin.delete_topics(list(names))
        await admin.close()

    asyncio.run(run())


def test_lag_and_age_are_those_of_each_group(stack: RunningStack, millrace: Run) -> None:
    tag = uuid.uuid4().hex[:8]
    topic, groups = f"lag-{tag}", (f"slow-{tag}", f"done-{tag}")
    create(stack, topic, 2)

    async def write_and_commit() -> None:
        async with AIOKafkaProducer(bootstrap_servers=stack.kafka) as producer:
            for number in range(10):
                # As if written ten minutes ago and later: the age is that of the first record that waits.
                age_ms = 600_000 - number * 10_000
                now_ms = time.time_ns() // 1_000_000
                await producer.send_and_wait(topic, b"x", partition=number % 2, timestamp_ms=now_ms - age_ms)
        for group, offsets in zip(groups, ((2, 5), (5, 5)), strict=True):
            async with AIOKafkaConsumer(
                bootstrap_servers=stack.kafka, group_id=group, enable_auto_commit=False
            ) as consumer:
                places = [TopicPartition(topic, 0), TopicPartition(topic, 1)]
                consumer.assign(places)
                await consumer.commit(dict(zip(places, offsets, strict=True)))

    asyncio.run(write_and_commit())
    found = json.loads(millrace("topics", "lag", groups[0], "--json").stdout)
    assert [(one["partition"], one["lag_records"]) for one in found] == [(0, 3), (1, 0)]
    assert 550 < found[0]["oldest_s"] < 700  # the fifth of ten, forty seconds younger than the first
    assert found[1]["oldest_s"] == 0
    lines = [line.split() for line in millrace("topics", "lag").stdout.splitlines()]
    assert [groups[0], topic, "2", "3"] in [line[:4] for line in lines]
    assert [groups[1], topic, "2", "0", "0.0", "s"] in lines
    assert "no group nobody" in millrace("topics", "lag", "nobody").stderr
    remove(stack, topic)


def test_drift_from_the_table_is_reported_with_its_fix(stack: RunningStack, millrace: Run) -> None:
    tag = uuid.uuid4().hex[:8]
    kept, grown, packed, foreign = (
        f"data.{tag}.kept", f"data.{tag}.grown", f"raw.{tag}.packed", f"stranger-{tag}",
    )  # fmt: skip
    create(stack, kept, 1, retention_ms="3600000", segment_ms=str(24 * 3_600_000))
    create(stack, grown, 3, retention_ms=str(168 * 3_600_000))  # segments as Kafka cuts them when nobody says so
    create(
        stack, packed, 1, cleanup_policy="compact", retention_ms=str(168 * 3_600_000), segment_ms=str(24 * 3_600_000)
    )
    create(stack, foreign)
    try:
        result = millrace("topics", "check", "--json")
        assert result.exit_code == 1
        said = json.loads(result.stdout)
        mine = {
            (d["topic"], d["what"]): (d["table"], d["broker"], d["harmful"]) for d in said["drift"] if tag in d["topic"]
        }
        assert mine == {
            (kept, "retention"): ("168 h", "1 h", True),
            (grown, "partitions"): ("1", "3", False),
            (grown, "segment"): ("24 h", "168 h", True),
            (packed, "cleanup"): ("delete", "compact", True),
            (packed, "time"): ("the broker's", "CreateTime", True),
        }
        (fix,) = [d["fix"] for d in said["drift"] if d["topic"] == kept]
        assert fix.endswith(f"--topic {kept} --add-config retention.ms=604800000")
        assert foreign in said["not_in_the_table"]
        shown = millrace("topics", "check").stdout
        assert kept in shown
        assert foreign in shown
        (finding,) = [f for f in json.loads(millrace("doctor", "--json").stdout) if f["what"] == "topics"]
        assert (finding["state"], finding["fix"]) == ("warning", "millrace topics check")
    finally:
        remove(stack, kept, grown, packed, foreign)
    rows = json.loads(millrace("topics", "list", "--json").stdout)
    assert {"topic": "deadletter.monitor", "owner": "monitor", "partitions": 1, "retention": "720 h"}.items() <= next(
        row for row in rows if row["topic"] == "deadletter.monitor"
    ).items()


def test_kafka_that_is_gone_is_one_line(millrace: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MILLRACE_KAFKA_BOOTSTRAP", "127.0.0.1:1")
    for command in ("list", "lag", "check"):
        result = millrace("topics", command)
        assert result.exit_code == 1
        assert result.stderr.splitlines()[-1].startswith("error: Kafka at 127.0.0.1:1 cannot be reached")
