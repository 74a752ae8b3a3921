"""Rows that have had nothing to say for long leave the online store, by the project's time; nothing else does."""

import asyncio

import pytest
from millrace.aggregates import newest_us

from services.feature_store.adapters.keys_redis import RedisKeys
from services.feature_store.domain.values import Status
from services.feature_store.handlers.expiry import Expiry
from services.feature_store.ports import Place
from tests.support.poll import until
from tests.unit.feature_store.world import HOUR_US, START_US, World, make, order, payment, running, statuses, values

DAY_US = 24 * HOUR_US
OLD, FRESH = [f"o{n}" for n in range(6)], [f"o{n}" for n in range(6, 9)]


async def rows(client, view_id: str) -> set[str]:
    """Entities of which the view has a row."""
    kept = [kept async for step in RedisKeys(client).walk("shop") for kept in step.found]
    return {k.entity for k in kept if k.entity is not None and k.place.view_id == view_id}


async def sweep(world: World) -> int:
    return await world.store.expiry.sweep(world.store.feeds.project("shop"))


async def told(world: World, *messages, until_us: int) -> None:
    await world.publish(*messages, until_us=until_us)
    await until(lambda: world.store.online.visible_us()["shop"] >= until_us, what="it is applied")


async def test_a_row_goes_when_twice_its_time_has_passed(redis_client):
    world = await make(redis_client)
    async with running(world):
        events = [order(n, START_US, customer="ann") for n in range(6)]
        events += [payment(n, START_US, 1.0, customer="ann") for n in range(6)]
        await told(world, *events, until_us=START_US + DAY_US)
        assert await rows(redis_client, "habits@1") == {"ann"}
        assert await sweep(world) == 7, "windows of three hours, of ann and of her with each of three channels"
        assert await rows(redis_client, "habits@1") == await rows(redis_client, "channel_habits@1") == set()
        assert await rows(redis_client, "order@1") == set(OLD)
        later = [order(n, START_US + 3 * DAY_US) for n in range(6, 9)]
        await told(world, *later, until_us=START_US + 3 * DAY_US + HOUR_US)
        read = await world.store.reads.read("shop", OLD + FRESH, (), 0, 10.0)
        assert statuses(read)["order.amount"] == [Status.EXPIRED] * 6 + [Status.PRESENT] * 3
        assert await sweep(world) == 0 and await rows(redis_client, "order@1") == {*OLD, *FRESH}
        await told(world, until_us=START_US + 5 * DAY_US)
        assert await sweep(world) == 6, "a TTL of two days, twice"
        assert await rows(redis_client, "order@1") == set(FRESH)
        read = await world.store.reads.read("shop", OLD + FRESH, (), 0, 10.0)
        assert statuses(read)["order.amount"] == [Status.MISSING] * 6 + [Status.PRESENT] * 3
        assert await sweep(world) == 0


async def test_the_process_that_has_the_first_partition_does_it(redis_client):
    world = await make(redis_client)
    mine: set[tuple[str, int]] = set()
    looks: list[int] = []
    told_of: list[tuple[str, str, int]] = []

    def assigned() -> frozenset[tuple[str, int]]:
        looks.append(1)
        return frozenset(mine)

    keys = RedisKeys(redis_client)
    expiry = Expiry(keys, world.online, world.store.feeds, assigned, lambda *what: told_of.append(what), 0.001)
    async with running(world):
        await told(world, order(1, START_US), until_us=START_US + 9 * DAY_US)
        sweeping = asyncio.ensure_future(expiry.run())
        mine.add(("data.shop.orders", 1))
        await until(lambda: len(looks) > 3, what="it looked")
        assert await rows(redis_client, "order@1") == {"o1"}, "another process has the first partition"
        mine.add(("data.shop.orders", 0))
        await until(lambda: ("shop", "order@1", 1) in told_of, what="it is swept")
        assert await rows(redis_client, "order@1") == set()
        sweeping.cancel()


async def test_a_view_that_is_being_filled_is_left_alone(redis_client):
    """A partition without a position: nobody knows what the time is there."""
    world = await make(redis_client)
    async with running(world):
        await told(world, order(1, START_US), until_us=START_US + 9 * DAY_US)
    await redis_client.delete("millrace:{shop/orders/1}:order@1:at")
    assert await sweep(world) == 0 and await rows(redis_client, "order@1") == {"o1"}


async def test_what_is_kept_for_ever_and_what_is_no_row_stays(redis_client):
    world = await make(redis_client)
    async with running(world):
        await told(world, order(1, START_US), payment(1, START_US, 1.0), until_us=START_US + DAY_US)
        before = {key async for key in redis_client.scan_iter(match="*:at")}
        await told(world, until_us=START_US + 1000 * DAY_US)
        assert await sweep(world) == 3
        assert {key async for key in redis_client.scan_iter(match="*:at")} == before
        assert not {key async for key in redis_client.scan_iter(match="*:of:*")}
        read = await world.store.reads.read("shop", ["o1"], (), 0, 10.0)
        assert values(read)["order.amount"] == [None]
        again = order(1, START_US + 1000 * DAY_US, amount=7.5)
        await told(world, again, until_us=START_US + 1000 * DAY_US + HOUR_US)
        read = await world.store.reads.read("shop", ["o1"], (), 0, 10.0)
        assert values(read)["order.amount"] == [7.5]


@pytest.mark.parametrize("newest, is_gone", [(999, True), (1000, False), (2**52, False)])
async def test_the_server_looks_at_the_time_itself(redis_client, newest, is_gone):
    """To the microsecond, of what the row is when it is deleted, not of what somebody read before."""
    world = await make(redis_client)
    place = Place("shop", "orders", "0", "order@1")
    row = b"\1l\0\0abcd" + newest.to_bytes(8, "little", signed=True) + bytes(16)
    assert newest_us(row) == newest
    key = "millrace:{shop/orders/0}:order@1:of:"
    await redis_client.set(key + "o1", row)
    await redis_client.set(key + "\0seen", b"1")
    assert await world.online.expire(place, ["o1", "\0seen", "nobody"], 1000) == is_gone
    assert await redis_client.exists(key + "o1") == (not is_gone)
    assert await redis_client.exists(key + "\0seen")
