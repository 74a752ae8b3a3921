"""The online store from history: the bytes that the stream would have written, part by part, after any interruption."""

import asyncio
from time import monotonic

import grpc
import pytest
from millrace.client.columns import read_columns
from millrace.runtime.doors import grpc_errors
from millrace.wire.feature_store.v1 import service_pb2, service_pb2_grpc

from services.feature_store.adapters.rows_arrow import packed_rows
from services.feature_store.domain.values import Status
from services.feature_store.handlers.filler import Filler, labels
from services.feature_store.handlers.seen import SEEN
from services.feature_store.ports import RETRIED, Write
from tests.support.poll import until
from tests.unit.feature_store.world import (
    HOUR_US,
    MINUTE_US,
    START_US,
    World,
    make,
    order,
    payment,
    running,
    statuses,
    values,
    with_view,
)

PARTS = 3
NOW_US = START_US + 3 * HOUR_US


async def passed(seconds: float) -> None:
    end_s = monotonic() + seconds
    await until(lambda: monotonic() >= end_s)


async def contents(client) -> dict[bytes, bytes]:
    return {key: await client.get(key) for key in await client.keys()}


async def streamed(client) -> World:
    """Payments and orders of many customers, in order of visibility, some late, applied by the stream."""
    world = await make(client)
    async with running(world):
        for step in range(12):
            at_us = START_US + (step + 1) * 15 * MINUTE_US
            await world.publish(
                *(
                    payment(
                        step * 10 + i,
                        at_us - (i * 13 + 1) * MINUTE_US,
                        None if i == 4 else float(i * step) / 7,
                        customer=f"c{(i + step) % 9}",
                        late_us=(i * 13 + 1) * MINUTE_US,
                    )
                    for i in range(8)
                ),
                *(order(step * 10 + i, at_us - MINUTE_US, customer=f"c{i}") for i in range(4)),
                until_us=at_us,
            )
        await until(lambda: world.history_has(at_us))
        await until(lambda: world.store.watermarks_us().get("shop") == at_us)
    return world


def filler_of(world: World, part_events: int = 30) -> Filler:
    return Filler(world.online, world.store.drops._keys, world.history, packed_rows, part_events)


async def fill_all(world: World, filler: Filler) -> int:
    parts = 0
    for feed in world.store.feeds.project("shop").sources.values():
        for view in feed.views:
            for label in labels(feed):
                async for _ in filler.parts(feed, view, label):
                    parts += 1
    return parts


def rows(found: dict[bytes, bytes]) -> dict[bytes, bytes]:
    return {key: row for key, row in found.items() if b":of:" in key}


def assert_alike(found: dict[bytes, bytes], expected: dict[bytes, bytes]) -> None:
    """The same keys; the same bytes but for the last digits of sums, whose terms were added in another order."""
    assert found.keys() == expected.keys()
    differing = [key for key in found if found[key] != expected[key]]
    assert all(len(found[key]) == len(expected[key]) for key in differing)
    assert len(differing) < len(found) / 2


async def test_history_makes_the_rows_that_the_stream_made(redis_client):
    world = await streamed(redis_client)
    before = rows(await contents(redis_client))
    await redis_client.flushall()
    assert await fill_all(world, filler_of(world)) > PARTS
    after = await contents(redis_client)
    assert_alike(rows(after), before)
    assert not [key for key in after if key.endswith(b":fill")]


async def test_an_interrupted_fill_goes_on_and_two_at_once_help_each_other(redis_client):
    world = await streamed(redis_client)
    before = rows(await contents(redis_client))
    await redis_client.flushall()
    feed = world.store.feeds.project("shop").sources["payments"]
    habits = next(view for view in feed.views if view.view.name == "habits")
    first = filler_of(world, 8).parts(feed, habits, "0")
    await anext(first)
    await first.aclose()
    half = await world.online.filling(feed.place(habits, "0"))
    assert half is not None and 0 < half.done < half.parts
    await asyncio.gather(*(fill_all(world, filler_of(world, 8)) for _ in range(2)))
    assert_alike(rows(await contents(redis_client)), before)
    positions, _ = await world.online.read(feed.places(habits))
    assert None not in positions


async def test_who_comes_late_writes_nothing_over_a_place_that_went_on(redis_client):
    world = await streamed(redis_client)
    feed = world.store.feeds.project("shop").sources["payments"]
    before = await contents(redis_client)
    assert await fill_all(world, filler_of(world)) == 0
    assert await contents(redis_client) == before
    place = feed.place(feed.views[0], "0")
    assert await world.online.filling(place) is None


async def test_an_emptied_store_is_filled_by_itself_and_the_stream_goes_on(redis_client):
    world = await streamed(redis_client)
    expected = values(await world.store.reads.read("shop", ["o1", "o51"], (), 0, 1.0))
    await redis_client.flushall()
    again = await make(redis_client, bus=world.bus, history=world.history)
    async with running(again):
        answer = await again.store.reads.read("shop", ["o1", "o51"], (), NOW_US, 10.0)
        got = values(answer)
        assert got.keys() == expected.keys()
        for name, cells in got.items():
            for one, other in zip(cells, expected[name], strict=True):
                assert one == (pytest.approx(other, rel=1e-9) if isinstance(other, float) else other), name
        later_us = NOW_US + HOUR_US
        await again.publish(payment(900, NOW_US + MINUTE_US, 5.0, customer="c1"), until_us=later_us)
        answer = await again.store.reads.read("shop", ["o1"], (), later_us, 10.0)
    assert values(answer)["habits.delay_last_1h"] == [5.0]


async def test_a_view_that_is_new_is_filled_while_the_others_go_on(redis_client):
    world = await streamed(redis_client)
    async with running(world):
        await world.learn(with_view(world.project, hop_us=5 * MINUTE_US), 2)
        later_us = NOW_US + HOUR_US
        await world.publish(payment(901, NOW_US + MINUTE_US, 6.0, customer="c1"), until_us=later_us)
        answer = await world.store.reads.read("shop", ["o1"], (), later_us, 10.0)
        assert values(answer)["habits.payments_3h"][0] > values(answer)["habits.payments_1h"][0] == 1
    feed = world.store.feeds.project("shop").sources["payments"]
    assert await world.online.filling(feed.place(feed.views[-1], "0")) is None


async def test_the_door_rebuilds_with_progress_and_refuses_what_is_unknown(redis_client):
    world = await streamed(redis_client)
    server = grpc.aio.server(interceptors=[grpc_errors()])
    world.store.register(server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with running(world), grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            stub = service_pb2_grpc.FeatureStoreStub(channel)
            await redis_client.set("millrace:{shop/payments/0}:habits@1:of:ghost", b"left by nobody")
            asked = service_pb2.RebuildRequest(project="shop", views=["habits@1"])
            steps = [step async for step in stub.RebuildViews(asked)]
            assert steps[-1].done and steps[-1].events == steps[-1].total > 0
            assert await redis_client.get("millrace:{shop/payments/0}:habits@1:of:ghost") is None
            reply = await stub.GetOnline(
                service_pb2.GetOnlineRequest(project="shop", entities=["o1"], not_before_us=NOW_US), timeout=20
            )
            cells = dict(zip(reply.features, read_columns(reply.columns, 1), strict=True))
            assert cells["habits.payments_3h"].values[0] > 0
            with pytest.raises(grpc.aio.AioRpcError) as unknown:
                async for _ in stub.RebuildViews(service_pb2.RebuildRequest(project="shop", views=["habit@1"])):
                    pass
            assert unknown.value.code() is grpc.StatusCode.NOT_FOUND and "habits@1" in unknown.value.details()
    finally:
        await server.stop(None)


async def test_what_was_handed_back_is_filled_with_its_ids(redis_client):
    world = await streamed(redis_client)
    table = world.store.feeds.project("shop").sources["payments"].table
    world.history.rows[table][3]["_via"] = "retry.feature_store"
    handed = world.history.rows[table][3]["_event_id"]
    await redis_client.flushall()
    await fill_all(world, filler_of(world))
    found = await contents(redis_client)
    assert [key for key in found if f"/{RETRIED}}}".encode() in key and (":of:" + SEEN + handed).encode() in key]


async def test_a_fill_ends_where_the_stream_took_the_place(redis_client):
    """A record that was handed back makes its place while that is being filled: the fill does not try for ever."""
    world = await streamed(redis_client)
    feed = world.store.feeds.project("shop").sources["payments"]
    habits = next(view for view in feed.views if view.view.name == "habits")
    place = feed.place(habits, "0")
    (position,), _ = await world.online.read([place])
    await redis_client.flushall()
    parts = filler_of(world, 8).parts(feed, habits, "0")
    await anext(parts)
    assert await world.online.swap([Write(place, None, position, {})])
    async with asyncio.timeout(10):
        assert [part async for part in parts] == []


async def test_a_view_that_is_being_filled_reads_as_missing_until_all_of_it_is_there(redis_client):
    world = await streamed(redis_client)
    feed = world.store.feeds.project("shop").sources["payments"]
    habits = next(view for view in feed.views if view.view.name == "habits")
    names = ("habits.payments_1h", "habits.payments_3h", "habits.delay_last_1h")
    customers = [f"c{n}" for n in range(9)]

    async def read():
        return await world.store.reads.read("shop", customers, names, 0, 1.0, by="customer")

    before = await read()
    assert before.as_of_us == {habits.id: NOW_US} and Status.PRESENT in statuses(before)["habits.payments_1h"]
    await redis_client.flushall()
    read_meanwhile = 0
    for label in labels(feed):
        async for _ in filler_of(world, 8).parts(feed, habits, label):
            answer = await read()
            if (label, answer.as_of_us[habits.id]) == (labels(feed)[-1], NOW_US):
                break  # that was the last part
            assert answer.as_of_us == {habits.id: 0}
            assert {s for column in statuses(answer).values() for s in column} == {Status.MISSING}
            assert {v for column in values(answer).values() for v in column} == {None}
            assert all((cells.age_us == -1).all() for cells in answer.cells)
            read_meanwhile += 1
    assert read_meanwhile > 4
    assert values(await read()) == values(before) and statuses(await read()) == statuses(before)


async def test_a_rebuild_beside_the_process_that_applies_the_log_loses_no_row(redis_client):
    """One process is asked to rebuild, another has the partitions: it must not fill what is still being deleted."""
    owner = await make(redis_client)
    asked = await make(redis_client, bus=owner.bus, history=owner.history)
    customers = [f"c{n}" for n in range(3_000)]
    async with running(owner):
        events = [
            payment(n, START_US + (n % 50) * MINUTE_US, float(n), customer=customer, partition=n % 2)
            for n, customer in enumerate(customers)
        ]
        at_us = START_US + HOUR_US
        await owner.publish(*events, until_us=at_us)
        await until(lambda: owner.history_has(at_us) and owner.store.watermarks_us().get("shop") == at_us, 60)

        async def read() -> dict[str, list]:
            answer = await owner.store.reads.read(
                "shop", customers, ("habits.payments_3h",), at_us, 20.0, by="customer"
            )
            return values(answer)

        before = await read()
        keys = asked.store.filler._keys
        walk = keys.walk

        async def slowly(project):  # as through a store of many more keys
            async for step in walk(project):
                yield step
                await owner.publish(until_us=at_us)  # the log goes on
                await passed(0.3)

        keys.walk = slowly
        steps = [step async for step in asked.store.rebuilds.rebuild("shop", ("habits@1",), keep=False)]
        assert steps[-1].events == steps[-1].total >= 3_000
        assert await read() == before
