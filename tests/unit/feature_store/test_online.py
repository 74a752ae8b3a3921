"""The way into the online store: compare-and-set, repeats, stale writers, an emptied store, new views, dead letters."""

from dataclasses import replace

import pytest
from millrace.bus.effects import Effects
from millrace.bus.events import Message
from millrace.wire.feature_store.v1.events_pb2 import LateEvent
from prometheus_client import REGISTRY

from services.feature_store.domain.values import Position
from services.feature_store.errors import StoreBehind
from services.feature_store.ports import Place, Write
from tests.support.poll import until
from tests.unit.feature_store.world import (
    HOUR_US,
    MINUTE_US,
    START_US,
    event,
    heartbeat,
    make,
    order,
    payment,
    running,
    values,
    with_view,
)

PAYMENTS = "data.shop.payments"
PLACE = Place("shop", "payments", "0", "habits@1")


def effects() -> Effects:
    return Effects("feature_store", lambda: 0)


async def contents(client) -> dict[bytes, bytes]:
    return {key: await client.get(key) for key in await client.keys()}


async def payments_in(world, *numbers: int, partition: int = 0) -> None:
    await world.publish(*(payment(n, START_US + n * MINUTE_US, float(n), partition=partition) for n in numbers))


async def reading(world, at_us: int, entity: str = "o1") -> dict[str, list]:
    return values(await world.store.reads.read("shop", [entity], (), at_us, 10.0))


async def test_a_swap_needs_the_expected_position(redis_client):
    world = await make(redis_client)
    first = Write(PLACE, None, Position(4, 70), {"ann": b"one"})
    assert await world.online.swap([first])
    assert not await world.online.swap([first])
    stale = Write(PLACE, Position(3, 60), Position(9, 90), {"ann": b"stale"})
    other = Write(replace_view(PLACE, "order@1"), None, Position(9, 90), {"o1": b"never"})
    assert not await world.online.swap([other, stale])
    positions, rows = await world.online.read([PLACE, other.place], [(PLACE, ["ann"]), (other.place, ["o1"])])
    assert positions == [Position(4, 70), None]
    assert rows == [[b"one"], [None]]


def replace_view(place: Place, view_id: str) -> Place:
    return place._replace(view_id=view_id)


async def test_a_repeated_batch_changes_nothing(redis_client):
    world = await make(redis_client)
    await payments_in(world, 1, 2, 3)
    batch = world.batch(PAYMENTS, 0)
    await world.store.online.start_offsets([(PAYMENTS, 0)])
    await world.store.online.handle(batch, effects())
    before = await contents(redis_client)
    await world.store.online.handle(batch, effects())
    await world.store.online.handle(batch.cut(1, 2), effects())
    assert await contents(redis_client) == before
    assert len(before) == 1 + 3 + 2  # a row of the customer, one per channel; a position per view


async def test_a_batch_that_overlaps_counts_only_what_is_new(redis_client):
    world = await make(redis_client)
    await payments_in(world, 1, 2, 3, 4)
    batch = world.batch(PAYMENTS, 0)
    await world.store.online.start_offsets([(PAYMENTS, 0)])
    await world.store.online.handle(batch.cut(0, 3), effects())
    await world.store.online.handle(batch.cut(1, 4), effects())
    await publish_order(world)
    answer = await reading(world, 0)
    assert answer["habits.payments_1h"] == [4]
    assert answer["habits.delay_sum_1h"] == [10]


async def publish_order(world) -> None:
    """An order of ann's in both partitions' time, applied by hand."""
    now_us = START_US + 30 * MINUTE_US
    await world.publish(order(1, START_US, partition=0), until_us=now_us)
    for topic in ("data.shop.orders", PAYMENTS):
        for partition in (0, 1):
            await world.store.online.start_offsets([(topic, partition)])
            await world.store.online.handle(world.batch(topic, partition), effects())


async def test_a_stale_worker_neither_writes_twice_nor_takes_anything_back(redis_client):
    """A zombie wakes up with a batch in hand that its successor has long applied."""
    zombie = await make(redis_client)
    successor = await make(redis_client, bus=zombie.bus)
    await payments_in(zombie, 1, 2)
    for world in (zombie, successor):
        await world.store.online.start_offsets([(PAYMENTS, 0)])
    old = zombie.batch(PAYMENTS, 0)
    await payments_in(zombie, 3, 4)
    await successor.store.online.handle(successor.batch(PAYMENTS, 0), effects())
    before = await contents(redis_client)
    await zombie.store.online.handle(old, effects())
    assert await contents(redis_client) == before


async def test_a_writer_that_was_overtaken_between_read_and_swap_starts_over(redis_client):
    world = await make(redis_client)
    rival = await make(redis_client, bus=world.bus)
    await payments_in(world, 1, 2, 3)
    batch = world.batch(PAYMENTS, 0)
    for one in (world, rival):
        await one.store.online.start_offsets([(PAYMENTS, 0)])
    real_swap, overtaken = world.online.swap, []

    async def swap(writes):
        if not overtaken:
            overtaken.append(True)
            await rival.store.online.handle(batch.cut(0, 2), effects())
        return await real_swap(writes)

    world.online.swap = swap
    await world.store.online.handle(batch, effects())
    await publish_order(world)
    assert overtaken
    assert (await reading(world, 0))["habits.delay_sum_1h"] == [6]


async def test_an_emptied_store_is_noticed_and_rebuilt_from_the_log(redis_client):
    world = await make(redis_client)
    async with running(world):
        await world.publish(order(1, START_US), until_us=START_US + HOUR_US)
        await payments_in(world, 1, 2)
        await world.publish(until_us=START_US + 2 * HOUR_US)
        wanted = await reading(world, START_US + 2 * HOUR_US)
        await redis_client.flushall()
        await world.publish(until_us=START_US + 2 * HOUR_US + 1)
        await until(lambda: world.store.consumers.online.state == "running" and not world.store.online.rewind.is_set())
        assert await reading(world, START_US + 2 * HOUR_US + 1) == wanted
        assert wanted["habits.payments_3h"] == [2]


async def test_a_worker_does_not_write_on_top_of_a_store_that_lost_rows(redis_client):
    world = await make(redis_client)
    await payments_in(world, 1, 2)
    await world.store.online.start_offsets([(PAYMENTS, 0)])
    await world.store.online.handle(world.batch(PAYMENTS, 0).cut(0, 1), effects())
    await redis_client.flushall()
    with pytest.raises(StoreBehind):
        await world.store.online.handle(world.batch(PAYMENTS, 0).cut(1, 2), effects())
    assert world.store.online.rewind.is_set()
    assert not await redis_client.keys()


async def test_a_new_view_is_fed_from_the_beginning_of_the_log(redis_client):
    world = await make(redis_client)
    async with running(world):
        await payments_in(world, 1, 2, 3)
        await world.publish(order(1, START_US), until_us=START_US + HOUR_US)
        assert (await reading(world, START_US + HOUR_US))["habits.payments_1h"] == [3]
        await world.learn(with_view(world.project, where="delay >= 2"), 2)
        await payments_in(world, 4)
        await world.publish(until_us=START_US + HOUR_US + 1)
        assert (await reading(world, START_US + HOUR_US + 1))["habits.payments_1h"] == [3]
        positions, _ = await world.online.read([PLACE, replace_view(PLACE, "habits@2")])
        assert positions[0] == positions[1]


async def test_late_events_are_reported_once_and_still_counted(redis_client):
    world = await make(redis_client)
    labels = {"project": "shop", "source": "payments"}
    before = REGISTRY.get_sample_value("millrace_late_events_total", labels) or 0
    async with running(world):
        await world.publish(order(1, START_US), payment(1, START_US, 2.0, late_us=2 * HOUR_US))
        await world.publish(until_us=START_US + 2 * HOUR_US)
        answer = await reading(world, START_US + 2 * HOUR_US)
        assert answer["habits.payments_3h"] == [1]
        [record] = await until(lambda: world.bus.records("data.late"))
        late = LateEvent.FromString(record.data)
        assert (late.event_id, late.lateness_us) == ("payment-1", 2 * HOUR_US)
        assert record.event.causation_id == "payment-1"
        counted = REGISTRY.get_sample_value("millrace_late_events_total", labels)
        assert counted == before + 1
    repeat = effects()
    for partition in (0, 1):
        await world.store.online.handle(world.batch(PAYMENTS, partition), repeat)
    # What was applied may not have been reported: it is reported again, and known by its id.
    assert [message.event.id for message in repeat.messages] == [record.event.id]


async def test_what_cannot_be_read_goes_to_the_dead_letters_and_its_neighbours_are_applied(redis_client):
    world = await make(redis_client)
    bad = event(PAYMENTS, "bad", {"order_id": "o9", "paid_at": START_US, "customer": 7}, START_US, START_US + 1)
    unstamped = replace(bad, event=replace(bad.event, id="unstamped", data=b"{}", extensions={}))
    row = {"order_id": "o9", "paid_at": 2**70, "customer": "ann"}
    huge = event(PAYMENTS, "huge", row, START_US, START_US + 1, partition=0)
    distant = event(PAYMENTS, "distant", row | {"paid_at": START_US}, 2**70, START_US + 1, partition=0)
    async with running(world):
        await payments_in(world, 1)
        await world.publish(replace(bad, partition=0), replace(unstamped, partition=0), huge, distant)
        await payments_in(world, 2)
        await world.publish(order(1, START_US), until_us=START_US + HOUR_US)
        assert (await reading(world, START_US + HOUR_US))["habits.payments_1h"] == [2]
        letters = world.bus.records("deadletter.feature_store")
        assert {record.event.causation_id for record in letters} == {"bad", "unstamped", "huge", "distant"}


async def test_a_record_handed_back_is_applied_once_however_often_it_comes(redis_client):
    world = await make(redis_client)
    late = payment(2, START_US + MINUTE_US, 5.0)
    back = replace(
        late,
        topic="retry.feature_store",
        event=replace(late.event, extensions={**late.event.extensions, "retry_topic": PAYMENTS}),
    )
    async with running(world):
        await payments_in(world, 1)
        await world.publish(order(1, START_US), until_us=START_US + HOUR_US)
        assert (await reading(world, START_US + HOUR_US))["habits.delay_sum_1h"] == [1]
        await world.publish(back, back)
        await until(lambda: has_sum(world, 6))
        await world.publish(back)
        await until(lambda: world.store.consumers.online.lag_records == 0)
        assert await has_sum(world, 6)
        await until(lambda: "payment-2" in {row["_event_id"] for rows in world.history.rows.values() for row in rows})


async def has_sum(world, expected: float) -> bool:
    return (await reading(world, 0))["habits.delay_sum_1h"] == [expected]


async def test_a_pause_only_moves_the_positions(redis_client):
    world = await make(redis_client)
    await payments_in(world, 1)
    await world.store.online.start_offsets([(PAYMENTS, 0)])
    await world.store.online.handle(world.batch(PAYMENTS, 0), effects())
    before = await contents(redis_client)
    beat: Message = heartbeat(PAYMENTS, 0, START_US + HOUR_US)
    await world.bus.publish([beat])
    await world.store.online.handle(world.batch(PAYMENTS, 0).cut(1, 2), effects())
    after = await contents(redis_client)
    assert sorted(key for key in after if after[key] != before[key]) == [
        b"millrace:{shop/payments/0}:channel_habits@1:at",
        b"millrace:{shop/payments/0}:habits@1:at",
    ]
    positions, _ = await world.online.read([PLACE])
    assert positions == [Position(1, START_US + HOUR_US)]
