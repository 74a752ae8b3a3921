"""Online answers: values, status and age to the microsecond, joins, waiting."""

import asyncio
from dataclasses import replace

import grpc
import pytest
from millrace.client.columns import read_columns
from millrace.definitions.model import FieldType, Input
from millrace.runtime.doors import grpc_errors
from millrace.wire.feature_store.v1 import service_pb2, service_pb2_grpc

from services.feature_store.domain.values import Status
from services.feature_store.errors import TooLate, UnknownFeature, UnknownProject
from services.feature_store.handlers.reads import OnlineReads
from tests.support.poll import until
from tests.unit.feature_store.world import (
    HOUR_US,
    MINUTE_US,
    START_US,
    make,
    order,
    payment,
    running,
    statuses,
    values,
)

PRESENT, MISSING, EXPIRED = Status.PRESENT, Status.MISSING, Status.EXPIRED


async def read(world, entities, at_us, features=()):
    return await world.store.reads.read("shop", entities, tuple(features), at_us, 10.0)


async def test_values_status_and_age(redis_client):
    world = await make(redis_client)
    at_us = START_US + HOUR_US
    async with running(world):
        await world.publish(
            order(1, START_US, amount=None),
            order(2, START_US, customer=None),
            order(3, START_US, customer="bob"),
            *(payment(n, START_US + n * MINUTE_US, float(n)) for n in (10, 20, 30)),
            payment(4, START_US, None),
            until_us=at_us,
        )
        answer = await read(world, ["o1", "o2", "o3", "o4"], at_us)
    got, said = values(answer), statuses(answer)
    assert got["order.customer"] == ["ann", None, "bob", None]
    assert said["order.customer"] == [PRESENT, MISSING, PRESENT, MISSING]
    assert said["order.amount"] == [MISSING, PRESENT, PRESENT, MISSING]
    assert got["order.express"][0] == 1.0
    assert got["order.hour"][0] == START_US // HOUR_US % 24
    assert got["habits.payments_1h"] == [3, None, None, None]  # o2 joins through null, bob was never heard of
    assert said["habits.payments_1h"] == [PRESENT, MISSING, MISSING, MISSING]
    assert got["habits.delay_mean_1h"][0] == 20
    assert got["habits.delay_std_1h"][0] == pytest.approx(200 / 3**0.5 / 14.142135623730951)
    assert got["habits.delay_last_1h"][0] == 30
    assert got["habits.channels_1h"][0] == got["habits.named_1h"][0] == 3
    ages = {f.name: c.age_us.tolist() for f, c in zip(answer.plan.features, answer.cells, strict=True)}
    assert ages["order.customer"] == [HOUR_US, -1, HOUR_US, -1]
    assert ages["habits.payments_1h"][0] == 30 * MINUTE_US
    assert answer.as_of_us == {"order@1": at_us, "habits@1": at_us, "channel_habits@1": at_us}


async def test_values_fall_as_time_passes_without_an_event(redis_client):
    world = await make(redis_client)
    async with running(world):
        await world.publish(order(1, START_US), payment(1, START_US, 7.0))
        for hours, count, mean in ((1, 1, 7), (2, 0, None)):
            at_us = START_US + hours * HOUR_US + 10 * MINUTE_US - (1 if hours == 1 else 0)
            await world.publish(until_us=at_us)
            answer = values(await read(world, ["o1"], at_us))
            assert answer["habits.payments_1h"] == [count]
            assert answer["habits.delay_mean_1h"] == [mean]


async def test_a_ttl_ends_to_the_microsecond(redis_client):
    world = await make(redis_client)
    ttl_us = 5 * HOUR_US
    async with running(world):
        await world.publish(order(1, START_US), payment(1, START_US, 7.0))
        for at_us, status, age in ((START_US + ttl_us, PRESENT, ttl_us), (START_US + ttl_us + 1, EXPIRED, ttl_us + 1)):
            await world.publish(until_us=at_us)
            answer = await read(world, ["o1"], at_us, ["habits.payments_3h"])
            assert statuses(answer) == {"habits.payments_3h": [status]}
            assert answer.cells[0].age_us.tolist() == [age]
            assert values(answer)["habits.payments_3h"] == [0 if status is PRESENT else None]


async def test_the_newest_event_wins_over_partitions_and_arrival_order(redis_client):
    world = await make(redis_client)
    async with running(world):
        await world.publish(
            order(1, START_US + 5, amount=2.0, partition=1),
            order(1, START_US + 9, amount=3.0, partition=0),
            order(1, START_US, amount=1.0, partition=1),
            until_us=START_US + HOUR_US,
        )
        assert values(await read(world, ["o1"], START_US + HOUR_US, ["order.amount"])) == {"order.amount": [3.0]}


async def test_not_before_waits_for_every_view_involved(redis_client):
    world = await make(redis_client)
    at_us = START_US + HOUR_US
    async with running(world):
        await world.publish(order(1, START_US), until_us=START_US)
        waiting = asyncio.ensure_future(read(world, ["o1"], at_us))
        await world.bus.publish([m for m in beats(world, at_us) if "orders" in m.topic])
        alone = await read(world, ["o1"], at_us, ["order.amount"])
        assert alone.as_of_us == {"order@1": at_us}
        assert not waiting.done()
        await world.bus.publish([m for m in beats(world, at_us) if "payments" in m.topic])
        assert set((await waiting).as_of_us.values()) == {at_us}


def beats(world, at_us):
    from tests.unit.feature_store.world import heartbeat

    return [heartbeat(f"data.shop.{s}", p, at_us) for s in ("orders", "payments") for p in (0, 1)]


async def test_not_before_sees_what_another_process_applied(redis_client):
    world = await make(redis_client)
    other = await make(redis_client, bus=world.bus)
    async with running(world):
        waiting = asyncio.ensure_future(other.store.reads.read("shop", ["o1"], (), START_US + HOUR_US, 10.0))
        await world.publish(order(1, START_US), until_us=START_US + HOUR_US)
        assert values(await waiting)["order.amount"] == [9.5]


async def test_refusals(redis_client):
    world = await make(redis_client)
    with pytest.raises(UnknownProject):
        await world.store.reads.read("nobody", ["o1"], (), 0, 1.0)
    with pytest.raises(UnknownFeature, match=r"order\.colour"):
        await world.store.reads.read("shop", ["o1"], ("order.colour",), 0, 1.0)
    with pytest.raises(TooLate, match="habits@1, order@1"):
        await world.store.reads.read("shop", ["o1"], (), START_US, 0.01)
    empty = await world.store.reads.read("shop", [], (), 0, 1.0)
    assert [len(cells.status) for cells in empty.cells] == [0] * len(empty.cells)


async def test_many_entities_share_one_joined_row(redis_client):
    world = await make(redis_client)
    async with running(world):
        await world.publish(*(order(n, START_US) for n in range(40)), payment(1, START_US, 3.0))
        await world.publish(until_us=START_US + HOUR_US)
        await read(world, ["o1"], START_US + HOUR_US)
        asked = []
        counting = OnlineReads(CountingStore(world.online, asked), world.store.feeds, world.store.progress)
        answer = await counting.read("shop", [f"o{n}" for n in range(40)], (), 0, 1.0)
    assert values(answer)["habits.payments_3h"] == [1] * 40
    assert asked == [80, 10]  # 40 orders; one customer and his four channels, in two partitions


async def test_a_view_read_directly_and_through_a_join_is_told_from_two_positions(redis_client):
    """Between the two rounds of one read the log may move on: what was sampled says where each of them stood."""
    world = await make(redis_client)
    number = FieldType.NUMBER
    inputs = (
        Input("amount", "order", "amount", number),
        Input("theirs", "order", "amount", number, through="order.customer"),
    )
    await world.learn(replace(world.project, model=replace(world.project.model, inputs=inputs)), 2)
    taken = []
    async with running(world):
        await world.publish(order(1, START_US, customer="o2"), order(2, START_US), until_us=START_US + HOUR_US)
        await read(world, ["o1"], START_US + HOUR_US)
        moving = MovingStore(world, START_US + 2 * HOUR_US)
        reads = OnlineReads(moving, world.store.feeds, world.store.progress, TakingSampler(taken))
        answer = await reads.read("shop", ["o1"], (), 0, 1.0)
    assert values(answer) == {"amount": [9.5], "theirs": [9.5]}
    [standings] = taken
    by_round = {bool(lookup.carriers): standing for lookup, standing in standings.items()}
    assert (by_round[False].as_of_us, by_round[True].as_of_us) == (START_US + HOUR_US, START_US + 2 * HOUR_US)
    first, second = ({p: at.offset for p, at in by_round[joined].positions.items()} for joined in (False, True))
    assert second == {label: offset + 1 for label, offset in first.items()}


class MovingStore:
    """After the first look the log moves on to `until_us` before the next."""

    def __init__(self, world, until_us):
        self._world, self._until_us = world, until_us

    async def read(self, places, wanted=()):
        found = await self._world.online.read(places, wanted)
        if self._until_us:
            until_us, self._until_us = self._until_us, 0
            await self._world.publish(until_us=until_us)
            own = [place for place in places if place.label in ("0", "1")]
            await until(lambda: self._world.store.progress.visible_us(own) >= until_us, what="it has moved on")
        return found


class TakingSampler:
    """Samples every read; keeps what it was answered from."""

    def __init__(self, taken):
        self._taken = taken

    def choose(self, project, entities):
        return list(range(len(entities)))

    def take(self, feed, plan, chosen, cells, standings):
        self._taken.append(standings)


class CountingStore:
    def __init__(self, store, asked):
        self._store, self._asked = store, asked

    async def read(self, places, wanted):
        self._asked.append(sum(len(entities) for _, entities in wanted))
        return await self._store.read(places, wanted)


async def test_the_door(redis_client):
    """Over gRPC: values typed, statuses, as_of, and errors as status codes."""
    world = await make(redis_client)
    server = grpc.aio.server(interceptors=[grpc_errors()])
    world.store.register(server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with running(world), grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            stub = service_pb2_grpc.FeatureStoreStub(channel)
            at_us = START_US + HOUR_US
            await world.publish(order(1, START_US), payment(1, START_US, 7.0), until_us=at_us)
            request = service_pb2.GetOnlineRequest(project="shop", entities=["o1", "o9"], not_before_us=at_us)
            reply = await stub.GetOnline(request, timeout=10)
            got = dict(zip(reply.features, read_columns(reply.columns, 2), strict=True))
            assert got["order.customer"].values == ["ann", None]
            assert got["order.express"].values == [1.0, None]
            assert got["habits.delay_mean_1h"].values == [7.0, None]
            assert got["habits.delay_mean_1h"].ages_us[0] == HOUR_US
            customer = got["order.customer"]
            assert (customer.statuses[1], customer.ages_us[1]) == (service_pb2.MISSING, -1)
            assert dict(reply.as_of_us) == {"order@1": at_us, "habits@1": at_us, "channel_habits@1": at_us}
            request.not_before_us = at_us + HOUR_US
            with pytest.raises(grpc.aio.AioRpcError) as late:
                await stub.GetOnline(request, timeout=0.2)
            assert late.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            with pytest.raises(grpc.aio.AioRpcError) as unknown:
                await stub.GetOnline(service_pb2.GetOnlineRequest(project="nobody"))
            assert unknown.value.code() is grpc.StatusCode.NOT_FOUND
            await until(lambda: world.store.watermarks_us() == {"shop": at_us})
    finally:
        await server.stop(None)
