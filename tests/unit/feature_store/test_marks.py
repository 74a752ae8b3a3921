"""Processes that share partitions know how far each has come, and a mark of nobody lapses."""

import pytest

from services.feature_store.adapters.features_redis import LIVE
from services.feature_store.adapters.marks_redis import RedisMarks
from services.feature_store.domain.values import Position
from services.feature_store.handlers.history import NOWHERE, FlushLimits, HistoryWriter
from services.feature_store.handlers.marks import AGAIN_S, Marks, Own
from tests.unit.feature_store.world import HOUR_US, START_US, make, order, running

ORDERS = "data.shop.orders"


class Process:
    """One process of the room, as far as marks go: what it is assigned, what it has written, a clock."""

    def __init__(self, client, world) -> None:
        self.assigned: frozenset = frozenset()
        self.now_s = 100.0
        self.looked: list = []
        self.writer = HistoryWriter(world.history, FlushLimits())
        self.feed = world.store.feeds.topics[ORDERS]
        own = Own(lambda: self.assigned, lambda: self.assigned)
        store = RedisMarks(client, LIVE)
        self.marks = Marks(store, world.store.feeds, self.writer, own, self.look, lambda: self.now_s)

    async def look(self, places) -> None:
        self.looked += places

    def at(self, partition: int) -> Position:
        return self.writer.position(self.feed.table, partition)


@pytest.fixture
async def pair(redis_client):
    world = await make(redis_client)
    one, two = Process(redis_client, world), Process(redis_client, world)
    one.assigned, two.assigned = frozenset({(ORDERS, 0)}), frozenset({(ORDERS, 1)})
    return one, two


async def key(client) -> bytes:
    [found] = [key async for key in client.scan_iter(match=b"millrace:history:*:0")]
    return found


async def test_each_learns_what_the_other_wrote(pair):
    one, two = pair
    one.writer.reached(one.feed.table, 0, Position(7, 70))
    two.writer.reached(two.feed.table, 1, Position(9, 90))
    for process in (one, two, one):
        await process.marks.exchange()
    assert [one.at(0), one.at(1)] == [two.at(0), two.at(1)] == [Position(7, 70), Position(9, 90)]
    assert {place.label for place in one.looked if place.source == "orders"} == {"1"}


async def test_what_nobody_tells_any_more_lapses(pair, redis_client):
    one, two = pair
    one.writer.reached(one.feed.table, 0, Position(7, 70))
    await one.marks.exchange()
    await two.marks.exchange()
    assert 0 < await redis_client.ttl(await key(redis_client)) <= 15
    await redis_client.delete(await key(redis_client))
    await two.marks.exchange()
    assert two.at(0) == NOWHERE
    await one.marks.exchange()
    assert await redis_client.keys("millrace:history:*") == [], "nothing has changed, and it was told a moment ago"
    one.now_s += AGAIN_S
    await one.marks.exchange()
    await two.marks.exchange()
    assert two.at(0) == Position(7, 70)


async def test_who_takes_over_a_table_that_was_lost_says_where_it_really_is(pair):
    one, two = pair
    one.writer.reached(one.feed.table, 0, Position(150, 9_000))
    await one.marks.exchange()
    await two.marks.exchange()
    assert two.at(0) == Position(150, 9_000)
    one.assigned, two.assigned = frozenset(), frozenset({(ORDERS, 0), (ORDERS, 1)})
    await two.marks.exchange()  # before the table was asked
    two.writer.stands(two.feed.table, 0, NOWHERE)  # as start_offsets says of an empty table
    await two.marks.exchange()
    await one.marks.exchange()
    assert one.at(0) == two.at(0) == NOWHERE
    two.writer.reached(two.feed.table, 0, Position(3, 30))
    await two.marks.exchange()
    await one.marks.exchange()
    assert one.at(0) == Position(3, 30)


async def test_a_mark_that_did_not_change_wakes_nobody(pair):
    one, two = pair
    one.writer.reached(one.feed.table, 0, Position(7, 70))
    await one.marks.exchange()
    await two.marks.exchange()
    before = two.writer._written
    await two.marks.exchange()
    assert two.writer._written is before


async def test_the_watermark_waits_for_the_partitions_of_others(redis_client):
    """Two processes apply one partition each; neither says a time that the other has not reached."""
    ahead, behind = await make(redis_client), await make(redis_client)
    async with running(ahead):
        await ahead.publish(order(1, START_US), until_us=START_US + HOUR_US)
        await ahead.store.reads.read("shop", ["o1"], (), START_US + HOUR_US, 10.0)
        assert ahead.store.watermarks_us() == {"shop": START_US + HOUR_US}
    assert behind.store.watermarks_us() == {"shop": 0}
    await behind.store.marks.exchange()  # it has no partition of its own, and sees what is in the store
    assert behind.store.watermarks_us() == {"shop": START_US + HOUR_US}
    await redis_client.flushdb()
    await behind.store.marks.exchange()
    assert behind.store.watermarks_us() == {"shop": 0}
