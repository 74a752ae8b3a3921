"""Statistics of features from what the online store holds; drops and statistics over gRPC, with roles."""

from contextlib import asynccontextmanager
from dataclasses import replace

import grpc
import numpy as np
import pytest
from millrace.definitions.model import FieldType
from millrace.runtime.auth import Authenticator, Identity
from millrace.runtime.doors import grpc_errors
from millrace.wire.feature_store.v1 import service_pb2, service_pb2_grpc

from services.feature_store.domain.answers import Cells
from services.feature_store.domain.profile import profile
from services.feature_store.domain.values import Status
from services.feature_store.handlers.spending import Spending
from tests.support.poll import until
from tests.unit.feature_store.world import HOUR_US, MINUTE_US, START_US, make, order, payment, running, shop, with_view

AT_US = START_US + 4 * HOUR_US
TOKENS = {"p": Identity("paul", frozenset({"producer"})), "o": Identity("olga", frozenset({"operator"}))}


@asynccontextmanager
async def served(world, tokens=None):
    """The room's gRPC service behind its door."""
    server = grpc.aio.server(interceptors=(grpc_errors(Authenticator(tokens or {})),))
    world.store.register(server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield service_pb2_grpc.FeatureStoreStub(channel)
    finally:
        await server.stop(None)


async def filled(world) -> None:
    """100 orders, 50 of them recent; 30 customers, each in both partitions."""
    for n in range(100):
        at_us = AT_US - (n + 1) * MINUTE_US if n < 50 else AT_US - 50 * HOUR_US
        await world.publish(order(n, at_us, customer=f"c{n % 30}", amount=float(n) if n % 10 else None))
    for n in range(120):
        at_us = AT_US - 30 * MINUTE_US
        await world.publish(payment(n, at_us, float(n % 4), customer=f"c{n % 30}", late_us=1, partition=(n // 30) % 2))
    await world.publish(until_us=AT_US)
    await until(lambda: world.store.watermarks_us().get("shop", 0) >= AT_US and world.history_has(AT_US), 20)


def columns(view) -> dict:
    return {column.name: column for column in view.columns}


async def test_statistics_say_what_the_store_holds(redis_client):
    world = await make(redis_client)
    async with running(world), served(world) as stub:
        await filled(world)
        reply = await stub.FeatureStats(service_pb2.FeatureStatsRequest(project="shop"))
        again = await stub.FeatureStats(service_pb2.FeatureStatsRequest(project="shop"))
        fresh = await stub.FeatureStats(service_pb2.FeatureStatsRequest(project="shop", max_age_ms=1))
    orders, habits, channels = reply.views
    assert channels.view == "channel_habits@1" and channels.entity == "customer,channel"
    assert (channels.entities, channels.rows) == (30, 60)  # each customer pays through one channel
    assert (orders.view, orders.entity, orders.entities, orders.rows, orders.exact) == (
        "order@1", "order_id", 100, 100, True,
    )  # fmt: skip
    assert (habits.entities, habits.rows, habits.sampled) == (30, 60, 30)
    amount = columns(orders)["amount"]
    assert (amount.present, amount.missing, amount.expired) == (45, 5, 50)  # null is missing, 50 hours are too old
    kept = np.array([float(n) for n in range(50) if n % 10])
    assert amount.mean == pytest.approx(kept.mean()) and amount.std == pytest.approx(kept.std())
    assert (amount.min, amount.max, amount.distinct) == (1, 49, 45)
    assert amount.quantiles[3] == np.median(kept) and sum(amount.counts) == 45 and len(amount.edges) == 21
    customer = columns(orders)["customer"]
    assert customer.type == "string" and not customer.HasField("mean") and customer.top[0].count == 2
    assert (customer.distinct, customer.present) == (30, 50)
    express = columns(orders)["express"]
    assert [(top.value, top.count) for top in express.top] == [("1", 50)] and express.mean == 1
    assert columns(habits)["payments_1h"].mean == 4
    assert columns(habits)["payments_1h"].age_quantiles_us[0] == 30 * MINUTE_US
    assert orders.as_of_us == habits.as_of_us == AT_US and orders.lag_us == 0
    assert 30 < orders.key_bytes < 60 and orders.value_bytes > 10
    assert orders.memory_bytes > orders.key_bytes + orders.value_bytes
    assert orders.total_bytes == round(orders.memory_bytes * 100) and orders.read_us > 0
    assert all(view.update_us > 0 for view in reply.views)
    assert sum(view.update_share for view in reply.views) == pytest.approx(1) and not reply.left
    assert orders.events_per_hour == pytest.approx(50 / (50 / 60))
    assert again.measured_us == reply.measured_us < fresh.measured_us


async def test_each_feature_has_its_part_of_what_its_view_costs(redis_client):
    world = await make(redis_client)
    spending, views = world.store.online.spending, world.store.feeds.project("shop").views
    async with running(world), served(world) as stub:
        # The first batch of a view is cold and not weighed: what follows has to be another one.
        await world.publish(order(500, AT_US - HOUR_US), payment(500, AT_US - HOUR_US, 1.0))
        await until(lambda: all(spending.per_event_us(("shop", view)) is not None for view in views), 20)
        await filled(world)
        orders, habits, channels = (await stub.FeatureStats(service_pb2.FeatureStatsRequest(project="shop"))).views
    for view in (orders, habits, channels):
        assert sum(column.memory_bytes for column in view.columns) == pytest.approx(view.memory_bytes)
        assert sum(column.update_us for column in view.columns) == pytest.approx(view.update_us)
        assert all(column.memory_bytes > 0 and column.update_us > 0 for column in view.columns)
    # Of a row's own bytes: "c17", with quotes and a comma, beside eight of a number.
    of_order = columns(orders)
    assert of_order["customer"].memory_bytes / of_order["amount"].memory_bytes == pytest.approx(6 / 8, abs=0.1)
    of_habits = columns(habits)
    assert of_habits["payments_1h"].memory_bytes == of_habits["payments_3h"].memory_bytes, "one state, two windows"
    sketch, count = of_habits["delay_p75_1h"], of_habits["payments_1h"]
    assert sketch.memory_bytes > 2 * count.memory_bytes


def test_views_of_one_name_in_two_projects_are_weighed_apart_and_what_fails_is_not():
    spending = Spending()
    spending.weigh(("a", "v@1"), lambda: [int, int])
    spending.weigh(("b", "v@1"), lambda: [int])
    assert [len(spending.weights((project, "v@1"))) for project in "ab"] == [2, 1]
    spending.weigh(("c", "v@1"), lambda: [int, lambda: 1 / 0])
    assert spending.weights(("c", "v@1")) is None
    spending.weigh(("b", "v@1"), lambda: [int, int, int])
    assert len(spending.weights(("b", "v@1"))) == 3, "the project was made anew, with another view of that name"
    spending.forget("a", "v@1")
    assert spending.weights(("a", "v@1")) is None


async def test_a_view_or_a_column_may_be_asked_for(redis_client):
    world = await make(redis_client)
    async with running(world), served(world) as stub:
        await filled(world)
        asked = service_pb2.FeatureStatsRequest(project="shop", features=["order.amount", "order.hour", "habits@1"])
        orders, habits = (await stub.FeatureStats(asked)).views
        assert list(columns(orders)) == ["amount", "hour"] and len(habits.columns) == len(shop().view("habits").columns)
        for name, hint in (("order.amont", "did you mean order.amount?"), ("oder", "shop has no feature oder")):
            with pytest.raises(grpc.aio.AioRpcError, match="INVALID_ARGUMENT") as caught:
                await stub.FeatureStats(service_pb2.FeatureStatsRequest(project="shop", features=[name]))
            assert hint in caught.value.details()


async def test_what_is_left_of_a_view_that_went_is_told(redis_client):
    world = await make(redis_client)
    async with running(world), served(world) as stub:
        await filled(world)
        gone = with_view(shop(), ttl_us=0)
        await world.learn(replace(gone, views=tuple(v for v in gone.views if (v.name, v.version) != ("habits", 1))), 2)
        reply = await stub.FeatureStats(service_pb2.FeatureStatsRequest(project="shop"))
        assert [(left.view, left.keys) for left in reply.left] == [("habits@1", 60 + 2)]
        _ = [step async for step in stub.DropView(service_pb2.DropViewRequest(project="shop", view="habits@1"))]
        assert not (await stub.FeatureStats(service_pb2.FeatureStatsRequest(project="shop"))).left


async def test_many_rows_are_sampled_and_counts_estimated(redis_client):
    world = await make(redis_client, stats_sample=20, stats_keys=1_000)
    async with running(world), served(world) as stub:
        await filled(world)
        # Another project's keys share the server: the walk ends before all of them were seen.
        await redis_client.mset({f"millrace:{{other/s/0}}:v@1:of:{n}": b"x" for n in range(9_000)})
        _, habits, _ = (await stub.FeatureStats(service_pb2.FeatureStatsRequest(project="shop"))).views
    assert not habits.exact and habits.sampled <= 20


async def test_an_entity_counts_once_however_many_partitions_know_it(redis_client):
    world = await make(redis_client, stats_sample=30)
    async with running(world), served(world) as stub:
        await filled(world)
        _, habits, _ = (await stub.FeatureStats(service_pb2.FeatureStatsRequest(project="shop"))).views
    assert habits.rows == 60 and not habits.exact
    assert 5 <= habits.sampled <= 25  # of 30 rows drawn about half are their customer's first
    assert habits.entities == round(60 * habits.sampled / 30)


async def test_an_empty_store_has_statistics_too(redis_client):
    world = await make(redis_client)
    async with served(world) as stub:
        reply = await stub.FeatureStats(service_pb2.FeatureStatsRequest(project="shop"))
        assert [(view.rows, view.entities, view.as_of_us, view.events_per_hour) for view in reply.views] == [
            (0, 0, 0, -1)
        ] * len(shop().views)
        with pytest.raises(grpc.aio.AioRpcError, match="NOT_FOUND"):
            await stub.FeatureStats(service_pb2.FeatureStatsRequest(project="other"))


async def test_only_operators_drop_views(redis_client):
    world = await make(redis_client)
    request = service_pb2.DropViewRequest(project="shop", view="habits@1")
    async with served(world, TOKENS) as stub:
        for token, code in (("p", "PERMISSION_DENIED"), ("o", "FAILED_PRECONDITION")):
            with pytest.raises(grpc.aio.AioRpcError, match=code):
                _ = [step async for step in stub.DropView(request, metadata=(("authorization", f"Bearer {token}"),))]


@pytest.mark.parametrize(
    ("values", "bins"), [([1e300, -1e300], 20), ([5.0] * 3, 1), ([1.0, 1.0 + 1e-16], 1), ([0.0, 0.0], 1), ([], 0)]
)
def test_odd_numbers_have_a_profile(values, bins):
    size = len(values)
    cells = Cells(np.array(values), np.full(size, Status.PRESENT, dtype=np.int8), np.zeros(size, dtype=np.int64))
    found = profile("x", FieldType.NUMBER, [cells] if size else [])
    assert (found.moments is None) == (bins == 0)
    if found.moments:
        assert len(found.moments.counts) == bins and sum(found.moments.counts) == size


def test_a_long_text_is_shortened():
    cells = Cells(
        np.array(["x" * 500, None], dtype=object), np.array([Status.PRESENT, Status.MISSING]), np.array([5, -1])
    )
    found = profile("x", FieldType.STRING, [cells])
    assert len(found.top[0][0]) == 80 and (found.present, found.missing) == (1, 1)
