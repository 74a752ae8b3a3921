"""What may be asked for: the model's inputs, feature services, views by their own entity's key."""

import numpy as np
import pytest
from millrace.client.errors import CallFailed
from millrace.client.features import Features
from millrace.definitions.load import load_text
from millrace.runtime.errors import Invalid

from services.feature_store.adapters.reader_thread import ThreadReader
from services.feature_store.domain.values import Status
from services.feature_store.errors import UnknownFeature, UnknownService
from services.feature_store.handlers.training import Moments
from tests.support.poll import until
from tests.unit.feature_store.test_spines import served
from tests.unit.feature_store.world import (
    HOUR_US,
    MINUTE_US,
    START_US,
    YAML,
    make,
    order,
    payment,
    running,
    statuses,
    values,
)

AT_US = START_US + HOUR_US
MORE = """
  spare@1:
    source: orders
    entity: order_id
    latest: [express]
  tills@1:
    source: payments
    entity: channel
    latest: [delay]
services:
  desk@1:
    features: [order.amount, {view: habits, through: order.customer, columns: [delay_sum_1h], as: theirs}]
  desk@2: {features: [order.amount]}
  customers@1: {entity: customer, features: [{view: habits, columns: [payments_3h]}]}
label:
"""
RICHER = YAML.replace("\nlabel:\n", MORE, 1)


@pytest.fixture
async def world(redis_client):
    made = await make(redis_client)
    await made.learn(load_text(RICHER), 2)
    async with running(made):
        await made.publish(
            order(1, START_US, amount=3.0),
            order(2, START_US, customer="bob", amount=None),
            *(payment(n, START_US + n * MINUTE_US, float(n)) for n in (10, 20, 30)),
            payment(40, START_US + 40 * MINUTE_US, 5.0, customer="bob"),
            until_us=AT_US,
        )
        yield made


async def ask(world, entities, *features, service="", by=""):
    return await world.store.reads.read("shop", entities, features, AT_US, 10.0, service=service, by=by)


async def test_a_service_is_read_by_its_name(world):
    answer = await ask(world, ["o1", "o2"], service="desk@1")
    assert values(answer) == {"order.amount": [3.0, None], "theirs.delay_sum_1h": [60.0, 5.0]}
    assert statuses(answer)["order.amount"] == [Status.PRESENT, Status.MISSING]
    assert values(await ask(world, ["o1"], service="desk")) == {"order.amount": [3.0]}
    some = await ask(world, ["o2"], "theirs.delay_sum_1h", service="desk@1")
    assert values(some) == {"theirs.delay_sum_1h": [5.0]}
    whole, inputs = await ask(world, ["o1"], service="late-payment"), await ask(world, ["o1"])
    assert values(whole) == values(inputs)


async def test_a_view_about_another_entity_is_read_by_its_own_key(world):
    answer = await ask(world, ["ann", "bob", "cyd"], "habits.delay_sum_1h", "habits@1.payments_1h", by="customer")
    assert values(answer) == {"habits.delay_sum_1h": [60, 5, None], "habits@1.payments_1h": [3, 1, None]}
    assert values(await ask(world, ["ann"], service="customers")) == {"habits.payments_3h": [3]}
    every = await ask(world, ["c1"], by="channel")
    assert values(every) == {"tills.delay": [5.0]}
    assert every.as_of_us == {"tills@1": AT_US}


async def test_a_composite_entity_is_asked_by_all_its_fields(world):
    answer = await ask(world, ["ann|c1", "ann|c2", "bob|c1", "c1|ann"], by="customer,channel")
    assert values(answer)["channel_habits.payments_3h"] == [1, 1, 1, 0]
    with pytest.raises(UnknownFeature, match="ask by=customer,channel"):
        await ask(world, ["ann"], "channel_habits.payments_3h", by="customer")


async def test_a_view_that_no_model_takes_is_read_beside_inputs(world):
    answer = await ask(world, ["o1"], "spare.express", "habits.delay_sum_1h", "order.amount")
    assert values(answer) == {"spare.express": [True], "habits.delay_sum_1h": [60], "order.amount": [3.0]}
    own = {f"{v.name}.{c}" for v in world.project.views if v.entity == "order_id" for c in v.columns}
    assert set(values(await ask(world, ["o1"], by="order_id"))) == own and "spare.express" in own


REFUSALS = [
    ({"service": "desk@3"}, (), UnknownService, "no feature service desk@3 (did you mean desk@2?)"),
    ({"service": "dask"}, (), UnknownService, "dask"),
    ({"service": "desk@1"}, ("order.hour",), UnknownFeature, "the service desk@1 has no feature order.hour"),
    ({"service": "desk@1", "by": "customer"}, (), Invalid, "leave out by=customer"),
    ({"by": "custumer"}, (), UnknownFeature, "no view of shop is about custumer (did you mean customer?)"),
    ({"by": "customer"}, ("order.amount",), UnknownFeature, "about order_id, not about customer: ask by=order_id"),
    ({"by": "customer"}, ("habits.dely_sum_1h",), UnknownFeature, "did you mean habits.delay_sum_1h?"),
    ({}, ("tills.delay",), UnknownFeature, "tills.delay is about channel, not about order_id: ask by=channel"),
    ({}, ("order@3.amount",), UnknownFeature, "no feature order@3.amount"),
    ({}, ("order.amont",), UnknownFeature, "did you mean order.amount?"),
    ({}, ("nonsense",), UnknownFeature, "no feature nonsense"),
]


@pytest.mark.parametrize(("words", "features", "error", "message"), REFUSALS, ids=[r[3] for r in REFUSALS])
async def test_refusals_name_the_fix(redis_client, words, features, error, message):
    made = await make(redis_client)
    await made.learn(load_text(RICHER), 2)
    with pytest.raises(error) as caught:
        made.store.feeds.project("shop").plan_for(features, **{"service": "", "by": "", **words})
    assert message in str(caught.value)


async def test_history_answers_the_same_choices(world):
    await until(lambda: world.history_has(AT_US), 10)
    feed = world.store.feeds.project("shop")
    for words, entities in (({"service": "desk@1"}, ["o1", "o2"]), ({"by": "customer"}, ["ann", "bob", "cyd"])):
        plan = feed.plan_for((), **words)
        moments = Moments(entities, np.full(len(entities), AT_US), 0, as_happened=False)
        cells = await world.store.historian.cells(feed, plan, moments, ThreadReader())
        online = await ask(world, entities, **words)
        for name, past, now in zip(plan.names, cells, online.cells, strict=True):
            assert past.status.tolist() == now.status.tolist(), name
            present = past.status == Status.PRESENT
            np.testing.assert_allclose(past.values[present].astype(float), now.values[present].astype(float))


async def test_plans_of_a_choice_are_made_once(redis_client):
    made = await make(redis_client)
    feed = made.store.feeds.project("shop")
    assert feed.plan_for(("order.amount",)) is feed.plan_for(("order.amount",))
    assert feed.plan_for((), "late-payment") is feed.plan


async def test_the_sdk_reads_many_entities_online_and_takes_services_everywhere(world):
    async with served(world) as address, Features(address, "shop") as features:
        rows = await features.online(["o1", "o2", "o9"], service="desk", not_before=AT_US)  # the newest desk
        assert [row.entity for row in rows] == ["o1", "o2", "o9"]
        assert [list(row.values) for row in rows] == [["order.amount"]] * 3
        assert [(r.values["order.amount"].value, r.values["order.amount"].status) for r in rows] == [
            (3.0, "PRESENT"),
            (None, "MISSING"),
            (None, "MISSING"),
        ]
        (ann,) = await features.online(["ann"], service="customers")
        assert ann.values["habits.payments_3h"].value == 3
        (card,) = await features.online(["ann"], features=["habits.payments_3h"], by="customer")
        assert card.values == ann.values
        spine = [{"entity": "o1", "moment": AT_US, "note": "mine"}]
        table = await (await features.training_set(spine=spine, service="desk@1")).to_arrow()
        assert table.column_names == ["entity", "moment_us", "note", "order.amount", "theirs.delay_sum_1h"]
        (then,) = await features.historical(["ann"], AT_US, service="customers")
        assert then.values["habits.payments_3h"].value == 3
        with pytest.raises(CallFailed, match=r"NOT_FOUND.*no feature service nobody"):
            await features.online(["o1"], service="nobody")
