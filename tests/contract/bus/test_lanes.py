"""Partitions side by side, batches cut by count and bytes, and what a worker reports of them."""

import asyncio

from millrace.bus.effects import Effects
from millrace.bus.events import Batch
from millrace.bus.worker import Worker

from tests.contract.bus.conftest import Fabric, message
from tests.contract.bus.support import Away, Sink, running
from tests.support.poll import until


async def test_a_slow_partition_does_not_hold_up_the_others(fabric: Fabric) -> None:
    bus = fabric.bus()
    topic = await fabric.topic(bus, partitions=3)
    await bus.publish([message(topic, f"{p}-0", partition=p) for p in range(3)])
    go_on = asyncio.Event()
    seen: dict[int, list[str]] = {0: [], 1: [], 2: []}

    async def slow_in_one(batch: Batch, effects: Effects) -> None:
        if batch.partition == 0:
            await go_on.wait()
        seen[batch.partition] += [record.data.decode() for record in batch.records]

    worker = Worker(bus, room=fabric.room, group=fabric.name("group"), handle=slow_in_one, topics=[topic])
    async with running(worker.run):
        for number in range(1, 6):  # each round is read after the last one is handled: not one lucky poll
            await bus.publish([message(topic, f"{p}-{number}", partition=p) for p in range(3)])
            await until(lambda n=number: all(seen[p][-1:] == [f"{p}-{n}"] for p in (1, 2)), 20)
        assert seen[0] == []
        await worker.learn_lag()
        await until(lambda: worker.lag_records == 6, 20)
        behind = {s.partition: s for s in worker.report().partitions if s.topic == topic}
        assert [behind[p].lag_records for p in range(3)] == [6, 0, 0]
        assert behind[0].oldest_s > 0.0
        assert behind[1].oldest_s == behind[2].oldest_s == 0.0
        go_on.set()
        await until(lambda: worker.lag_records == 0, 20)
    assert seen == {p: [f"{p}-{n}" for n in range(6)] for p in range(3)}


async def test_a_partition_whose_store_is_away_waits_alone_and_in_order(fabric: Fabric) -> None:
    bus = fabric.bus()
    topic = await fabric.topic(bus, partitions=2)
    await bus.publish([message(topic, f"{p}-{n}", partition=p) for n in range(50) for p in range(2)])
    away = True

    def one_shard(batch: Batch) -> None:
        if away and batch.partition == 0:
            raise Away("the shard of partition 0 is gone")

    sink = Sink(one_shard)
    worker = Worker(bus, room=fabric.room, group=fabric.name("group"), handle=sink.handle, topics=[topic])
    async with running(worker.run):
        await until(lambda: len(sink.records) == 50 and worker.state.startswith("retrying: Away"), 20)
        assert {record.partition for record in sink.records} == {1}
        await until(lambda: worker.report().tally.retries[topic] >= 3, 20)
        away = False
        await until(lambda: worker.lag_records == 0 and worker.state == "running", 20)
    assert [text for text in sink.texts if text.startswith("0-")] == [f"0-{n}" for n in range(50)]
    assert worker.dead_letters == 0


async def test_calls_of_the_handler_are_bounded(fabric: Fabric) -> None:
    bus = fabric.bus()
    topic = await fabric.topic(bus, partitions=6)
    await bus.publish([message(topic, str(p), partition=p) for p in range(6)])
    at_once = most = 0
    go_on = asyncio.Event()

    async def count(batch: Batch, effects: Effects) -> None:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        await go_on.wait()
        at_once -= 1

    worker = Worker(bus, room=fabric.room, group=fabric.name("group"), handle=count, topics=[topic], parallel=2)
    async with running(worker.run):
        await until(lambda: most == 2, 20)
        await worker.learn_lag()
        await until(lambda: worker.lag_records == 6, 20)
        go_on.set()
        await until(lambda: worker.lag_records == 0, 20)
    assert most == 2


async def test_batches_are_cut_by_bytes(fabric: Fabric) -> None:
    bus = fabric.bus()
    topic = await fabric.topic(bus)
    sizes = [400, 400, 400, 2000, 100, 100]
    await bus.publish([message(topic, "x" * size, key="") for size in sizes])
    sink = Sink()
    worker = Worker(
        bus, room=fabric.room, group=fabric.name("group"), handle=sink.handle, topics=[topic], max_bytes=1000
    )
    async with running(worker.run):
        await until(lambda: len(sink.records) == len(sizes) and worker.lag_records == 0, 20)
    assert [len(record.data) for record in sink.records] == sizes
    assert all(sum(r.size_bytes for r in b.records) <= 1000 or len(b.records) == 1 for b in sink.batches)


async def test_what_a_portion_has_done_is_not_done_again_when_the_next_one_dies(fabric: Fabric) -> None:
    bus = fabric.bus()
    topic = await fabric.topic(bus)
    await bus.publish([message(topic, text) for text in ("aaaa", "bbbb", "cccc")])
    away = True

    def second(batch: Batch) -> None:
        if away and batch.records[0].data == b"bbbb":
            raise Away("not now")

    first, again = Sink(second), Sink()
    worker = Worker(bus, room=fabric.room, group=fabric.name("g"), handle=first.handle, topics=[topic], max_bytes=5)
    async with running(worker.run):
        await until(lambda: worker.state.startswith("retrying"), 20)
    assert first.texts == ["aaaa"]
    after = Worker(fabric.bus(), room=fabric.room, group=fabric.name("g"), handle=again.handle, topics=[topic])
    async with running(after.run):
        await until(lambda: len(again.records) == 2, 20)
    assert again.texts == ["bbbb", "cccc"]


async def test_a_rebalance_while_a_batch_is_in_hand_does_not_hand_it_out_twice_here(fabric: Fabric) -> None:
    """The member that stays has the partition again after the rebalance: its lane goes on, no second one begins."""
    bus = fabric.bus()
    topic = await fabric.topic(bus, partitions=2)
    await bus.publish([message(topic, f"{p}", partition=p) for p in range(2)])
    go_on = asyncio.Event()
    began: list[str] = []
    done: list[str] = []

    async def slow(batch: Batch, effects: Effects) -> None:
        began.extend(record.data.decode() for record in batch.records)
        await go_on.wait()
        done.extend(record.data.decode() for record in batch.records)

    def member(handle: Sink | None = None) -> Worker:
        with_bus = fabric.bus()
        chosen = handle.handle if handle else slow
        return Worker(with_bus, room=fabric.room, group=fabric.name("group"), handle=chosen, topics=[topic])

    staying, passing = member(), member(Sink())
    async with running(staying.run):
        await until(lambda: sorted(began) == ["0", "1"], 20)
        async with running(passing.run):
            await until(lambda: len(staying.assignment) < 3 and passing.assignment, 30)
        await until(lambda: len(staying.assignment) == 3, 30)  # both, and the way back of dead letters
        go_on.set()
        await until(lambda: staying.lag_records == 0, 20)
        assert sorted(began) == sorted(done) == ["0", "1"]
