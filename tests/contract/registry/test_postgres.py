"""The suite of the twin, on PostgreSQL; and what the twin cannot show: writers that do not queue up in one process."""

from __future__ import annotations

import asyncio

from millrace.bus.effects import Effects
from millrace.bus.events import Batch
from millrace.runtime.errors import Conflict
from millrace.wire.registry.v1.events_pb2 import ModelCommand

from services.registry.handlers import release
from tests.unit.registry.desk import MODEL, PARCELS, Room, by_role
from tests.unit.registry.test_definition_handlers import (
    test_a_changed_view_must_be_a_new_version_for_ever,
    test_two_applies_cannot_race,
    test_unchanged_content_keeps_its_version,
)
from tests.unit.registry.test_models import (
    test_force_releases_and_is_audited,
    test_lineage_goes_from_the_snapshot_to_the_last_move,
    test_versions_are_paged_by_key_with_aliases,
)
from tests.unit.registry.test_release_handlers import (
    test_a_canary_serves_its_share_and_is_promoted_when_asked,
    test_a_champion_that_no_replica_loads_is_rolled_back,
    test_a_passed_run_is_released_with_its_causes,
    test_a_repeated_record_changes_nothing,
    test_a_rollback_names_both_versions_and_its_cause,
    test_a_stale_report_asks_the_trainer_for_a_new_gate,
    test_one_rollback_per_incident,
    test_the_warm_target_leaves_when_the_guard_ends_on_the_projects_clock,
)

SAME = (
    test_a_canary_serves_its_share_and_is_promoted_when_asked,
    test_a_champion_that_no_replica_loads_is_rolled_back,
    test_a_changed_view_must_be_a_new_version_for_ever,
    test_a_passed_run_is_released_with_its_causes,
    test_a_repeated_record_changes_nothing,
    test_a_rollback_names_both_versions_and_its_cause,
    test_a_stale_report_asks_the_trainer_for_a_new_gate,
    test_force_releases_and_is_audited,
    test_lineage_goes_from_the_snapshot_to_the_last_move,
    test_one_rollback_per_incident,
    test_the_warm_target_leaves_when_the_guard_ends_on_the_projects_clock,
    test_two_applies_cannot_race,
    test_unchanged_content_keeps_its_version,
    test_versions_are_paged_by_key_with_aliases,
)


async def test_concurrent_rollbacks_of_one_incident_are_one(room: Room):
    await room.run("one")
    await room.run("two", champion=1)
    await room.command(ModelCommand.ADVANCE, 2)
    body = ModelCommand(project="parcels", model=MODEL, verb=ModelCommand.ROLLBACK, version=2, incident_id="i")
    replies = await asyncio.gather(*(release.command(room.desk, body, f"person {i}", "") for i in range(8)))
    assert sum(reply.accepted for reply in replies) == 1
    await room.relay.drain()
    assert by_role(await room.plan()) == {"champion": 1}
    assert [plan.epoch for plan in room.plans()] == [1, 2, 3, 4]


async def test_concurrent_candidates_get_numbers_of_their_own(room: Room):
    await room.run("zero")
    ready = [await _passed(room, index) for index in range(8)]
    batches = [Batch(r.topic, r.partition, (r,)) for r in ready]
    await asyncio.gather(*(room.consumer.handle(b, Effects("registry", lambda: 7)) for b in batches))
    await room.relay.drain()
    states = await room.states()
    assert sorted(states) == list(range(1, 10))
    assert list(states.values()).count("champion") == 1 and list(states.values()).count("canary") == 1
    epochs = [plan.epoch for plan in room.plans()]
    assert len(set(epochs)) == len(epochs) == 9


async def _passed(room: Room, index: int):
    """A record of a passed run that was not handled yet; each in a partition of its own."""
    from millrace.wire.trainer.v1.events_pb2 import Candidate, RunEvent
    from msgspec import structs

    candidate = Candidate(
        model_digest=await room.objects.put(b"m%d" % index),
        bundle_digest=await room.objects.put(room.bundle()),
        gate_report_digest=f"sha256:{index}",
        definition_version=1,
        champion_version=1,
    )
    run = RunEvent(project="parcels", run_id=f"passed {index}", state=RunEvent.PASSED, candidate=candidate)
    return structs.replace(room.record("training.runs", run), partition=index + 1)


async def test_concurrent_applies_are_one(room: Room):
    texts = [PARCELS.read_text().replace("cooldown: 5d", f"cooldown: {6 + i}d") for i in range(6)]
    outcomes = await asyncio.gather(*(room.apply(t, based_on=1) for t in texts), return_exceptions=True)
    won = [o for o in outcomes if not isinstance(o, BaseException)]
    assert len(won) == 1 and won[0].version == 2
    assert all(isinstance(o, Conflict) for o in outcomes if isinstance(o, BaseException))
    assert len(room.bus.records("definitions")) == 2
