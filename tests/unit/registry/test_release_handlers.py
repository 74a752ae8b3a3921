"""Runs, commands, statuses and guards, from the record on a topic to the records on others."""

from __future__ import annotations

import pytest
from millrace.bus.errors import MalformedEvent
from millrace.bus.events import Record
from millrace.wire.registry.v1.events_pb2 import ModelCommand
from millrace.wire.trainer.v1.events_pb2 import RunEvent, TrainingRequest

from services.registry.errors import BadModel, UnknownThing
from services.registry.handlers import HANDLERS, release
from tests.unit.registry.desk import HOUR_US, MODEL, Room, by_role

DAY_US = 24 * HOUR_US


async def promoted(room: Room) -> None:
    """Version 1 is champion, version 2 went through its canary and replaced it."""
    await room.run("one")
    await room.run("two", champion=1)
    await room.command(ModelCommand.ADVANCE, 2)


def test_every_consumed_topic_has_its_handler():
    assert set(HANDLERS) == {"training.runs", "models.commands", "serving.status"}


async def test_a_passed_run_is_released_with_its_causes(room: Room):
    record = await room.run("one")
    assert [e.kind for e in room.events()] == ["registered", "gated", "released"]
    told = room.bus.records("models.events")
    assert {r.event.causation_id for r in told} == {record.event.id}
    assert len({r.event.id for r in told}) == 3
    plan = room.bus.records("models.releases")[0]
    assert plan.event.causation_id == told[-1].event.id
    assert plan.key == MODEL.encode()
    (served,) = room.plans()
    assert (served.epoch, served.cause, served.definition_version) == (1, "released", 1)
    assert served.variants[0].model_digest.startswith("sha256:") and served.variants[0].weight == 1.0


async def test_a_repeated_record_changes_nothing(room: Room):
    record = await room.run("one")
    await room.give(record)
    moved = Record("training.runs", 1, 99, record.key, record.headers, record.data, 0)
    await room.give(moved)
    assert len(room.events()) == 3 and await room.states() == {1: "champion"}


async def test_an_unfinished_run_registers_nothing(room: Room):
    await room.run("one", state=RunEvent.RUNNING)
    assert await room.states() == {}


async def test_a_refused_run_is_kept_with_its_reason(room: Room):
    await room.run("one", state=RunEvent.REFUSED)
    assert await room.states() == {1: "rejected"}
    assert room.plans() == []


async def test_bytes_come_before_metadata(room: Room):
    run = RunEvent(project="parcels", run_id="x", state=RunEvent.PASSED)
    run.candidate.model_digest = "sha256:" + "0" * 64
    with pytest.raises(BadModel, match="never put here"):
        await room.give(room.record("training.runs", run))


async def test_nonsense_is_rejected_by_name(room: Room):
    broken = Record("training.runs", 0, 50, None, (("ce_id", b"1"), ("ce_type", b"t"), ("ce_source", b"s")), b"\xff", 0)
    with pytest.raises(MalformedEvent):
        await room.give(broken)
    with pytest.raises(UnknownThing):
        await room.give(room.record("training.runs", RunEvent(project="nobody", state=RunEvent.PASSED)))


async def test_a_canary_serves_its_share_and_is_promoted_when_asked(room: Room):
    await room.run("one")
    await room.run("two", champion=1)
    plan = await room.plan()
    assert by_role(plan) == {"champion": 1, "canary": 2}
    assert [v.weight for v in plan.variants] == [0.8, 0.2]
    salt = plan.salt
    await room.command(ModelCommand.HOLD, 2, reason="not sure")
    assert room.events()[-1].kind == "held"
    record = await room.command(ModelCommand.ADVANCE, 2, reason="no worse")
    plan = await room.plan()
    assert by_role(plan) == {"champion": 2, "fallback": 1}
    assert (plan.salt, plan.epoch) == (salt, 3)
    promoted, retired = room.events()[-2:]
    assert (promoted.kind, promoted.version, promoted.other_version, promoted.reason) == ("promoted", 2, 1, "no worse")
    assert (retired.kind, retired.version, retired.from_state) == ("retired", 1, "champion")
    assert room.bus.records("models.events")[-2].event.causation_id == record.event.id


async def test_a_stale_command_changes_nothing(room: Room):
    await room.run("one")
    await room.command(ModelCommand.ADVANCE, 1)
    await room.command(ModelCommand.ROLLBACK, 9)
    assert len(room.plans()) == 1


async def test_a_stale_report_asks_the_trainer_for_a_new_gate(room: Room):
    await promoted(room)
    await room.run("three", champion=1)
    assert (await room.states())[3] == "gated"
    (asked,) = room.bus.records("training.requests")
    request = TrainingRequest.FromString(asked.data)
    assert (request.trigger, request.run_id) == (TrainingRequest.STALE_GATE, "three")
    assert asked.event.causation_id == room.bus.records("models.events")[-1].event.id
    await room.run("three", champion=2, report="sha256:again")
    assert (await room.states())[3] == "canary"


async def test_a_rollback_names_both_versions_and_its_cause(room: Room):
    await promoted(room)
    record = await room.command(ModelCommand.ROLLBACK, 2, incident_id="i", reason="worse by 0.1")
    event = next(e for e in room.events() if e.kind == "rolled_back")
    assert (event.version, event.other_version, event.reason, event.epoch) == (2, 1, "worse by 0.1", 4)
    told = next(r for r in room.bus.records("models.events") if r.event.type.endswith(".rolled_back.v1"))
    assert told.event.causation_id == record.event.id
    assert room.bus.records("models.releases")[-1].event.causation_id == told.event.id
    assert by_role(await room.plan()) == {"champion": 1}
    assert await room.states() == {1: "champion", 2: "rejected"}


async def test_one_rollback_per_incident(room: Room):
    await promoted(room)
    await room.command(ModelCommand.ROLLBACK, 2, incident_id="i")
    epochs = len(room.plans())
    for _ in range(3):
        await room.command(ModelCommand.ROLLBACK, 2, incident_id="i")
    assert len(room.plans()) == epochs


async def test_a_command_by_grpc_is_told_on_its_topic_and_not_obeyed_twice(room: Room):
    await promoted(room)
    body = ModelCommand(project="parcels", model=MODEL, verb=ModelCommand.ROLLBACK, version=2, reason="by hand")
    reply = await release.command(room.desk, body, "ann", "")
    await room.relay.drain()
    assert reply.accepted and reply.epoch == 4
    told = room.bus.records("models.commands")[-1]
    rolled_back = next(r for r in room.bus.records("models.events") if r.event.id == reply.event_id)
    assert rolled_back.event.causation_id == told.event.id and rolled_back.event.actor == "ann"
    await room.give(told)
    assert len(room.plans()) == 4


async def test_a_refused_command_says_why(room: Room):
    body = ModelCommand(project="parcels", model=MODEL, verb=ModelCommand.ROLLBACK, version=1)
    reply = await release.command(room.desk, body, "ann", "")
    assert not reply.accepted and "does not serve" in reply.reason
    with pytest.raises(UnknownThing):
        await release.command(room.desk, ModelCommand(project="parcels", model="other"), "ann", "")


async def test_the_warm_target_leaves_when_the_guard_ends_on_the_projects_clock(room: Room):
    await promoted(room)
    room.clock.now += 4 * DAY_US - 1
    await release.expire_guards(room.desk, "parcels")
    assert by_role(await room.plan()) == {"champion": 2, "fallback": 1}
    room.clock.now += 1
    await release.expire_guards(room.desk)
    assert by_role(await room.plan()) == {"champion": 2}
    assert (await room.plan()).cause == "retired"
    await room.command(ModelCommand.ROLLBACK, 2)
    assert by_role(await room.plan()) == {"champion": 1}


async def test_a_champion_that_no_replica_loads_is_rolled_back(room: Room):
    await promoted(room)
    await room.status(3, "a", v1="ready", v2="failed")
    assert by_role(await room.plan()) == {"champion": 1}
    event = next(e for e in room.events() if e.kind == "rolled_back")
    assert "cannot load" in event.reason


async def test_one_bad_replica_is_not_a_bad_version(room: Room):
    await promoted(room)
    await room.status(3, "a", v1="ready", v2="ready")
    await room.status(3, "b", v1="ready", v2="failed")
    assert by_role(await room.plan()) == {"champion": 2, "fallback": 1}


async def test_a_replica_still_loading_is_waited_for(room: Room):
    await promoted(room)
    await room.status(3, "b", v1="ready", v2="loading")
    await room.status(3, "a", v1="ready", v2="failed")
    assert by_role(await room.plan()) == {"champion": 2, "fallback": 1}
    await room.status(3, "b", v1="ready", v2="failed")
    assert by_role(await room.plan()) == {"champion": 1}


async def test_a_status_of_an_older_plan_is_ignored(room: Room):
    await promoted(room)
    await room.status(2, "a", v1="ready", v2="failed")
    assert by_role(await room.plan()) == {"champion": 2, "fallback": 1}


async def test_a_single_version_that_does_not_load_stays_and_recovers(room: Room):
    await room.run("one")
    await room.status(1, "a", v1="failed")
    assert by_role(await room.plan()) == {"champion": 1}
    await room.status(1, "a", v1="ready")
    await room.run("two", champion=1)
    await room.command(ModelCommand.ADVANCE, 2)
    await room.command(ModelCommand.ROLLBACK, 2)
    assert by_role(await room.plan()) == {"champion": 1}


async def test_epochs_grow_strictly(room: Room):
    await promoted(room)
    await room.command(ModelCommand.ROLLBACK, 2)
    assert [plan.epoch for plan in room.plans()] == [1, 2, 3, 4]
