"""A shadow reads a range of the live log and leaves everything live as it was."""

import pytest
from millrace.bus.effects import Effects
from millrace.bus.events import Batch, Event, Message
from millrace.bus.ports import TopicSpec
from millrace.bus.shadow import Range, ShadowBus, ShadowPlan
from millrace.bus.topics import deadletter_topic
from millrace.bus.worker import Worker
from millrace.runtime.errors import ConfigurationError

from tests.contract.bus.conftest import Fabric, message
from tests.contract.bus.support import Sink, everything, running
from tests.support.poll import until


async def test_a_shadow_sees_its_range_and_writes_beside_the_live_room(fabric: Fabric) -> None:
    bus = fabric.bus()
    topic, out, other = [await fabric.topic(bus, n, partitions=2) for n in ("events", "out", "other")]
    await bus.publish([message(topic, f"{p}-{n}", partition=p) for n in range(10) for p in (0, 1)])
    await bus.publish([message(other, "not in the plan")])
    live = Sink()
    group = fabric.name("group")
    worker = Worker(bus, room=fabric.room, group=group, handle=live.handle, topics=[topic, other])
    async with running(worker.run):
        await until(lambda: len(live.records) == 21 and worker.lag_records == 0, 20)

    plan = ShadowPlan(f"x{fabric.tag}", "p", {(topic, 0): Range(0, 3, 7), (topic, 1): Range(0, 0, 2)})
    assert ShadowPlan.from_json(plan.to_json()) == plan
    assert (plan.records, plan.is_whole) == (6, False)
    shadow = ShadowBus(fabric.bus(), plan)
    seen: list[str] = []

    async def handle(batch: Batch, effects: Effects) -> None:
        for record in batch.records:
            seen.append(record.data.decode())
            effects.publish(
                Message(
                    out,
                    Event(
                        record.event.id,
                        "t",
                        "s",
                        b"",
                    ),
                    key=b"k",
                    partition=1,
                )
            )
        effects.reject(batch.records[0], "Odd", "the first")

    beside = Worker(shadow, room=fabric.room, group=group, handle=handle, topics=[topic, other])
    async with running(beside.run):
        await until(lambda: len(seen) == 6 and beside.lag_records == 0, 20)
        await bus.publish([message(topic, "later", partition=p) for p in (0, 1)])
        await beside.learn_lag()
        assert beside.lag_records == 0
    assert sorted(seen) == ["0-3", "0-4", "0-5", "0-6", "1-0", "1-1"]
    assert len(await everything(bus, plan.topic(out), 6)) == 6
    letters = await everything(bus, plan.topic(deadletter_topic(fabric.room)), 2)
    assert len(letters) >= 2
    # Live: nothing was published, and the group goes on where it was.
    await bus.ensure_topics([TopicSpec(out, 2)])
    tail = Sink()
    reading = Worker(bus, room=fabric.room, group=fabric.name("tail"), handle=tail.handle,
                     topics=[out, deadletter_topic(fabric.room)])  # fmt: skip
    again = Worker(bus, room=fabric.room, group=group, handle=live.handle, topics=[topic, other])
    async with running(reading.run), running(again.run):
        await until(lambda: reading.lag_records == 0 and reading.state == "running", 20)
        await until(lambda: len(live.records) == 23 and again.lag_records == 0, 20)
    assert tail.records == []


async def test_a_shadow_that_was_killed_goes_on_and_one_that_follows_does_not_end(fabric: Fabric) -> None:
    bus = fabric.bus()
    topic = await fabric.topic(bus)
    await bus.publish([message(topic, str(n)) for n in range(5)])
    plan = ShadowPlan(f"f{fabric.tag}", "p", {(topic, 0): Range(0, 1, 5)}, follows=True)
    first, second = Sink(), Sink()

    def shadow(sink: Sink) -> Worker:
        return Worker(ShadowBus(fabric.bus(), plan), room=fabric.room, group="g", handle=sink.handle, topics=[topic])

    worker = shadow(first)
    async with running(worker.run):
        await until(lambda: len(first.records) == 4 and worker.lag_records == 0, 20)
    await bus.publish([message(topic, "5")])
    async with running(shadow(second).run):
        await until(lambda: second.texts == ["5"], 20)
    assert first.texts == ["1", "2", "3", "4"]


@pytest.mark.parametrize("text", ["", "{}", '{"name": "a b", "project": "p", "follows": false, "ranges": []}'])
def test_what_is_no_plan_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="shadow"):
        ShadowPlan.from_json(text)
