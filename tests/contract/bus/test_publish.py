"""What publishing promises, over the twin and over Kafka."""

import pytest
from aiokafka.partitioner import murmur2
from millrace.bus.errors import UnknownTopic
from millrace.bus.events import Event, Message, new_id
from millrace.bus.kafka import KafkaBus
from millrace.bus.kafka_clients import admin_of
from millrace.bus.ports import TopicSpec

from tests.contract.bus.conftest import Fabric, message
from tests.contract.bus.support import everything


async def test_an_event_survives_the_wire_with_every_attribute(fabric: Fabric) -> None:
    bus = fabric.bus()
    topic = await fabric.topic(bus)
    event = Event(
        id=new_id(),
        type="millrace.test.thing.happened.v1",
        source="tests",
        data=b"\x00\xff body",
        subject="a/b",
        time_us=1_357_000_000_123_456,
        causation_id="the-cause",
        actor="ana",
        traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        content_type="application/json",
        extensions={"visible_us": "17", "event_us": "16"},
    )
    await bus.publish([Message(topic, event, key=b"key")])
    (record,) = await everything(bus, topic, 1)
    assert record.event == event
    assert (record.key, record.offset, record.data) == (b"key", 0, b"\x00\xff body")


async def test_records_of_a_key_keep_partition_and_order(fabric: Fabric) -> None:
    bus = fabric.bus()
    topic = await fabric.topic(bus, partitions=3)
    keys = [f"key{i % 7}" for i in range(300)]
    await bus.publish([message(topic, str(i), key=key) for i, key in enumerate(keys)])
    records = await everything(bus, topic, 300)
    assert {r.key: r.partition for r in records} == {
        k.encode(): (murmur2(k.encode()) & 0x7FFFFFFF) % 3 for k in set(keys)
    }
    for partition in range(3):
        numbers = [int(r.data) for r in records if r.partition == partition]
        assert numbers == sorted(numbers)
        assert [r.offset for r in records if r.partition == partition] == list(range(len(numbers)))


async def test_a_named_partition_is_obeyed_and_an_empty_body_and_key_stay_empty(fabric: Fabric) -> None:
    bus = fabric.bus()
    topic = await fabric.topic(bus, partitions=3)
    await bus.publish([message(topic, "", key="", partition=2)])
    (record,) = await everything(bus, topic, 1)
    assert (record.partition, record.data, record.key) == (2, b"", b"")


async def test_ensure_topics_leaves_existing_topics_alone(fabric: Fabric) -> None:
    bus = fabric.bus()
    topic = await fabric.topic(bus, partitions=2)
    await bus.publish([message(topic, "kept")])
    await bus.ensure_topics([TopicSpec(topic, 5), TopicSpec(fabric.name("other"), 4)])
    assert await bus.partitions(topic) == [0, 1]
    assert await bus.partitions(fabric.name("other")) == [0, 1, 2, 3]
    assert [r.data for r in await everything(bus, topic, 1)] == [b"kept"]


async def test_the_retention_of_existing_topics_follows_what_is_asked(fabric: Fabric) -> None:
    bus = fabric.bus()
    topic = await fabric.topic(bus)
    short = TopicSpec(topic, retention_hours=14)
    changed = await bus.retain([short, TopicSpec(fabric.name("compact"), compact=True)])
    if isinstance(bus, KafkaBus):
        assert changed == [topic]
        settings = await settings_of(bus, topic)
        assert (settings["retention.ms"], settings["segment.ms"]) == (str(14 * 3_600_000), str(2 * 3_600_000))
    assert await bus.retain([short]) == [], "nothing to change any more"


async def settings_of(bus: KafkaBus, topic: str) -> dict[str, str]:
    from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

    async with admin_of(bus._settings) as admin:
        (reply,) = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
    (found,) = reply.to_object()["resources"]
    return {entry["config_names"]: entry["config_value"] for entry in found["config_entries"]}


async def test_a_reader_of_a_missing_topic_says_so(fabric: Fabric) -> None:
    bus = fabric.bus()
    reader = bus.reader([fabric.name("nowhere")])
    with pytest.raises(UnknownTopic):
        await reader.start()
