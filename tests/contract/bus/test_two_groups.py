"""Two groups of one process: each sees every record once, in order; what one has read the other need not fetch."""

import asyncio
import random
from collections import defaultdict
from collections.abc import Mapping

import pytest
from millrace.bus.effects import Effects
from millrace.bus.events import Batch
from millrace.bus.kafka import KafkaBus
from millrace.bus.ports import Bus
from millrace.bus.worker import Worker

from tests.contract.bus.conftest import Fabric, message
from tests.contract.bus.support import Sink, running
from tests.support.poll import until

RECORDS = 12_000
PARTITIONS = 3


class Slow(Sink):
    """Takes turns with the others at random places."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._chance = random.Random(seed)

    async def handle(self, batch: Batch, effects: Effects) -> None:
        for _ in range(self._chance.randrange(20)):
            await asyncio.sleep(0)
        await super().handle(batch, effects)


def workers(fabric: Fabric, bus: Bus, sinks: Mapping[str, Sink], topic: str) -> list[Worker]:
    """`online`, which nobody holds up, and `history`, which gathers."""
    return [
        Worker(
            bus,
            room=fabric.room,
            group=fabric.name(name),
            handle=sink.handle,
            topics=[topic],
            max_records=500,
            gather_ms=20 if name == "history" else 0,
        )
        for name, sink in sinks.items()
    ]


async def fill(bus: Bus, topic: str, first: int, last: int) -> None:
    await bus.publish([message(topic, str(i), partition=i % PARTITIONS) for i in range(first, last)])


def shared(sinks: Mapping[str, Sink]) -> int:
    """Records that were read once for both groups."""
    online, history = ({id(record) for record in sinks[name].records} for name in ("online", "history"))
    return len(online & history)


def whole_and_in_order(sink: Sink, count: int = RECORDS) -> bool:
    by_partition = defaultdict(list)
    for record in sink.records:
        by_partition[record.partition].append(record.offset)
    assert all(offsets == list(range(len(offsets))) for offsets in by_partition.values())
    return sorted(map(int, sink.texts)) == list(range(count))


async def test_each_group_sees_everything_once_and_in_order(fabric: Fabric) -> None:
    bus = fabric.bus()
    topic = await fabric.topic(bus, partitions=PARTITIONS)
    await fill(bus, topic, 0, RECORDS // 2)
    sinks = {"online": Slow(1), "history": Slow(2)}
    online, history = workers(fabric, bus, sinks, topic)
    async with running(online.run), running(history.run):
        for first in range(RECORDS // 2, RECORDS, 1_000):
            await fill(bus, topic, first, first + 1_000)
        await until(lambda: all(len(sink.records) >= RECORDS for sink in sinks.values()), 60)
        await until(lambda: online.lag_records == history.lag_records == 0, 20)
    assert all(whole_and_in_order(sink) for sink in sinks.values())


@pytest.mark.stack
async def test_who_gathers_reads_hardly_anything_for_itself(stack) -> None:
    fabric = Fabric(lambda: KafkaBus(stack.kafka, "contract"))
    bus = fabric.bus()
    topic = await fabric.topic(bus, partitions=PARTITIONS)
    await fill(bus, topic, 0, RECORDS)
    sinks = {"online": Slow(1), "history": Sink()}
    online, history = workers(fabric, bus, sinks, topic)
    async with running(online.run), running(history.run):
        await until(lambda: all(len(sink.records) >= RECORDS for sink in sinks.values()), 60)
    assert all(whole_and_in_order(sink) for sink in sinks.values())
    assert shared(sinks) > RECORDS * 3 // 4
    await bus.stop()


async def test_a_group_that_stands_still_is_not_waited_for_and_goes_on_by_itself(fabric: Fabric) -> None:
    bus = fabric.bus()
    topic = await fabric.topic(bus, partitions=PARTITIONS)
    go_on = asyncio.Event()
    sinks = {"online": Slow(3), "history": Slow(4)}

    def held(batch: Batch) -> None:
        if not go_on.is_set():
            raise ConnectionError("its store is away")

    sinks["online"].fail = held
    online, history = workers(fabric, bus, sinks, topic)
    async with running(online.run), running(history.run):
        await fill(bus, topic, 0, RECORDS)
        await until(lambda: len(sinks["history"].records) >= RECORDS, 60)
        assert not sinks["online"].records
        go_on.set()
        await until(lambda: len(sinks["online"].records) >= RECORDS, 60)
    assert all(whole_and_in_order(sink) for sink in sinks.values())


async def test_processes_that_come_and_go_leave_no_gap_in_either_group(fabric: Fabric) -> None:
    bus = fabric.bus()
    topic = await fabric.topic(bus, partitions=PARTITIONS)
    staying = {"online": Slow(5), "history": Slow(6)}
    leaving = {"online": Slow(7), "history": Slow(8)}
    online, history = workers(fabric, bus, staying, topic)
    away, away_too = workers(fabric, fabric.bus(), leaving, topic)

    def came(name: str) -> int:
        return len({record.data for sinks in (staying, leaving) for record in sinks[name].records})

    async with running(online.run), running(history.run):
        await fill(bus, topic, 0, RECORDS // 3)
        async with running(away.run), running(away_too.run):
            await until(lambda: away.assignment and away_too.assignment, 30)
            await fill(bus, topic, RECORDS // 3, 2 * RECORDS // 3)
            await until(lambda: leaving["online"].records and leaving["history"].records, 30)
        await fill(bus, topic, 2 * RECORDS // 3, RECORDS)
        await until(lambda: came("online") == came("history") == RECORDS, 60)
    assert came("online") == came("history") == RECORDS  # what moved while it was in hand came twice, nothing else
