"""What a follower promises, over the twin and over Kafka."""

import pytest
from millrace.bus.errors import NotReady
from millrace.bus.events import Record
from millrace.bus.follower import Follower

from tests.contract.bus.conftest import Fabric, message
from tests.contract.bus.support import Away, Poison, running
from tests.support.poll import until


async def test_ready_means_everything_that_was_there_is_applied(fabric: Fabric) -> None:
    bus = fabric.bus()
    topic = await fabric.topic(bus, compact=True)
    await bus.publish([message(topic, str(i), key=str(i % 3)) for i in range(3000)])
    if hasattr(bus, "broker"):
        bus.broker.compact(topic)
    table: dict[bytes, bytes] = {}

    async def apply(record: Record) -> None:
        table[record.key] = record.data

    follower = Follower(bus, [topic], apply)
    assert not follower.ready
    async with running(follower.run):
        await follower.wait_ready(20)
        assert table == {b"0": b"2997", b"1": b"2998", b"2": b"2999"}
        await bus.publish([message(topic, "new", key="0")])
        await until(lambda: table[b"0"] == b"new" and follower.lag_records == 0, 20)


async def test_an_empty_topic_is_ready_at_once_and_a_missing_one_when_it_comes(fabric: Fabric) -> None:
    bus = fabric.bus()
    topic = await fabric.topic(bus, "empty")
    seen: list[bytes] = []

    async def apply(record: Record) -> None:
        seen.append(record.data)

    empty = Follower(bus, [topic], apply)
    missing = Follower(bus, [fabric.name("late")], apply)
    async with running(empty.run), running(missing.run):
        await empty.wait_ready(20)
        with pytest.raises(NotReady):
            await missing.wait_ready(0.05)
        await bus.publish([message(await fabric.topic(bus, "late"), "hello")])
        await missing.wait_ready(20)
        await until(lambda: seen == [b"hello"], 20)


async def test_a_record_that_cannot_be_applied_is_shown_and_passed_by(fabric: Fabric) -> None:
    bus = fabric.bus()
    topic = await fabric.topic(bus)
    await bus.publish([message(topic, text) for text in ("poison", "away", "fine")])
    tries = {b"away": 0}
    seen: list[bytes] = []

    async def apply(record: Record) -> None:
        if record.data == b"poison":
            raise Poison("not this")
        if record.data == b"away" and not tries[b"away"]:
            tries[b"away"] += 1
            raise Away("a moment")
        seen.append(record.data)

    follower = Follower(bus, [topic], apply)
    async with running(follower.run):
        await follower.wait_ready(20)
    assert seen == [b"away", b"fine"]
    assert follower.rejected_records == 1
    assert follower.problem
