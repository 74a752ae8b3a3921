"""Predictions by key, through the real room: gRPC in, gRPC features, ONNX Runtime, spool, topic."""

import asyncio
import math

import grpc
import pytest
from millrace.bus.events import derive_id
from millrace.wire.common.v1 import common_pb2
from millrace.wire.feature_store.v1 import service_pb2 as features_pb2
from millrace.wire.inference.v1 import service_pb2

from services.inference.errors import TooLate
from tests.support import onnx_models
from tests.support.poll import until
from tests.unit.inference.world import PROJECT, linear, world


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


@pytest.fixture
async def shop(tmp_path):
    async with world(tmp_path) as made:
        made.features.values = {"v.x": {"a": 2.0, "b": -1.0, "*": 0.0}, "v.colour": {"a": "red"}}
        yield made


async def test_a_batch_is_answered_in_order_and_logged_before_the_reply(shop):
    event_id = await shop.released(shop.variant(3, linear(0.5, {"v.x": 1.0}, {"v.colour": {"red": 1.0}})))
    reply = await shop.ask("a", "b", moment_us=123, request_id="r1")
    assert shop.parts.spool.unpublished_records + shop.parts.relay.published_records == 2
    assert [x.entity for x in reply.answers] == ["a", "b"]
    assert [x.value for x in reply.answers] == pytest.approx([sigmoid(3.5), sigmoid(-0.5)], abs=1e-6)
    first = reply.answers[0]
    assert (first.model, first.version, first.variant, first.epoch, first.error) == ("returns", 3, "champion", 1, "")
    assert [(f.name, f.status, f.age_us) for f in reply.answers[1].features] == [
        ("v.x", features_pb2.PRESENT, 7),
        ("v.colour", features_pb2.MISSING, -1),
    ]
    logged = {p.key.entity: p for p in await shop.logged(2)}
    a = logged["a"]
    assert a.prediction_id == first.prediction_id == derive_id("r1", "inference shop/a/123 3", 0)
    assert (a.key.project, a.key.moment_us, a.request_id, a.door, a.role) == (PROJECT, 123, "r1", "key", "champion")
    assert a.answered and list(a.outputs) == [first.value] and a.as_of_us == 400 and a.latency_us > 0
    assert a.inputs["v.x"].number == 2.0 and a.inputs["v.colour"].text == "red"
    b = logged["b"]
    assert list(b.missing_features) == ["v.colour"] and b.inputs["v.colour"].WhichOneof("kind") is None
    assert dict(b.feature_ages_us) == {"v.x": 7}
    record = shop.records("predictions")[0]
    assert record.event.causation_id == event_id and record.key in (b"shop/a", b"shop/b")
    assert record.event.type == "millrace.inference.prediction.answered.v1"


async def test_one_bad_item_does_not_spoil_the_others(shop):
    await shop.released(shop.variant(1, linear(0.0)))
    reply = await shop.ask("a", "", "b")
    assert [bool(x.error) for x in reply.answers] == [False, True, False]
    assert "entity is empty" in reply.answers[1].error
    assert len(shop.features.requests) == 1 and list(shop.features.requests[0].entities) == ["a", "b"]
    logged = await shop.logged(2)
    assert sorted((p.key.entity, p.answered) for p in logged) == [("a", True), ("b", True)]


async def test_a_feature_of_the_wrong_kind_is_named(shop):
    """A column is of one kind: as text, none of its values can be scored, and each is told so."""
    shop.features.values["v.x"]["a"] = "text"
    await shop.released(shop.variant(1, linear(0.0)))
    reply = await shop.ask("a", "b")
    assert "v.x is str 'text'; expected a number" in reply.answers[0].error
    assert [p.answered for p in await shop.logged(2)] == [False, False]


async def test_a_failing_variant_is_replaced_by_its_fallback_and_both_are_logged(shop):
    shop.features.values["v.x"] = {"*": 1.0}
    await shop.released(
        shop.variant(2, onnx_models.fragile("v.x", 4), bundle=b""),
        shop.variant(1, linear(0.0), role="shadow", fallback=True),
    )
    reply = await shop.ask(*"abcdef")
    assert {(x.version, x.variant, x.error) for x in reply.answers} == {(1, "shadow", "")}
    logged = await shop.logged(12)
    assert (
        sorted((p.version, p.answered, bool(p.error)) for p in logged)
        == [(1, True, False)] * 6 + [(2, False, True)] * 6
    )
    await until(lambda: shop.parts.shadows.busy == 0)
    assert len(shop.predictions()) == 12  # what the shadow answered it does not score again


async def test_rows_the_fallback_did_not_answer_are_still_shadowed(shop):
    shop.features.values["v.x"] = {"a": math.inf, "b": 1.0}
    by_value = onnx_models.classifier({"v.x": 1.0}, output="value")  # no sigmoid: infinite for a
    good = onnx_models.classifier({"v.y": 1.0}, output="value")
    await shop.released(shop.variant(2, by_value), shop.variant(1, good, role="shadow", fallback=True))
    reply = await shop.ask("a", "b")
    assert [(x.version, x.value, x.error) for x in reply.answers] == [(1, 0.0, ""), (2, 1.0, "")]
    logged = await shop.logged(4)
    outcomes = sorted((p.key.entity, p.version, p.answered, bool(p.error)) for p in logged)
    assert outcomes == [("a", 1, True, False), ("a", 2, False, True), ("b", 1, False, False), ("b", 2, True, False)]
    assert "not finite" in next(p.error for p in logged if p.error)


async def test_a_request_that_fails_late_leaves_no_answered_record(shop):
    shop.features.values["v.x"] = {"*": 0.0}
    await shop.released(shop.variant(1, linear(0.0)), shop.variant(2, linear(1.0), role="canary", weight=0.5))
    live = shop.parts.serving.models["returns"]
    loaded = live.loaded[live.choose("a").version]
    second = next(e for e in "bcdefgh" if live.choose(e).version != loaded.version)
    clock = shop.parts.predictor._scorer._runner

    async def too_late(*_):
        raise TooLate("the test's clock ran out")

    scores = clock.scores

    async def first_only(variant, *rest):
        return await (scores(variant, *rest) if variant.version == loaded.version else too_late())

    clock.scores = first_only
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await shop.ask("a", second)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    logged = await shop.logged(2)
    assert [(p.answered, p.error) for p in logged] == [(False, "the test's clock ran out")] * 2


async def test_without_a_fallback_the_error_is_in_the_answer(shop):
    await shop.released(shop.variant(2, onnx_models.fragile("v.x", 4), bundle=b""))
    reply = await shop.ask(*"abcdef")
    assert all("version 2 failed" in x.error and "\x1b" not in x.error for x in reply.answers)
    assert not any(p.answered for p in await shop.logged(6))


async def test_shadows_score_the_same_rows_after_the_answer(shop):
    await shop.released(shop.variant(2, linear(0.0)), shop.variant(1, linear(1.0), role="shadow"))
    await shop.ask("a", "b", request_id="r")
    logged = await shop.logged(4)
    shadows = [p for p in logged if p.role == "shadow"]
    assert {p.request_id for p in logged} == {"r"} and [p.answered for p in shadows] == [False, False]
    assert sorted(p.outputs[0] for p in shadows) == pytest.approx([sigmoid(0.0), sigmoid(3.0)], abs=1e-6)
    assert {p.inputs["v.x"].number for p in shadows} == {2.0, -1.0}
    types = {r.event.type for r in shop.records("predictions")}
    assert "millrace.inference.prediction.shadowed.v1" in types


async def test_a_failing_shadow_is_logged_and_hurts_nobody(shop):
    await shop.released(
        shop.variant(2, linear(0.0)), shop.variant(1, onnx_models.fragile("v.x", 4), role="shadow", bundle=b"")
    )
    reply = await shop.ask(*"abcdef")
    assert not any(x.error for x in reply.answers)
    failed = [p for p in await shop.logged(12) if p.error]
    assert len(failed) == 6 and {p.role for p in failed} == {"shadow"}


async def test_a_full_shadow_queue_drops_and_counts(tmp_path):
    async with world(tmp_path, shadow_jobs=1) as shop:
        shop.features.values = {"v.x": {"*": 0.0}}
        await shop.released(shop.variant(2, linear(0.0)), shop.variant(1, linear(1.0), role="shadow"))
        live = shop.parts.serving.models["returns"]
        session = live.loaded[1].session
        release = asyncio.Event()
        loop = asyncio.get_running_loop()
        run = session.run

        def slow(feeds, names):
            asyncio.run_coroutine_threadsafe(release.wait(), loop).result(10)
            return run(feeds, names)

        session.run = slow
        replies = [await shop.ask("a") for _ in range(5)]
        assert not any(r.answers[0].error for r in replies)
        assert shop.parts.metrics.shadows_dropped == 3  # one in hand, one waiting
        release.set()
        await until(lambda: shop.parts.shadows.busy == 0)
        assert len(await shop.logged(7)) == 7
        status = await shop.describe.Describe(common_pb2.DescribeRequest())
        assert any("3 shadow jobs were dropped" in reason for reason in status.reasons) and status.ready


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNAVAILABLE),
        (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.NOT_FOUND),
        (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.DEADLINE_EXCEEDED),
    ],
)
async def test_without_features_there_is_no_answer_and_the_failure_is_logged(shop, status, code):
    await shop.released(shop.variant(1, linear(0.0)))
    shop.features.refuse = status
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await shop.ask("a", "b")
    assert caught.value.code() is code
    logged = await shop.logged(2)
    assert [(p.answered, bool(p.error)) for p in logged] == [(False, True)] * 2


async def test_the_callers_deadline_travels_on_and_a_default_stands_in(shop):
    await shop.released(shop.variant(1, linear(0.0)))
    await shop.ask("a", timeout_s=1.5)
    await shop.ask("a", timeout_s=None)
    assert 0 < shop.features.timeouts_s[0] < 1.6
    assert 1.6 < shop.features.timeouts_s[1] < 5.5
    shop.features.hold = asyncio.Event()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await shop.ask("a", timeout_s=0.2)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    shop.features.hold.set()
    assert [p.answered for p in await shop.logged(3)].count(False) == 1


async def test_requests_beyond_the_bound_are_refused_at_once(tmp_path):
    async with world(tmp_path, concurrent_requests=2) as shop:
        shop.features.values = {"v.x": {"*": 0.0}}
        await shop.released(shop.variant(1, linear(0.0)))
        shop.features.hold = asyncio.Event()
        waiting = [asyncio.create_task(shop.ask("a")) for _ in range(2)]
        await until(lambda: shop.parts.admission.in_hand == 2)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await shop.ask("a")
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert dict(caught.value.trailing_metadata())["retry-after-ms"] == "50"
        shop.features.hold.set()
        for reply in await asyncio.gather(*waiting):
            assert not reply.answers[0].error


async def test_what_cannot_be_asked_is_told_by_the_book(shop):
    async def code_of(request):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await shop.inference.Predict(request)
        return caught.value.code(), caught.value.details()

    item = service_pb2.PredictItem(entity="a")
    code, said = await code_of(service_pb2.PredictRequest(project="nobody", items=[item]))
    assert code is grpc.StatusCode.NOT_FOUND and "'nobody'" in said
    await shop.released(shop.variant(1, linear(0.0)))
    code, said = await code_of(service_pb2.PredictRequest(project=PROJECT))
    assert code is grpc.StatusCode.INVALID_ARGUMENT and "expected 1 to 1000" in said
    code, said = await code_of(service_pb2.PredictRequest(project=PROJECT, items=[item] * 1001))
    assert code is grpc.StatusCode.INVALID_ARGUMENT and "1001 items" in said


async def test_a_stream_keeps_its_order_and_survives_a_refused_request(shop):
    await shop.released(shop.variant(1, linear(0.0)))

    async def requests():
        for n in range(60):
            project = PROJECT if n != 30 else "nobody"
            item = service_pb2.PredictItem(entity="a", moment_us=1)
            yield service_pb2.PredictRequest(project=project, items=[item], request_id=str(n))

    replies = [reply async for reply in shop.inference.PredictStream(requests())]
    assert [r.request_id for r in replies] == [str(n) for n in range(60)]
    assert [n for n, r in enumerate(replies) if r.answers[0].error] == [30]
    assert replies[30].answers[0].error.startswith("not_found: ")
