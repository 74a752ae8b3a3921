"""The real broker dies and comes back under a producer, a worker, a follower and an outbox."""

import asyncio
import uuid
from pathlib import Path

import pytest
from millrace.bus.effects import Effects
from millrace.bus.errors import BusUnavailable
from millrace.bus.events import Batch, Event, Message, Record, new_id
from millrace.bus.follower import Follower
from millrace.bus.kafka import KafkaBus
from millrace.bus.outbox import OutboxRelay
from millrace.bus.ports import TopicSpec
from millrace.bus.worker import Worker
from millrace.stores.sql import Database

from tests.contract.bus.support import running
from tests.support.poll import until

pytestmark = [pytest.mark.stack, pytest.mark.timeout(280)]


def message(topic: str, text: str) -> Message:
    return Message(topic, Event(new_id(), "type", "source", text.encode()), key=b"k")


async def test_nothing_is_lost_when_the_broker_is_killed_and_started_again(stack, tmp_path: Path) -> None:
    tag = uuid.uuid4().hex[:8]
    topic, table = f"faults-{tag}", f"table-{tag}"
    bus = KafkaBus(stack.kafka, "faults")
    await bus.ensure_topics([TopicSpec(topic), TopicSpec(table, compact=True)])
    database = Database(f"sqlite:///{tmp_path}/room.db", room="room")
    await database.start()
    consumed: list[str] = []
    followed: list[str] = []

    async def handle(batch: Batch, effects: Effects) -> None:
        consumed.extend(record.data.decode() for record in batch.records)
        for record in batch.records:
            effects.publish(Message(table, Event(record.event.id, "type", "source", record.data), key=record.data))

    async def apply(record: Record) -> None:
        followed.append(record.data.decode())

    worker = Worker(bus, room=f"room-{tag}", group=f"group-{tag}", handle=handle, topics=[topic])
    follower = Follower(bus, [table], apply)
    relay = OutboxRelay(database, bus)
    async with running(worker.run), running(follower.run), running(relay.run):
        await follower.wait_ready(30)
        await bus.publish([message(topic, f"before{i}") for i in range(10)])
        await until(lambda: len(set(followed)) == 10, 30)

        stack.control.kill_part("kafka")
        async with database.transaction() as transaction:
            await transaction.publish_many([message(topic, f"during{i}") for i in range(10)])
        with pytest.raises(BusUnavailable):
            await bus.publish([message(topic, "refused or repeated")])
        await until(lambda: relay.state.startswith("retrying"), 60)
        await until(lambda: worker.state.startswith("retrying"), 60)
        assert relay.unpublished_records == 10

        await asyncio.to_thread(stack.control.start_part, "kafka")
        wanted = {f"during{i}" for i in range(10)} | {f"before{i}" for i in range(10)}
        await until(lambda: wanted <= set(consumed), 60)
        await until(lambda: wanted <= set(followed), 60)
        await until(lambda: relay.unpublished_records == worker.lag_records == 0, 60)
    await database.stop()
    await bus.stop()
