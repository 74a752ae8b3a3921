"""The relay publishes what was committed: all of it, nothing else, in order."""

from pathlib import Path

import pytest
from millrace.bus.outbox import OutboxRelay
from millrace.stores.sql import Database

from tests.contract.bus.conftest import Fabric, message
from tests.contract.bus.support import everything, running
from tests.support.poll import until


@pytest.fixture
async def database(tmp_path: Path):
    made = Database(f"sqlite:///{tmp_path}/room.db", room="room")
    await made.start()
    yield made
    await made.stop()


async def test_exactly_the_committed_messages_are_published_in_order(fabric: Fabric, database: Database) -> None:
    bus = fabric.bus()
    topic = await fabric.topic(bus)
    relay = OutboxRelay(database, bus)
    async with running(relay.run):
        async with database.transaction() as transaction:
            await transaction.publish_many([message(topic, str(i), cause="c") for i in range(2500)])
        with pytest.raises(ZeroDivisionError):
            async with database.transaction() as transaction:
                await transaction.publish(message(topic, "ghost"))
                raise ZeroDivisionError
        async with database.transaction() as transaction:
            await transaction.publish(message(topic, "last"))
        await until(lambda: relay.unpublished_records == 0, 20)
    records = await everything(bus, topic, 2501)
    assert [r.data.decode() for r in records] == [*map(str, range(2500)), "last"]
    assert records[0].event.causation_id == "c"


async def test_a_crash_after_publishing_repeats_the_id_and_loses_nothing(fabric: Fabric, database: Database) -> None:
    bus = fabric.bus()
    topic = await fabric.topic(bus)
    sent = [message(topic, text) for text in ("first", "second")]
    async with database.transaction() as transaction:
        await transaction.publish_many(sent)

    class Dying:
        """The bus of a process that dies as soon as its messages are out."""

        async def publish(self, messages) -> None:
            await bus.publish(messages)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        await OutboxRelay(database, Dying()).drain()
    after_restart = OutboxRelay(database, bus)
    assert after_restart.unpublished_records == 2
    await after_restart.drain()
    ids = [r.event.id for r in await everything(bus, topic, 4)]
    assert ids == [m.event.id for m in sent] * 2
    assert after_restart.unpublished_records == 0
