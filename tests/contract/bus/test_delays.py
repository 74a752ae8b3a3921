"""Delayed retries: what fails by itself waits elsewhere, what is the store's fault waits in place, nothing is lost."""

import json
import time

import pytest
from millrace.bus.delays import Delays
from millrace.bus.events import Batch, Event, Message
from millrace.bus.ports import Bus
from millrace.bus.topics import deadletter_topic, delayed_topic
from millrace.bus.worker import Worker
from millrace.wire.common.v1.common_pb2 import DeadLetter

from tests.contract.bus.conftest import Fabric, message
from tests.contract.bus.support import Away, Killed, Sink, everything, running
from tests.support.poll import until

SHORT = Delays(steps_s=(0.3, 0.6), in_place_s=60.0)


def delaying(fabric: Fabric, bus: Bus, sink: Sink, topic: str, delays: Delays = SHORT, group: str = "group") -> Worker:
    return Worker(
        bus,
        room=fabric.room,
        group=fabric.name(group),
        handle=sink.handle,
        topics=[topic],
        max_attempts=2,
        delays=delays,
    )


async def test_a_record_that_fails_by_itself_waits_and_comes_again_as_it_was(fabric: Fabric) -> None:
    bus = fabric.bus()
    topic = await fabric.topic(bus)
    sent = [message(topic, str(i), key=str(i)) for i in range(20)]
    await bus.publish(sent)
    tried_us: list[int] = []

    def seven(batch: Batch) -> None:
        if not batch.via and any(record.data == b"7" for record in batch.records):
            raise Away("what seven needs is not there")
        tried_us.extend(time.time_ns() // 1000 for record in batch.records if record.data == b"7")

    sink = Sink(seven)
    worker = delaying(fabric, bus, sink, topic)
    async with running(worker.run):
        await until(lambda: len(sink.records) == 19, 20)  # the others did not wait
        assert worker.report().tally.delayed[topic] == 1
        await until(lambda: len(sink.records) == 20, 20)
        assert worker.dead_letters == 0
    came = sink.records[-1]
    assert (came.topic, came.via, came.data, came.key) == (topic, delayed_topic(fabric.room), b"7", b"7")
    assert came.event == sent[7].event  # the same id and the same headers: the effect is known again
    assert came.first_place == (topic, 0, 7)
    (waited,) = [r for r in await everything(bus, delayed_topic(fabric.room), 1) if r.data == b"7"]
    assert int(waited.header("retry_not_before_us")) <= tried_us[0]


async def test_after_the_last_delay_it_is_a_dead_letter_with_its_whole_story(fabric: Fabric) -> None:
    bus = fabric.bus()
    topic = await fabric.topic(bus, partitions=2)
    await bus.publish([message(topic, text, partition=1) for text in ("a", "never", "b")])

    def never(batch: Batch) -> None:
        if any(record.data == b"never" for record in batch.records):
            raise KeyError("never")  # unexplained failures are delayed, too

    sink = Sink(never)
    # Alone in a topic at rest: whether it or its store is to blame cannot be known, so the last word waits a little.
    worker = delaying(fabric, bus, sink, topic, Delays(steps_s=(0.3, 0.6), in_place_s=1.0))
    async with running(worker.run):
        await until(lambda: worker.dead_letters == 1, 30)
        (record,) = await everything(bus, deadletter_topic(fabric.room), 1)
        await until(lambda: worker.lag_records == 0, 20)
    letter = DeadLetter.FromString(record.data)
    assert (letter.topic, letter.partition, letter.offset, letter.payload) == (topic, 1, 1, b"never")
    assert (letter.error, letter.group, letter.handler_version) == ("KeyError", fabric.name("group"), "0.1.0")
    assert letter.attempts >= 6  # two in place, then two after each of two delays
    assert letter.last_failed_us - letter.first_failed_us >= 900_000
    assert not [name for name in letter.headers if name.startswith("retry_")]
    assert sorted(sink.texts) == ["a", "b"]


async def test_while_nothing_succeeds_the_batch_waits_in_place(fabric: Fabric) -> None:
    bus = fabric.bus()
    topic = await fabric.topic(bus)
    await bus.publish([message(topic, str(i)) for i in range(200)])
    away, calls = True, 0

    def store(batch: Batch) -> None:
        nonlocal calls
        calls += 1
        if away:
            raise Away("the store is gone")

    sink = Sink(store)
    worker = delaying(fabric, bus, sink, topic)
    async with running(worker.run):
        await until(lambda: worker.report().tally.retries[topic] >= 4, 20)
        assert calls <= 4 + SHORT.probes + 2  # neither a hot loop nor a walk through all records
        away = False
        await until(lambda: worker.lag_records == 0, 20)
    assert sink.texts == [str(i) for i in range(200)]
    assert worker.report().tally.delayed.total() == 0


async def test_what_lasts_too_long_gives_way_one_record_at_a_time(fabric: Fabric) -> None:
    bus = fabric.bus()
    topic = await fabric.topic(bus)
    await bus.publish([message(topic, "stuck"), message(topic, "stuck"), message(topic, "good")])

    def stuck(batch: Batch) -> None:
        if any(record.data == b"stuck" for record in batch.records):
            raise Away("for these two only")

    sink = Sink(stuck)
    # One probe is too few to reach the good one: as with a batch whose first thousand fail.
    worker = delaying(fabric, bus, sink, topic, Delays(steps_s=(60.0,), in_place_s=0.2, probes=1))
    async with running(worker.run):
        await until(lambda: sink.texts == ["good"], 30)
        assert worker.report().tally.delayed[topic] == 2
        await until(lambda: worker.lag_records == 0, 20)  # what waits for its time holds up no barrier
        waiting = [s for s in worker.report().partitions if s.topic == delayed_topic(fabric.room)]
        assert sum(s.lag_records for s in waiting) == 2


async def test_killed_while_it_waits_it_is_tried_by_whoever_comes_next(fabric: Fabric) -> None:
    bus = fabric.bus()
    topic = await fabric.topic(bus)
    await bus.publish([message(topic, "good"), message(topic, "later")])
    state = {"dies": False}

    def later(batch: Batch) -> None:
        if state["dies"]:
            raise Killed("kill -9")
        if any(record.data == b"later" for record in batch.records):
            raise Away("not yet")

    first, second = Sink(later), Sink()
    worker = delaying(fabric, bus, first, topic, Delays(steps_s=(2.0,), in_place_s=60.0))
    with pytest.raises(Killed):
        async with running(worker.run) as task:
            await until(lambda: worker.report().tally.delayed[topic] == 1 and worker.lag_records == 0, 20)
            state["dies"] = True  # at its next record, which is the delayed one
            await until(task.done, 20)
    async with running(delaying(fabric, fabric.bus(), second, topic).run):
        await until(lambda: second.texts == ["later"], 20)
    assert first.texts == ["good"]


async def test_what_one_group_delays_no_other_group_of_the_room_gets(fabric: Fabric) -> None:
    bus = fabric.bus()
    topic = await fabric.topic(bus)
    await bus.publish([message(topic, "good"), message(topic, "odd")])

    def odd(batch: Batch) -> None:
        if not batch.via and any(record.data == b"odd" for record in batch.records):
            raise Away("for this group")

    one, other = Sink(odd), Sink()
    workers = delaying(fabric, bus, one, topic), delaying(fabric, bus, other, topic, group="other")
    async with running(workers[0].run), running(workers[1].run):
        await until(lambda: sorted(one.texts) == ["good", "odd"] and other.texts == ["good", "odd"], 20)
        await until(lambda: all(s.lag_records == 0 for w in workers for s in w.report().partitions), 20)
    assert other.texts == ["good", "odd"]


async def test_a_foreign_record_keeps_its_identity_and_its_bytes_through_a_delay(fabric: Fabric) -> None:
    """What a producer without CloudEvents wrote is named by its first place, wherever it comes from."""
    bus = fabric.bus()
    topic = await fabric.topic(bus)
    plain = _Plain("", "", "", json.dumps({"a": 1}).encode())
    await bus.publish([message(topic, "good"), Message(topic, plain, key=b"k")])

    def foreign(batch: Batch) -> None:
        if not batch.via and any(record.data.startswith(b"{") for record in batch.records):
            raise Away("not yet")

    sink = Sink(foreign)
    worker = delaying(fabric, bus, sink, topic)
    async with running(worker.run):
        await until(lambda: len(sink.records) == 2, 20)
    came = sink.records[-1]
    assert came.event.id == f"{topic}:0:1"
    assert came.headers == (("binary", b"\xff\x00"),)


class _Plain(Event):
    def to_headers(self) -> list[tuple[str, bytes]]:
        return [("binary", b"\xff\x00")]


async def test_only_who_declares_it_delays(fabric: Fabric) -> None:
    bus = fabric.bus()
    topic = await fabric.topic(bus)
    await bus.publish([message(topic, "good"), message(topic, "odd")])
    away = True

    def odd(batch: Batch) -> None:
        if away and any(record.data == b"odd" for record in batch.records):
            raise Away("not yet")

    sink = Sink(odd)
    worker = Worker(
        bus, room=fabric.room, group=fabric.name("group"), handle=sink.handle, topics=[topic], max_attempts=1
    )
    async with running(worker.run):
        await until(lambda: worker.report().tally.retries[topic] >= 3, 20)
        assert sink.texts == []  # in order: the second one is not overtaken, the first one comes with it
        away = False
        await until(lambda: sink.texts == ["good", "odd"], 20)
