"""Serving plans: loaded beside the old one, switched whole, refused without harm, kept for a cold start."""

import asyncio
import json
import math

import pytest
from millrace.wire.common.v1 import common_pb2
from millrace.wire.registry.v1 import events_pb2

from tests.support import onnx_models
from tests.support.poll import until
from tests.unit.inference.world import MODEL, PROJECT, linear, world


@pytest.fixture
async def shop(tmp_path):
    async with world(tmp_path) as made:
        made.features.values = {"v.x": {"*": 0.0}}
        yield made


async def settled(shop):
    def quiet():
        return shop.parts.releases.busy == 0 and shop.parts.releases.handled_records == shop.epoch

    await until(quiet, what="every plan is settled")


async def test_a_plan_is_ready_only_when_every_answering_variant_is(shop):
    await shop.released(shop.variant(1, linear(0.0)))
    await shop.release(
        shop.variant(1, linear(0.0)),
        shop.variant(2, linear(1.0), role="canary", weight=0.5, bundle=onnx_models.bundle(linear(1.0), spoil=0.01)),
    )
    await settled(shop)
    assert shop.served_epoch() == 1
    assert {a.version for a in (await shop.ask(*"abcdefgh")).answers} == {1}
    problem = shop.parts.releases.problem
    assert "epoch 2, version 2: golden row 0 gave 0.731059; expected 0.741059" in problem
    status = await shop.describe.Describe(common_pb2.DescribeRequest())
    assert status.ready and any("golden row 0" in reason for reason in status.reasons)
    await until(lambda: [(v.version, v.state) for v in shop.statuses()[-1].variants] == [(1, "ready"), (2, "failed")])
    assert shop.statuses()[-1].epoch == 1
    await shop.released(shop.variant(1, linear(0.0)), shop.variant(2, linear(1.0), role="canary", weight=0.5))
    assert {a.version for a in (await shop.ask(*"abcdefgh")).answers} == {1, 2}
    assert shop.parts.releases.problem == ""


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (
            lambda shop, v: shop.registry.artifacts.update({v.model_digest: b"not what was promised"}),
            "arrived as sha256",
        ),
        (lambda shop, v: shop.registry.artifacts.pop(v.model_digest), "NOT_FOUND"),
        (lambda shop, v: setattr(v, "model_digest", shop.registry.put(b"no model")), "the engine refuses the model"),
        (lambda shop, v: setattr(v, "bundle_digest", shop.registry.put(b"{}")), "bundle format is None"),
        (lambda shop, v: setattr(v, "bundle_digest", shop.registry.put(b"[]")), "bundle cannot be read"),
        (
            lambda shop, v: setattr(v, "bundle_digest", shop.registry.put(onnx_models.bundle(linear(0, {"v.y": 1})))),
            "bundle and graph differ in their inputs: v.x: bundle none, graph FP32, v.y: bundle FP32, graph none",
        ),
        (lambda shop, v: setattr(v, "model_digest", "../../etc/passwd"), "is not a sha256 digest"),
        (lambda shop, v: setattr(v, "weight", 2.0), "weight 2.0; expected 0 to 1"),
        (lambda shop, v: setattr(v, "role", 3), "no variant answers"),
    ],
)
async def test_what_cannot_be_served_is_refused_and_the_old_plan_serves_on(shop, spoil, words):
    await shop.released(shop.variant(1, linear(0.0)))
    bad = shop.variant(2, linear(9.0))
    spoil(shop, bad)
    await shop.release(bad)
    await settled(shop)
    assert words in shop.parts.releases.problem
    assert (await shop.ask("a")).answers[0].version == 1
    await until(lambda: {v.version: v.state for v in shop.statuses()[-1].variants} == {1: "ready", 2: "failed"})
    assert words in shop.statuses()[-1].variants[1].reason


async def test_a_role_nobody_knows_is_refused(shop):
    await shop.released(shop.variant(1, linear(0.0)))
    bad = shop.variant(2, linear(1.0))
    bad.role = 99
    await shop.release(bad)
    await until(lambda: shop.parts.follower.rejected_records == 1)
    assert "unknown role 99" in shop.parts.follower.problem and shop.served_epoch() == 1


async def test_a_registry_that_is_away_is_waited_for(shop):
    await shop.released(shop.variant(1, linear(0.0)))
    shop.registry.down = True
    await shop.release(shop.variant(2, linear(1.0)))
    await until(lambda: "UNAVAILABLE" in shop.parts.releases.problem)
    assert (await shop.ask("a")).answers[0].version == 1
    # Not failed: the registry would roll back a version for its own absence.
    await until(lambda: {v.version: v.state for v in shop.statuses()[-1].variants} == {1: "ready", 2: "loading"})
    assert shop.parts.releases.busy == 1
    shop.registry.down = False
    await until(lambda: shop.served_epoch() == 2)
    assert shop.parts.releases.problem == ""


async def test_a_newer_plan_replaces_one_that_waits(shop):
    shop.registry.down = True
    await shop.release(shop.variant(1, linear(0.0)))
    await until(lambda: "UNAVAILABLE" in shop.parts.releases.problem)
    shop.registry.artifacts.clear()
    await shop.release(shop.variant(2, linear(1.0)))
    shop.registry.down = False
    await until(lambda: shop.served_epoch() == 2)
    assert shop.parts.releases.problem == ""


async def test_a_shadow_that_fails_does_not_hold_the_plan_back(shop):
    await shop.release(
        shop.variant(2, linear(0.0)), shop.variant(1, linear(1.0), role="shadow", fallback=True, bundle=b"{}")
    )
    await until(lambda: shop.served_epoch() == 1)
    await settled(shop)
    assert "version 1: bundle format is None" in shop.parts.releases.problem
    assert (await shop.ask("a")).answers[0].version == 2


async def test_an_epoch_that_is_not_newer_is_ignored(shop):
    await shop.released(shop.variant(1, linear(0.0)))
    await shop.released(shop.variant(2, linear(1.0)))
    old = events_pb2.ServingPlan(
        project=PROJECT, model=MODEL, epoch=1, salt="s", variants=[shop.variant(3, linear(5.0))]
    )
    await shop.publish("models.releases", MODEL, old)
    await until(lambda: shop.parts.releases.handled_records == 3 and shop.parts.releases.busy == 0)
    assert shop.served_epoch() == 2


async def test_versions_that_left_the_plan_are_dropped_with_their_labels_and_files(shop):
    await shop.released(shop.variant(1, linear(0.0)))
    await shop.ask("a")
    await shop.released(shop.variant(2, linear(1.0)))
    await shop.ask("a")
    assert set(shop.parts.serving.models[MODEL].loaded) == {2}
    folder = shop.home / "inference" / "artifacts"
    await until(lambda: len([p for p in folder.glob("*/*") if p.is_file()]) == 2)
    versions = {s.labels.get("version") for m in shop.parts.metrics._rows.collect() for s in m.samples}
    assert versions == {"2"}


async def test_a_version_that_stays_is_not_loaded_again(shop):
    await shop.released(shop.variant(1, linear(0.0)))
    session = shop.parts.serving.models[MODEL].loaded[1].session
    await shop.released(shop.variant(1, linear(0.0)), shop.variant(2, linear(1.0), role="canary", weight=0.1))
    assert shop.parts.serving.models[MODEL].loaded[1].session is session


async def test_a_plan_without_variants_takes_the_model_out_of_service(shop):
    await shop.released(shop.variant(1, linear(0.0)))
    await shop.release()
    await until(lambda: MODEL not in shop.parts.serving.models)
    await shop.stop()
    await shop.start()
    assert MODEL not in shop.parts.serving.models


async def test_a_request_keeps_the_plan_it_began_with(shop):
    await shop.released(shop.variant(1, linear(0.0)))
    shop.features.hold = asyncio.Event()
    asking = asyncio.create_task(shop.ask("a"))
    await until(lambda: len(shop.features.requests) == 1)
    await shop.released(shop.variant(2, linear(1.0)))
    shop.features.hold.set()
    answer = (await asking).answers[0]
    assert (answer.version, answer.epoch, answer.error) == (1, 1, "")


async def test_no_request_fails_while_fifty_releases_are_applied(shop):
    def numbered(version):
        return linear(version / 100)

    await shop.released(shop.variant(1, numbered(1)))
    stopping = asyncio.Event()
    answers, refused = [], []

    async def ask_on(name):
        while not stopping.is_set():
            try:
                answers.extend((await shop.ask(name, f"{name}2")).answers)
            except Exception as error:
                refused.append(error)

    asking = [asyncio.create_task(ask_on(f"client-{n}")) for n in range(2)]
    for n in range(2, 52):
        canary = [shop.variant(n, numbered(n), role="canary", weight=0.5)] if n % 3 else []
        champion = n - 1 if canary else n
        await shop.released(shop.variant(champion, numbered(champion)), *canary)
    stopping.set()
    await asyncio.gather(*asking)
    assert refused == [] and [a.error for a in answers if a.error] == []
    assert len({a.epoch for a in answers}) > 25 and len(answers) > 100
    logged = await shop.logged(len(answers))
    assert len({p.prediction_id for p in logged}) == len(logged) == len(answers)
    for answer in answers:
        assert answer.value == pytest.approx(1 / (1 + math.exp(-answer.version / 100)), abs=1e-6)


async def test_a_cold_start_serves_without_registry_and_broker(shop):
    shop.registry.down = False
    event_id = await shop.released(shop.variant(1, linear(0.0)), shop.variant(2, linear(1.0), role="shadow"))
    await shop.ask("a")
    await shop.logged(2)
    await shop.stop()
    shop.broker.available = False
    shop.registry.down = True
    await shop.start()
    reply = await shop.ask("a", "b")
    assert [(a.version, a.epoch, a.error) for a in reply.answers] == [(1, 1, ""), (1, 1, "")]
    await until(lambda: shop.parts.spool.unpublished_records == 4)
    await until(lambda: shop.parts.relay.problem)
    status = await shop.describe.Describe(common_pb2.DescribeRequest())
    assert status.ready and any("predictions wait in the spool" in r for r in status.reasons)
    shop.broker.available = True
    assert len(await shop.logged(6)) == 6
    assert {r.event.causation_id for r in shop.records("predictions")} == {event_id}
    await until(lambda: shop.parts.spool.unpublished_records == 0)


async def test_a_damaged_artifact_on_disk_is_fetched_again(shop):
    await shop.released(shop.variant(1, linear(0.0)))
    await shop.stop()
    files = [p for p in (shop.home / "inference" / "artifacts").glob("*/*") if p.is_file()]
    for path in files:
        path.write_bytes(path.read_bytes()[:-1] + b"!")
    shop.registry.fetched.clear()
    await shop.start()
    assert (await shop.ask("a")).answers[0].version == 1
    assert len(shop.registry.fetched) == len(files) == 2


async def test_damaged_artifacts_and_no_registry_is_said_and_mended_later(shop):
    await shop.released(shop.variant(1, linear(0.0)))
    await shop.stop()
    for path in (shop.home / "inference" / "artifacts").glob("*/*"):
        if path.is_file():
            path.write_bytes(b"damaged")
    shop.registry.down = True
    await shop.start()
    with pytest.raises(Exception, match="released and not loaded yet"):
        await shop.ask("a")
    shop.registry.down = False
    await until(lambda: shop.served_epoch() == 1)
    assert not (await shop.ask("a")).answers[0].error


async def test_a_damaged_plan_file_is_left_out(shop):
    await shop.released(shop.variant(1, linear(0.0)))
    await shop.stop()
    (file,) = (shop.home / "inference" / "plans").glob("*.json")
    file.write_text(json.dumps({"format": "millrace.plan/1", "plan": {"model": 3}}))
    await shop.start()
    await until(lambda: shop.served_epoch() == 1, what="the topic brings it back")


async def test_the_replica_keeps_its_name(shop):
    first = shop.parts.replica
    await shop.stop()
    await shop.start()
    assert shop.parts.replica == first and first.startswith("inference-")


async def test_status_is_repeated_and_counts(tmp_path):
    async with world(tmp_path, status_every_s=0.05) as shop:
        shop.features.values = {"v.x": {"*": 0.0}}
        event_id = await shop.released(shop.variant(1, linear(0.0)))
        await shop.ask("a")
        count = len(shop.statuses())
        await until(lambda: len(shop.statuses()) > count + 3)
        last = shop.statuses()[-1]
        assert (last.project, last.model, last.epoch, last.requests, last.failures) == (PROJECT, MODEL, 1, 1, 0)
        record = shop.records("serving.status")[-1]
        assert record.key.decode() == last.replica == shop.parts.replica
        assert record.event.causation_id == event_id
