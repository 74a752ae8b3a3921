"""The embedded parts speak their real protocols and keep their data."""

import asyncio
import uuid

import clickhouse_connect
import pyarrow as pa
import pytest
import redis as redis_client
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from tests.support.stack import RunningStack

pytestmark = pytest.mark.stack


async def test_kafka_takes_idempotent_records_and_gives_them_back(stack: RunningStack) -> None:
    topic = f"t-{uuid.uuid4().hex[:8]}"
    admin = AIOKafkaAdminClient(bootstrap_servers=stack.kafka)
    await admin.start()
    await admin.create_topics([NewTopic(topic, 2, 1)])
    await admin.close()
    producer = AIOKafkaProducer(bootstrap_servers=stack.kafka, acks="all", enable_idempotence=True)
    await producer.start()
    await asyncio.gather(*[producer.send_and_wait(topic, str(n).encode(), key=str(n).encode()) for n in range(20)])
    await producer.stop()
    consumer = AIOKafkaConsumer(
        topic, bootstrap_servers=stack.kafka, group_id=topic, auto_offset_reset="earliest", enable_auto_commit=False
    )
    await consumer.start()
    seen = {(await asyncio.wait_for(anext(consumer), 20)).value for _ in range(20)}
    await consumer.stop()
    assert seen == {str(n).encode() for n in range(20)}


def test_valkey_answers_and_writes_its_file(stack: RunningStack) -> None:
    with redis_client.Redis.from_url(stack.redis) as connection:
        connection.set("k", "v")
        assert connection.get("k") == b"v"
        assert connection.config_get("appendonly") == {"appendonly": "yes"}


def test_clickhouse_takes_arrow_and_gives_it_back(stack: RunningStack) -> None:
    client = clickhouse_connect.get_client(dsn=stack.clickhouse.replace("http", "clickhouse+http") + "/default")
    client.command("CREATE TABLE roundtrip (a UInt64, b LowCardinality(String)) ENGINE = MergeTree ORDER BY a")
    table = pa.table({"a": pa.array(range(1000), pa.uint64()), "b": ["x", "y'\t\\"] * 500})
    client.insert_arrow("roundtrip", table)
    back = client.query_arrow("SELECT * FROM roundtrip ORDER BY a")
    assert back.column("a").to_pylist() == list(range(1000))
    assert back.column("b").to_pylist() == table.column("b").to_pylist()
    client.close()
