"""What definitions and clocks mean for serving: replayed projects, request-time columns, a cold start alone."""

import math

import grpc
import pytest
from millrace.definitions.canonical import to_canonical_json
from millrace.definitions.load import load_text
from millrace.wire.common.v1 import common_pb2
from millrace.wire.inference.v1 import service_pb2
from millrace.wire.registry.v1 import events_pb2

from tests.support.poll import until
from tests.unit.inference.world import MODEL, PROJECT, linear, to_value, world

TEXT = """
project: shop
description: Will an order come back?
clock: replay
sources:
  orders:
    event_type: shop.order.placed
    key: order_id
    event_time: placed_at
    fields:
      order_id: {type: string, required: true}
      placed_at: {type: timestamp, required: true}
      amount: {type: number}
      channel: {type: string}
  returns:
    event_type: shop.order.returned
    key: order_id
    event_time: returned_at
    fields:
      order_id: {type: string, required: true}
      returned_at: {type: timestamp, required: true}
      back: {type: number}
predict:
  source: orders
  entity: order_id
  moment: placed_at
  request: [amount, channel]
features:
  order@1:
    source: orders
    entity: order_id
    latest: [amount, channel]
    ttl: 7d
label:
  source: returns
  key: order_id
  value: back > 0
  horizon: 7d
  missing: censored
model:
  name: returns
  task: binary
  template: {kind: linear}
  inputs: [order.amount, order.channel]
  baselines: [constant]
training:
  triggers: {new_labels: 100}
gate: {metric: auc, floors: {auc: 0.5}}
rollout: {strategy: direct}
"""


def published(text=TEXT, version=1):
    project = load_text(text)
    return events_pb2.DefinitionPublished(
        project=project.name, version=version, digest="d", canonical_json=to_canonical_json(project)
    )


@pytest.fixture
async def shop(tmp_path):
    async with world(tmp_path) as made:
        made.features.values = {"order.amount": {"*": 1.0}, "order.channel": {"*": "web"}}
        await made.publish("definitions", PROJECT, published())
        await until(lambda: made.parts.projects.versions() == {PROJECT: 1})
        model = linear(0.0, {"order.amount": 1.0}, {"order.channel": {"web": 1.0, "shop": 2.0}})
        await made.released(made.variant(1, model))
        yield made


async def test_a_replayed_project_waits_for_the_moment_and_tells_its_own_now(shop):
    await shop.ask("a", "b", moment_us=1_000)
    assert shop.features.requests[-1].not_before_us == 1_000
    await shop.publish("clocks", PROJECT, common_pb2.ClockTick(project=PROJECT, now_us=77_000))
    await until(lambda: shop.parts.clocks.now_us(PROJECT) == 77_000)
    await shop.ask("a", moment_us=0)
    assert shop.features.requests[-1].not_before_us == 77_000
    assert sorted(p.key.moment_us for p in await shop.logged(3)) == [1_000, 1_000, 77_000]


async def test_on_the_wall_nobody_waits(shop):
    await shop.publish("definitions", PROJECT, published(TEXT.replace("clock: replay", "clock: wall"), 2))
    await until(lambda: shop.parts.projects.versions() == {PROJECT: 2})
    await shop.ask("a", moment_us=1_000)
    assert shop.features.requests[-1].not_before_us == 0


async def test_request_time_columns_stand_in_for_the_feature(shop):
    items = [
        service_pb2.PredictItem(entity="a", moment_us=1),
        service_pb2.PredictItem(
            entity="b",
            moment_us=1,
            request=common_pb2.Row(columns={"amount": to_value(-3.0), "channel": to_value("shop")}),
        ),
        service_pb2.PredictItem(entity="c", moment_us=1, request=common_pb2.Row(columns={"colour": to_value("red")})),
        service_pb2.PredictItem(
            entity="d", moment_us=1, request=common_pb2.Row(columns={"amount": common_pb2.Value()})
        ),
    ]
    reply = await shop.inference.Predict(service_pb2.PredictRequest(project=PROJECT, items=items))
    answers = reply.answers
    expected = [1 / (1 + math.exp(-x)) for x in (2.0, -1.0, 1.0)]
    assert [answers[i].value for i in (0, 1, 3)] == pytest.approx(expected, abs=1e-6)
    assert answers[2].error == "'colour' is no request-time column; expected amount, channel"
    logged = {p.key.entity: p for p in await shop.logged(3)}
    assert logged["b"].inputs["order.amount"].number == -3.0
    assert list(logged["d"].missing_features) == ["order.amount"]


async def test_a_project_without_a_release_is_told_apart_from_no_project(shop):
    other = published(TEXT.replace("project: shop", "project: other").replace("name: returns", "name: else"))
    await shop.publish("definitions", "other", other)
    await until(lambda: "other" in shop.parts.projects.versions())
    for project, words in (("other", "has no released model yet"), ("nobody", "is not known here")):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await shop.inference.Predict(
                service_pb2.PredictRequest(project=project, items=[service_pb2.PredictItem(entity="a")])
            )
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND and words in caught.value.details()


async def test_a_cold_start_remembers_the_clock_and_the_request_columns(shop):
    await shop.stop()
    shop.broker.available = False
    await shop.start()
    assert shop.parts.definitions.projects == {} and shop.parts.projects.versions() == {PROJECT: 1}
    await shop.ask("a", moment_us=5)
    assert shop.features.requests[-1].not_before_us == 5
    assert shop.parts.projects.request_inputs(PROJECT) == {"order.amount": "amount", "order.channel": "channel"}
    status = await shop.describe.Describe(common_pb2.DescribeRequest())
    assert dict(status.definitions) == {PROJECT: 1}
    shop.broker.available = True


async def test_a_project_that_is_gone_is_forgotten_and_its_model_serves_on(shop):
    await shop.publish("definitions", PROJECT, common_pb2.Empty())
    await until(lambda: shop.parts.projects.versions() == {})
    assert shop.served_epoch(MODEL) == 1
    assert not (await shop.ask("a")).answers[0].error


async def test_metrics_carry_model_and_version(shop):
    import httpx

    await shop.ask("a")
    from prometheus_client import generate_latest

    text = generate_latest(shop.parts.metrics._registry).decode()
    assert 'millrace_inference_request_seconds_count{door="key",model="returns",version="1"} 1.0' in text
    assert 'millrace_inference_rows_total{door="key",model="returns",outcome="answered",version="1"} 1.0' in text
    assert 'millrace_inference_run_seconds_count{model="returns",version="1"} 1.0' in text
    async with httpx.AsyncClient() as http:
        board = (await http.get(f"http://{shop.room.status.http_address}/metrics")).text
    assert 'millrace_room_ready{room="inference"} 1.0' in board
