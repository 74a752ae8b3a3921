"""A part dies: the others stay, its data stays, its address stays."""

import asyncio
import uuid

import pytest
import redis as redis_client
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from tests.support.stack import RunningStack

pytestmark = pytest.mark.stack


async def test_kafka_keeps_acknowledged_records_through_a_crash(stack: RunningStack) -> None:
    topic = f"crash-{uuid.uuid4().hex[:8]}"
    admin = AIOKafkaAdminClient(bootstrap_servers=stack.kafka)
    await admin.start()
    await admin.create_topics([NewTopic(topic, 1, 1)])
    await admin.close()
    producer = AIOKafkaProducer(bootstrap_servers=stack.kafka, acks="all", enable_idempotence=True)
    await producer.start()
    await producer.send_and_wait(topic, b"kept")
    await producer.stop()

    stack.control.kill_part("kafka")
    await asyncio.to_thread(stack.control.start_part, "kafka")

    consumer = AIOKafkaConsumer(topic, bootstrap_servers=stack.kafka, auto_offset_reset="earliest")
    await consumer.start()
    record = await asyncio.wait_for(anext(consumer), 20)
    await consumer.stop()
    assert record.value == b"kept"


def test_valkey_keeps_what_it_wrote_through_a_stop(stack: RunningStack) -> None:
    with redis_client.Redis.from_url(stack.redis) as before:
        before.set("kept", "v")
    stack.control.stop_part("valkey")
    stack.control.start_part("valkey")
    with redis_client.Redis.from_url(stack.redis) as after:
        assert after.get("kept") == b"v"
