"""A broker that goes away and comes back: nothing dies, nothing is lost, and the state says so."""

from millrace.bus.backoff import Backoff
from millrace.bus.effects import Effects
from millrace.bus.errors import BusUnavailable, policy_of
from millrace.bus.events import Batch, Event, Message, Record, new_id
from millrace.bus.follower import Follower
from millrace.bus.memory import MemoryBroker, MemoryBus
from millrace.bus.outbox import OutboxRelay
from millrace.bus.ports import TopicSpec
from millrace.bus.worker import Worker
from millrace.runtime.errors import Invalid, Policy
from millrace.stores.sql import Database

from tests.contract.bus.support import running
from tests.support.poll import until


def message(text: str) -> Message:
    return Message("t", Event(new_id(), "type", "source", text.encode()), key=b"k")


async def test_a_worker_waits_for_its_broker_and_goes_on_where_it_was() -> None:
    broker = MemoryBroker()
    bus = MemoryBus(broker)
    await bus.ensure_topics([TopicSpec("t"), TopicSpec("out")])
    await bus.publish([message("1")])
    seen: list[bytes] = []

    async def handle(batch: Batch, effects: Effects) -> None:
        for record in batch.records:
            seen.append(record.data)
            if record.data == b"2":
                broker.available = False  # goes away between the effects and the produce
            effects.publish(Message("out", Event(record.event.id, "type", "source", record.data)))

    worker = Worker(bus, room="r", group="g", handle=handle, topics=["t"])
    async with running(worker.run):
        await until(lambda: seen == [b"1"])
        await bus.publish([message("2")])
        await until(lambda: worker.state.startswith("retrying"))
        broker.available = True
        await until(lambda: worker.state == "running" and worker.lag_records == 0)
        await bus.publish([message("3")])
        await until(lambda: b"3" in seen and worker.lag_records == 0)
        broker.available = False
        await until(lambda: worker.state.startswith("retrying"))
        broker.available = True
        await until(lambda: worker.state == "running" and worker.lag_records == 0)
    assert [record.data for record in bus.records("out")] == [b"1", b"2", b"3"]


async def test_a_worker_starts_before_its_broker() -> None:
    broker = MemoryBroker()
    bus = MemoryBus(broker)
    broker.available = False
    seen: list[bytes] = []

    async def handle(batch: Batch, effects: Effects) -> None:
        seen.extend(record.data for record in batch.records)

    worker = Worker(bus, room="r", group="g", handle=handle, topics=["t"])
    async with running(worker.run):
        await until(lambda: worker.state.startswith("retrying"))
        assert worker.lag_records == 1
        broker.available = True
        await bus.publish([message("1")])
        await until(lambda: seen == [b"1"])


async def test_a_follower_stays_ready_and_catches_up() -> None:
    broker = MemoryBroker()
    bus = MemoryBus(broker)
    await bus.publish([message("1")])
    seen: list[bytes] = []

    async def apply(record: Record) -> None:
        seen.append(record.data)

    follower = Follower(bus, ["t"], apply)
    async with running(follower.run):
        await follower.wait_ready(5)
        broker.available = False
        await until(lambda: follower.state.startswith("retrying"))
        assert follower.ready
        broker.available = True
        await bus.publish([message("2")])
        await until(lambda: seen[-1] == b"2")


async def test_the_outbox_waits_for_the_broker() -> None:
    broker = MemoryBroker()
    bus = MemoryBus(broker)
    broker.available = False
    database = Database("sqlite://", room="r")
    await database.start()
    relay = OutboxRelay(database, bus)
    async with running(relay.run):
        async with database.transaction() as transaction:
            await transaction.publish(message("kept"))
        await until(lambda: relay.state.startswith("retrying"))
        assert relay.unpublished_records == 1
        broker.available = True
        await until(lambda: relay.unpublished_records == 0)
    assert [record.data for record in bus.records("t")] == [b"kept"]
    await database.stop()


def test_waits_double_up_to_the_cap_and_begin_again() -> None:
    backoff = Backoff(first_s=1.0, cap_s=4.0)
    waits = [backoff.next_s() for _ in range(4)]
    backoff.reset()
    for waited, full in zip([*waits, backoff.next_s()], [1, 2, 4, 4, 1], strict=True):
        assert full / 2 <= waited <= full


def test_errors_say_what_to_do_about_them() -> None:
    for error in (BusUnavailable(""), ConnectionResetError(), TimeoutError()):
        assert policy_of(error) is Policy.RETRY
    assert policy_of(Invalid("")) is Policy.REJECT
    assert policy_of(KeyError()) is None
