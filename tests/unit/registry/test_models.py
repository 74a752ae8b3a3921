"""Artifacts, models brought by people, versions and lineage."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest
from millrace.stores.errors import ObjectCorrupt, ObjectMissing
from millrace.wire.registry.v1.service_pb2 import (
    ArtifactChunk,
    GetVersionRequest,
    ListVersionsRequest,
    RegisterVersionRequest,
)

from services.registry.adapters.models_onnx import OnnxInspector
from services.registry.errors import BadModel, TooLarge, UnknownThing
from services.registry.handlers import artifacts, models
from tests.support.onnx_models import classifier
from tests.unit.registry.desk import MODEL, Room, by_role


async def stream(*pieces: bytes) -> AsyncIterator[ArtifactChunk]:
    for piece in pieces:
        yield ArtifactChunk(data=piece)


async def push(room: Room, **more: object) -> object:
    digest = await room.objects.put(b"an onnx file")
    room.inspector.inspection = room.inspector.inspection or room.graph()
    defaults = {"force": True, "reason": "the drill", "model_digest": digest}
    request = RegisterVersionRequest(project="parcels", **{**defaults, **more})
    found = await models.register(room.desk, request, "ann", "")
    await room.relay.drain()
    return found


async def test_an_artifact_comes_back_as_it_went(room: Room):
    kept = await artifacts.put(room.desk, stream(b"a" * 10, b"b" * 10))
    assert kept.size_bytes == 20
    assert b"".join([c.data async for c in artifacts.get(room.desk, kept.digest)]) == b"a" * 10 + b"b" * 10


async def test_a_flipped_byte_is_never_served(room: Room):
    kept = await artifacts.put(room.desk, stream(b"a" * 10))
    room.objects.contents[kept.digest] = b"a" * 9 + b"b"
    with pytest.raises(ObjectCorrupt):
        _ = [c async for c in artifacts.get(room.desk, kept.digest)]
    with pytest.raises(ObjectMissing):
        _ = [c async for c in artifacts.get(room.desk, "../../etc/passwd")]


async def test_a_large_artifact_is_refused_while_it_comes(room: Room):
    with pytest.raises(TooLarge):
        await artifacts.put(room.desk, stream(b"a" * 600, b"a" * 600))
    assert not room.objects.contents


async def test_force_releases_and_is_audited(room: Room):
    await room.run("one")
    found = await push(room)
    assert (found.version, found.state, found.actor) == (2, "champion", "ann")
    event = next(e for e in room.events() if e.kind == "forced")
    assert (event.actor, event.reason, event.other_version) == ("ann", "the drill", 1)
    assert by_role(await room.plan()) == {"champion": 2, "fallback": 1}


async def test_a_derived_bundle_has_own_golden_outputs_and_the_champions_reference(room: Room):
    await room.run("one")
    room.inspector.inspection = room.graph(outputs=(0.125, 0.75))
    found = await push(room)
    bundle = json.loads(room.objects.contents[found.bundle_digest])
    assert bundle["golden"]["outputs"] == [0.125, 0.75]
    assert room.inspector.rows == bundle["golden"]["inputs"]
    assert bundle["reference"]["plan.distance"]["counts"] == [3]


async def test_the_first_model_may_be_pushed(room: Room):
    room.inspector.inspection = room.graph(outputs=(0.5,))
    found = await push(room)
    assert (found.version, found.state) == (1, "champion")
    assert {len(values) for values in room.inspector.rows.values()} == {1}


async def test_pushing_the_champion_again_changes_nothing(room: Room):
    first = await push(room)
    assert (await push(room)).version == first.version
    assert len(room.plans()) == 1


async def test_without_force_it_is_registered_only(room: Room):
    found = await push(room, force=False)
    assert (found.state, room.plans()) == ("registered", [])
    assert found.reason.startswith("the drill; registered, not released")
    assert "push it with force" in found.reason


@pytest.mark.parametrize(
    ("outputs", "output", "message"),
    [
        ((0.5,), "value", "the first output is value, not probability"),
        ((1.5,), "probability", "not a probability"),
        ((float("nan"),), "probability", "not a finite number"),
    ],
)
async def test_a_graph_that_breaks_the_contract_is_refused(room: Room, outputs, output, message):
    room.inspector.inspection = room.graph(outputs, output)
    with pytest.raises(BadModel, match=message):
        await push(room)


async def test_other_inputs_are_named(room: Room):
    graph = room.graph()
    room.inspector.inspection = type(graph)(graph.inputs[1:], graph.output, graph.outputs)
    with pytest.raises(BadModel, match=r"input plan\.origin is missing"):
        await push(room)


async def test_a_bundle_that_promises_other_outputs_is_refused(room: Room):
    bundle = await room.objects.put(room.bundle())
    room.inspector.inspection = room.graph(outputs=(0.5, 0.9))
    with pytest.raises(BadModel, match=r"golden outputs differ by 0\.65"):
        await push(room, bundle_digest=bundle)


async def test_force_needs_a_reason_and_known_bytes(room: Room):
    with pytest.raises(BadModel, match="reason"):
        await push(room, reason="")
    with pytest.raises(ObjectMissing):
        await push(room, model_digest="sha256:" + "0" * 64)


async def test_versions_are_paged_by_key_with_aliases(room: Room):
    for index in range(5):
        await room.run(f"run {index}", champion=1 if index else 0)
    request = ListVersionsRequest(project="parcels", model=MODEL, limit=2)
    page = await models.versions(room.desk, request)
    assert [v.version for v in page] == [5, 4]
    request.before_version = 4
    assert [v.version for v in await models.versions(room.desk, request)] == [3, 2]
    champion = await models.version(room.desk, GetVersionRequest(model=MODEL))
    assert (champion.version, list(champion.aliases), dict(champion.metrics)) == (1, ["champion"], {"auc": 0.7})
    with pytest.raises(UnknownThing):
        await models.versions(room.desk, ListVersionsRequest(model="other"))


async def test_lineage_goes_from_the_snapshot_to_the_last_move(room: Room):
    await room.run("one")
    reply = await models.lineage(room.desk, GetVersionRequest(model=MODEL, version=1))
    assert reply.version.snapshot_digest == "sha256:snapshot" and reply.version.run_id == "one"
    assert [e.kind for e in reply.events] == ["registered", "gated", "released"]


async def test_a_real_onnx_file_is_loaded_and_scored_apart():
    model = classifier({"plan.distance": 0.0}, {"plan.origin": {"EAST": 0.0}})
    rows = {"plan.distance": [1.0, None], "plan.origin": ["EAST", None]}
    found = await OnnxInspector(30).inspect(model, rows)
    assert {t.name: (t.type, t.dimensions) for t in found.inputs} == {
        "plan.distance": ("tensor(float)", 1),
        "plan.origin": ("tensor(string)", 1),
    }
    assert (found.output.name, found.outputs) == ("probability", (0.5, 0.5))


async def test_a_file_that_is_no_onnx_is_refused():
    with pytest.raises(BadModel, match="does not load"):
        await OnnxInspector(30).inspect(b"not a model", {})


async def test_a_check_that_hangs_is_ended():
    with pytest.raises(BadModel, match="within"):
        await OnnxInspector(0.01).inspect(b"", {})
