"""History: held for a moment, written together, read again after a crash, never twice."""

import asyncio
from contextlib import suppress
from dataclasses import replace

import pytest
from millrace.bus.effects import Effects
from millrace.bus.events import Batch
from millrace.definitions.model import Field, FieldType
from millrace.runtime.errors import Unavailable
from msgspec import structs

from tests.support.poll import until
from tests.unit.feature_store.world import HOUR_US, MINUTE_US, START_US, ListHistory, make, payment, running

PAYMENTS = "data.shop.payments"


def table_of(world, source: str = "payments"):
    return world.store.feeds.project("shop").sources[source].table


async def payments_in(world, *numbers: int, partition: int = 0, until_us: int = 0) -> None:
    messages = (payment(n, START_US + n * MINUTE_US, float(n), partition=partition) for n in numbers)
    await world.publish(*messages, until_us=until_us)


async def test_a_pause_finds_history_whole(redis_client):
    world = await make(redis_client)
    async with running(world):
        await payments_in(world, *range(20), until_us=START_US + HOUR_US)
        await until(lambda: world.store.watermarks_us() == {"shop": START_US + HOUR_US})
        await until(lambda: world.history_has(START_US + HOUR_US))
        rows = world.history.rows[table_of(world)]
        assert len(rows) == 20
        assert rows[3]["_visible_us"] - rows[3]["_event_us"] == MINUTE_US
        assert (rows[3]["customer"], rows[3]["delay"]) == ("ann", 3.0)
        assert world.store.writer.held_rows == 0


async def test_a_batch_is_decoded_once_for_both_groups_and_each_has_its_own_dead_letters(redis_client):
    world = await make(redis_client)
    reader = world.store.feeds.project("shop").sources["payments"].reader
    await payments_in(world, 1, 2, 3)
    good = world.batch(PAYMENTS, 0)
    first = reader.decode(good, lambda *refused: pytest.fail(str(refused)))
    assert reader.decode(good, lambda *refused: pytest.fail(str(refused))) is first
    assert reader.decode(good.cut(0, 2), lambda *refused: None) is not first
    spoilt = structs.replace(good.records[1], data=b"no json")
    bad = good.with_records((good.records[0], spoilt, good.records[2]))
    for _ in range(2):
        refused: list[bytes] = []
        decoded = reader.decode(bad, lambda record, *why, told=refused: told.append(record.data))
        assert refused == [b"no json"]
        assert len(decoded.events) == 2


async def test_the_watermark_waits_for_the_insert(redis_client):
    """While ClickHouse is away nothing is lost, and nothing is claimed."""
    world = await make(redis_client, history=ListHistory(failures=2))
    writer, table = world.store.writer, table_of(world)
    await payments_in(world, 1, 2, until_us=START_US + HOUR_US)
    await world.store.history.handle(world.batch(PAYMENTS, 0), Effects("feature_store", lambda: 0))
    assert writer.visible_us(table, 0) == 0
    assert writer.held_rows == 2
    await writer.flush()
    assert writer.visible_us(table, 0) == START_US + HOUR_US
    assert writer.held_rows == 0
    assert world.history.inserts == [2]
    assert writer.problem == ""


async def test_rows_that_could_not_be_written_are_kept_in_their_place(redis_client):
    """A failure that is no pause ends the task; the rows stay, and go in before what came after them."""
    world = await make(redis_client)
    writer, real_insert = world.store.writer, world.history.insert

    async def refuse(table, rows):
        raise ValueError("no such column")

    world.history.insert = refuse
    await payments_in(world, 1, 2, 3)
    batch = world.batch(PAYMENTS, 0)
    await world.store.history.handle(batch.cut(0, 2), Effects("feature_store", lambda: 0))
    with pytest.raises(ValueError):
        await writer.flush()
    assert writer.held_rows == 2
    await world.store.history.handle(batch.cut(2, 3), Effects("feature_store", lambda: 0))
    world.history.insert = real_insert
    await writer.flush()
    assert [row["_offset"] for row in world.history.rows[table_of(world)]] == [0, 1, 2]
    assert writer.held_rows == 0
    assert writer.visible_us(table_of(world), 0) == START_US + 4 * MINUTE_US


async def test_what_a_dead_process_held_is_read_again(redis_client):
    first = await make(redis_client)
    await payments_in(first, 1, 2, 3)
    batch = first.batch(PAYMENTS, 0)
    await first.store.history.handle(batch.cut(0, 2), Effects("feature_store", lambda: 0))
    await first.store.writer.flush()
    await first.store.history.handle(batch.cut(2, 3), Effects("feature_store", lambda: 0))
    second = await make(redis_client, bus=first.bus, history=first.history)
    assert await second.store.history.start_offsets([(PAYMENTS, 0), (PAYMENTS, 1)]) == {
        (PAYMENTS, 0): 2,
        (PAYMENTS, 1): 0,
    }
    assert second.store.writer.visible_us(table_of(second), 0) == START_US + 3 * MINUTE_US
    async with running(second):
        await second.publish(until_us=START_US + HOUR_US)
        await until(lambda: second.store.watermarks_us() == {"shop": START_US + HOUR_US})
    assert [row["_event_id"] for row in second.history.rows[table_of(second)]] == [
        "payment-1",
        "payment-2",
        "payment-3",
    ]


async def test_many_rows_are_written_at_once_and_the_buffer_is_bounded(redis_client):
    world = await make(redis_client, flush_rows=10, flush_quiet_ms=5_000, flush_most_ms=60_000, buffer_rows=25)
    feed = world.store.feeds.topics[PAYMENTS]
    await payments_in(world, *range(30))
    batch = world.batch(PAYMENTS, 0)
    decoded = [feed.reader.decode(batch.cut(i, i + 10), lambda *_: None) for i in (0, 10, 20)]
    for one in decoded:
        await world.store.writer.add(feed, 0, one)
    blocked = asyncio.ensure_future(world.store.writer.add(feed, 0, decoded[0]))
    await asyncio.wait((blocked,), timeout=0.05)
    assert not blocked.done()
    writing = asyncio.ensure_future(world.store.writer.run())
    await asyncio.wait_for(blocked, 5.0)
    assert world.history.inserts[0] == 30
    writing.cancel()
    with suppress(asyncio.CancelledError):
        await writing
    assert world.store.writer.held_rows == 0  # what was left is written on the way out


@pytest.mark.parametrize("source", ["orders", "payments"])
async def test_only_heartbeats_move_the_watermark_at_once(redis_client, source):
    world = await make(redis_client)
    topic = f"data.shop.{source}"
    await world.publish(until_us=START_US)
    await world.store.history.handle(world.batch(topic, 0), Effects("feature_store", lambda: 0))
    assert world.store.writer.visible_us(table_of(world, source), 0) == START_US
    assert world.history.inserts == []


async def test_another_contract_is_another_table(redis_client):
    world = await make(redis_client)
    before = table_of(world)
    [orders, payments] = world.project.sources
    wider = replace(payments, fields=(*payments.fields, Field("note", FieldType.STRING)))
    await world.learn(replace(world.project, sources=(orders, wider)), 2)
    assert table_of(world).name != before.name
    assert table_of(world).name.startswith("events_shop_payments_")


def handed_back_batch(world, number: int) -> Batch:
    """A record that comes again by the retry topic, as the worker hands it on."""
    batch = world.batch(PAYMENTS, 0).cut(number, number + 1)
    records = tuple(structs.replace(record, via="retry.feature_store") for record in batch.records)
    return Batch(PAYMENTS, 0, records, via="retry.feature_store")


async def test_what_was_handed_back_is_written_before_its_offset_is_committed(redis_client):
    """Its place is in no table: after a kill nothing but Kafka's offset says where the way back goes on."""
    world = await make(redis_client, history=ListHistory(failures=1))
    await payments_in(world, 1, 2)
    await world.store.history.handle(handed_back_batch(world, 1), Effects("feature_store", lambda: 0))
    assert [row["_event_id"] for row in world.history.rows[table_of(world)]] == ["payment-2"]
    assert world.store.writer.held_rows == 0
    assert world.store.writer.visible_us(table_of(world), 0) == 0  # what lies before it may still be missing


async def test_what_was_handed_back_is_not_committed_when_the_room_stops_while_history_is_away(redis_client):
    world = await make(redis_client, history=ListHistory(failures=10**6))
    await payments_in(world, 1)
    writing = asyncio.ensure_future(world.store.writer.run())
    handling = asyncio.ensure_future(
        world.store.history.handle(handed_back_batch(world, 0), Effects("feature_store", lambda: 0))
    )
    await until(lambda: world.store.writer.problem != "")
    writing.cancel()
    with pytest.raises(Unavailable):
        await asyncio.wait_for(handling, 10)
    with suppress(asyncio.CancelledError):
        await writing
