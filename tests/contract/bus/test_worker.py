"""What a worker promises, over the twin and over Kafka."""

import asyncio

import pytest
from millrace.bus.delays import handing_back
from millrace.bus.effects import Effects
from millrace.bus.events import RETRY_TOPIC_HEADER, Batch, Event, Message, derive_id
from millrace.bus.kafka import KafkaBus
from millrace.bus.ports import Bus, TopicSpec
from millrace.bus.topics import deadletter_topic, retry_topic
from millrace.bus.worker import Worker
from millrace.wire.common.v1.common_pb2 import DeadLetter

from tests.contract.bus.conftest import Fabric, message
from tests.contract.bus.support import Away, Killed, Poison, Sink, everything, running
from tests.support.poll import until


def worker_of(fabric: Fabric, bus: Bus, sink: Sink, topic: str, **settings) -> Worker:
    return Worker(bus, room=fabric.room, group=fabric.name("group"), handle=sink.handle, topics=[topic], **settings)


async def test_every_record_is_handled_in_order_and_lag_returns_to_zero(fabric: Fabric) -> None:
    bus = fabric.bus()
    topic = await fabric.topic(bus, partitions=2)
    await bus.publish([message(topic, str(i), key=str(i % 5)) for i in range(1000)])
    sink = Sink()
    worker = worker_of(fabric, bus, sink, topic, max_records=100)
    assert worker.lag_records > 0
    async with running(worker.run):
        await until(lambda: len(sink.records) == 1000 and worker.lag_records == 0, 20)
        assert worker.state == "running"
    assert worker.handled_records == 1000
    assert all(len(batch.records) <= 100 for batch in sink.batches)
    for partition in (0, 1):
        numbers = [int(r.data) for r in sink.records if r.partition == partition]
        assert numbers == sorted(numbers)


async def test_records_that_are_gathered_come_at_once_to_who_is_in_a_hurry(fabric: Fabric) -> None:
    bus = fabric.bus()
    topic = await fabric.topic(bus)
    sink = Sink()
    worker = worker_of(fabric, bus, sink, topic, gather_ms=600_000)
    async with running(worker.run):
        await until(lambda: worker.state == "running" and worker.lag_records == 0, 20)
        await bus.publish([message(topic, "first")])
        await until(lambda: sink.texts == ["first"], 20)  # what comes after a pause is not held back
        for i in range(5):
            await bus.publish([message(topic, str(i))])
        await worker.learn_lag()
        # What waits is known, gathered or not.
        await until(lambda: worker.lag_records + len(sink.records) == 6, 20)
        worker.hurry()
        await until(lambda: len(sink.records) == 6 and worker.lag_records == 0, 20)
    assert sink.texts == ["first", "0", "1", "2", "3", "4"]
    if isinstance(bus, KafkaBus):
        assert [len(batch.records) for batch in sink.batches] == [1, 5]


async def test_a_stop_and_a_new_member_while_records_are_gathered_lose_nothing(fabric: Fabric) -> None:
    bus = fabric.bus()
    topic = await fabric.topic(bus, partitions=2)
    sinks = [Sink(), Sink()]
    first, second = (worker_of(fabric, bus, sink, topic, gather_ms=600_000) for sink in sinks)

    def handled() -> set[str]:
        return {*sinks[0].texts, *sinks[1].texts}

    async with running(first.run):
        await bus.publish([message(topic, f"a{p}", partition=p) for p in (0, 1)])
        await until(lambda: handled() == {"a0", "a1"}, 20)
        async with running(second.run):
            first.hurry()  # a member that rests leaves its group in its next poll at the latest
            await until(lambda: first.assignment and second.assignment, 30)
            await bus.publish([message(topic, f"b{p}", partition=p) for p in (0, 1)])

            def all_came() -> bool:
                first.hurry()
                second.hurry()
                return handled() == {"a0", "a1", "b0", "b1"}

            await until(all_came, 20)
    await bus.publish([message(topic, f"c{p}", partition=p) for p in (0, 1)])
    third = Sink()
    async with running(worker_of(fabric, bus, third, topic, gather_ms=600_000).run):
        await until(lambda: len(third.records) >= 2, 20)
    assert set(third.texts) == {"c0", "c1"}  # what was handled before a rest is committed before it


async def test_killed_between_effects_and_commit_the_batch_comes_again(fabric: Fabric) -> None:
    bus = fabric.bus()
    topic = await fabric.topic(bus)
    await bus.publish([message(topic, text) for text in "abc"])
    seen: list[str] = []

    async def effect_then_die(batch: Batch, effects: Effects) -> None:
        seen.extend(record.data.decode() for record in batch.records)
        raise Killed("kill -9")

    first = Worker(bus, room=fabric.room, group=fabric.name("group"), handle=effect_then_die, topics=[topic])
    with pytest.raises(Killed):
        await first.run()
    assert seen
    sink = Sink()
    async with running(worker_of(fabric, fabric.bus(), sink, topic).run):
        await until(lambda: len(sink.records) == 3, 20)
    assert sink.texts == list("abc")


async def test_what_was_committed_does_not_come_again(fabric: Fabric) -> None:
    bus = fabric.bus()
    topic = await fabric.topic(bus)
    await bus.publish([message(topic, "old")])
    first, second = Sink(), Sink()
    worker = worker_of(fabric, bus, first, topic)
    async with running(worker.run):
        await until(lambda: first.texts == ["old"] and worker.lag_records == 0, 20)
    await bus.publish([message(topic, "new")])
    async with running(worker_of(fabric, bus, second, topic).run):
        await until(lambda: second.texts, 20)
    assert second.texts == ["new"]


async def test_messages_of_the_handler_carry_their_cause_and_come_before_the_commit(fabric: Fabric) -> None:
    bus = fabric.bus()
    topic, out = await fabric.topic(bus), await fabric.topic(bus, "out")
    await bus.publish([message(topic, "cause")])

    async def answer(batch: Batch, effects: Effects) -> None:
        for record in batch.records:
            cause = record.event.id
            event = Event(id=derive_id(cause, "answer"), type="t", source="s", data=b"", causation_id=cause)
            effects.publish(Message(out, event))

    worker = Worker(bus, room=fabric.room, group=fabric.name("group"), handle=answer, topics=[topic])
    async with running(worker.run):
        (produced,) = await everything(bus, out, 1)
    (consumed,) = await everything(bus, topic, 1)
    assert produced.event.causation_id == consumed.event.id
    assert produced.event.id == derive_id(consumed.event.id, "answer")


async def test_only_the_poison_goes_to_the_dead_letters(fabric: Fabric) -> None:
    bus = fabric.bus()
    topic = await fabric.topic(bus)
    sent = [message(topic, str(i), key=str(i)) for i in range(40)]
    await bus.publish(sent)

    def refuse(batch: Batch) -> None:
        if any(record.data in (b"7", b"31") for record in batch.records):
            raise Poison("seven and thirty-one are not numbers here")

    sink = Sink(refuse)
    worker = worker_of(fabric, bus, sink, topic)
    async with running(worker.run):
        await until(lambda: worker.dead_letters == 2 and worker.lag_records == 0, 20)
        letters = await everything(bus, deadletter_topic(fabric.room), 2)
    assert sink.texts == [str(i) for i in range(40) if i not in (7, 31)]
    letter = DeadLetter.FromString(letters[0].data)
    assert (letter.topic, letter.offset, letter.key, letter.payload) == (topic, 7, b"7", b"7")
    assert (letter.error, letter.room) == ("Poison", fabric.room)
    assert letter.headers["ce_id"] == sent[7].event.id == letters[0].event.causation_id


async def test_a_record_whose_own_message_is_too_large_does_not_hold_up_its_neighbours(fabric: Fabric) -> None:
    bus = fabric.bus()
    topic, out = await fabric.topic(bus, partitions=2), await fabric.topic(bus, "out")
    await bus.publish([message(topic, str(i), partition=i % 2) for i in range(20)])

    async def grow(batch: Batch, effects: Effects) -> None:
        for record in batch.records:
            data = bytes(5_000_000) if record.data == b"7" else record.data
            event = Event(derive_id(record.event.id, "grown"), "grown", "tests", data)
            effects.publish(Message(out, event, key=b"k"))

    worker = Worker(bus, room=fabric.room, group=fabric.name("group"), handle=grow, topics=[topic])
    sink = Sink()
    after = Worker(bus, room=fabric.room, group=fabric.name("after"), handle=sink.handle, topics=[out])
    async with running(worker.run), running(after.run):
        await until(lambda: worker.handled_records == 20 and worker.dead_letters == 1, 30)
        # What was sent together with the refused one may have arrived, and comes again under its id.
        await until(lambda: set(sink.texts) == {str(i) for i in range(20)} - {"7"}, 20)
    by_id = {record.event.id: record.data for record in sink.records}
    assert len(by_id) == 19
    (letter,) = [DeadLetter.FromString(r.data) for r in await everything(bus, deadletter_topic(fabric.room), 1)]
    assert (letter.error, letter.payload) == ("MessageTooLarge", b"7")


async def test_an_unexplained_failure_is_tried_again_and_then_rejected(fabric: Fabric) -> None:
    bus = fabric.bus()
    topic = await fabric.topic(bus)
    await bus.publish([message(topic, "odd")])
    calls = 0

    def stumble(batch: Batch) -> None:
        nonlocal calls
        calls += 1
        raise KeyError("odd")

    worker = worker_of(fabric, bus, Sink(stumble), topic, max_attempts=3)
    async with running(worker.run):
        await until(lambda: worker.dead_letters == 1, 20)
        (record,) = await everything(bus, deadletter_topic(fabric.room), 1)
    assert calls == 3
    assert DeadLetter.FromString(record.data).attempts == 3


async def test_a_failure_worth_a_retry_holds_the_batch_and_shows_in_the_state(fabric: Fabric) -> None:
    bus = fabric.bus()
    topic = await fabric.topic(bus)
    await bus.publish([message(topic, "patience")])
    away = True

    def store(batch: Batch) -> None:
        if away:
            raise Away("the store is gone")

    sink = Sink(store)
    worker = worker_of(fabric, bus, sink, topic, max_attempts=1)
    async with running(worker.run):
        await until(lambda: worker.state.startswith("retrying: Away"), 20)
        assert worker.lag_records == 1
        away = False
        await until(lambda: sink.texts == ["patience"] and worker.lag_records == 0, 20)
    assert worker.dead_letters == 0


async def test_a_record_that_the_handler_rejects_leaves_the_rest_standing(fabric: Fabric) -> None:
    bus = fabric.bus()
    topic = await fabric.topic(bus)
    await bus.publish([message(topic, text) for text in ("good", "bad")])

    async def judge(batch: Batch, effects: Effects) -> None:
        for record in batch.records:
            if record.data == b"bad":
                effects.reject(record, "Bad", "it says so itself")

    worker = Worker(bus, room=fabric.room, group=fabric.name("group"), handle=judge, topics=[topic])
    async with running(worker.run):
        (record,) = await everything(bus, deadletter_topic(fabric.room), 1)
    assert DeadLetter.FromString(record.data).reason == "it says so itself"


async def test_a_dead_letter_handed_back_comes_under_its_first_topic_and_id(fabric: Fabric) -> None:
    bus = fabric.bus()
    topic = await fabric.topic(bus, partitions=2)
    await bus.ensure_topics([TopicSpec(retry_topic(fabric.room))])
    again = Event(id="the-id", type="t", source="s", data=b"again", extensions={RETRY_TOPIC_HEADER: topic})
    stray = Event(id="stray", type="t", source="s", data=b"stray", extensions={RETRY_TOPIC_HEADER: "not-ours"})
    await bus.publish([Message(retry_topic(fabric.room), event, key=b"k") for event in (stray, again)])
    sink = Sink()
    worker = worker_of(fabric, bus, sink, topic)
    async with running(worker.run):
        await until(lambda: sink.records and worker.lag_records == 0, 20)
    (record,) = sink.records
    assert (record.topic, record.via, record.offset, record.event.id) == (topic, retry_topic(fabric.room), 1, "the-id")
    assert (record.position_topic, RETRY_TOPIC_HEADER in record.event.extensions) == (record.via, False)


async def test_a_dead_letter_that_comes_back_where_nobody_reads_its_topic_is_one_again(fabric: Fabric) -> None:
    bus = fabric.bus()
    topic, gone = await fabric.topic(bus), await fabric.topic(bus, "gone")
    await bus.ensure_topics([TopicSpec(retry_topic(fabric.room))])
    worker = worker_of(fabric, bus, Sink(), topic)
    group = fabric.name("group")
    letters = [
        DeadLetter(room=fabric.room, topic=gone, offset=7, attempts=3, first_failed_us=9, payload=b"kept", group=by)
        for by in ("another", group)
    ]
    for letter in letters:
        event = Event("the-id", "t", "s", letter.payload, extensions=handing_back(letter))
        await bus.publish([Message(retry_topic(fabric.room), event, key=b"k")])
    async with running(worker.run):
        (record,) = await everything(bus, deadletter_topic(fabric.room), 1)
        await until(lambda: worker.lag_records == 0, 20)
    again = DeadLetter.FromString(record.data)
    assert (again.topic, again.offset, again.payload, again.group) == (gone, 7, b"kept", group)
    assert (again.error, again.first_failed_us) == ("NotConsumed", 9) and gone in again.reason
    assert worker.dead_letters == 1 and len(await everything(bus, deadletter_topic(fabric.room), 1)) == 1


async def test_the_room_may_say_that_fresh_partitions_begin_before_what_is_committed(fabric: Fabric) -> None:
    bus = fabric.bus()
    topic = await fabric.topic(bus)
    await bus.publish([message(topic, str(i)) for i in range(10)])

    async def at_seven(places: list[tuple[str, int]]) -> dict[tuple[str, int], int]:
        return {place: 7 for place in places if place[0] == topic}

    # Nothing is committed: what has taken effect before the room's own place may not have been produced.
    first, second = Sink(), Sink()
    worker = worker_of(fabric, bus, first, topic, start_offsets=at_seven)
    async with running(worker.run):
        await until(lambda: worker.lag_records == 0 and first.records, 20)
    assert first.texts == [str(i) for i in range(10)]
    worker = worker_of(fabric, bus, second, topic, start_offsets=at_seven)
    async with running(worker.run):
        await until(lambda: worker.lag_records == 0 and second.records, 20)
        assert second.texts == ["7", "8", "9"]


async def test_topics_may_be_added_while_running(fabric: Fabric) -> None:
    bus = fabric.bus()
    first, second = await fabric.topic(bus, "first"), await fabric.topic(bus, "second")
    await bus.publish([message(first, "1"), message(second, "2")])
    sink = Sink()
    worker = Worker(bus, room=fabric.room, group=fabric.name("group"), handle=sink.handle)
    async with running(worker.run):
        assert worker.lag_records == 0
        await worker.set_topics([first])
        assert worker.lag_records > 0
        await until(lambda: sink.texts == ["1"] and worker.lag_records == 0, 20)
        await worker.set_topics([first, second])
        await until(lambda: sink.texts == ["1", "2"] and worker.lag_records == 0, 20)


async def test_members_of_a_group_share_and_inherit(fabric: Fabric) -> None:
    bus = fabric.bus()
    topic = await fabric.topic(bus, partitions=2)
    one, two = Sink(), Sink()
    staying, leaving = worker_of(fabric, bus, one, topic), worker_of(fabric, fabric.bus(), two, topic)

    def of_topic(worker: Worker) -> int:
        return sum(place[0] == topic for place in worker.assignment)

    async with running(staying.run):
        async with running(leaving.run):
            await until(lambda: of_topic(staying) == of_topic(leaving) == 1, 30)
            await bus.publish([message(topic, str(i), partition=i % 2) for i in range(20)])
            await until(lambda: {r.data for r in [*one.records, *two.records]} >= {b"%d" % i for i in range(20)}, 20)
            assert one.records
            assert two.records
        await until(lambda: of_topic(staying) == 2, 30)
        await bus.publish([message(topic, str(i), partition=i % 2) for i in range(20, 30)])
        await until(lambda: {r.data for r in one.records} >= {b"%d" % i for i in range(20, 30)}, 20)


async def test_a_partition_that_comes_back_counts_as_waiting_until_its_start_is_known(fabric: Fabric) -> None:
    bus = fabric.bus()
    topic = await fabric.topic(bus, partitions=2)
    await bus.publish([message(topic, str(p), partition=p) for p in range(2)])
    go_on = asyncio.Event()
    go_on.set()

    async def from_the_beginning(fresh: list[tuple[str, int]]) -> dict[tuple[str, int], int]:
        await go_on.wait()
        return dict.fromkeys([place for place in fresh if place[0] == topic], 0)

    def shares(worker: Worker) -> int:
        return sum(place[0] == topic for place in worker.assignment)

    sink = Sink()
    staying = worker_of(fabric, bus, sink, topic, start_offsets=from_the_beginning)
    leaving = worker_of(fabric, fabric.bus(), Sink(), topic)
    async with running(staying.run):
        await until(lambda: len(sink.records) == 2 and staying.lag_records == 0, 20)
        async with running(leaving.run):
            await until(lambda: shares(staying) == shares(leaving) == 1, 30)
            await until(lambda: staying.lag_records == 0, 20)
            go_on.clear()  # what it holds, and where it is to begin again, nobody can say for a while
        await until(lambda: shares(staying) == 2, 30)
        handled = len(sink.records)
        assert staying.lag_records > 0
        go_on.set()
        await until(lambda: len(sink.records) >= handled + 2 and staying.lag_records == 0, 20)


async def test_a_stop_lets_the_batch_in_hand_finish(fabric: Fabric) -> None:
    bus = fabric.bus()
    topic = await fabric.topic(bus)
    await bus.publish([message(topic, "in hand")])
    begun, go_on = asyncio.Event(), asyncio.Event()
    finished: list[str] = []

    async def slow(batch: Batch, effects: Effects) -> None:
        begun.set()
        await go_on.wait()
        finished.extend(record.data.decode() for record in batch.records)

    task = asyncio.ensure_future(
        Worker(bus, room=fabric.room, group=fabric.name("group"), handle=slow, topics=[topic]).run()
    )
    await asyncio.wait_for(begun.wait(), 20)
    task.cancel()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert finished == ["in hand"]
    sink = Sink()
    worker = worker_of(fabric, bus, sink, topic)
    async with running(worker.run):
        await until(lambda: worker.lag_records == 0, 20)
    assert sink.texts == []
