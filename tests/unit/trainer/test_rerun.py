"""A run once more from its record: what came out as recorded, and what did not."""

import asyncio
from contextlib import aclosing, suppress
from dataclasses import replace

import pytest
from millrace.runtime.definitions import Definition
from millrace.stores.superseded import note_superseded
from millrace.wire.ingestion.v1.forgetting_pb2 import Forget, Superseded
from millrace.wire.trainer.v1.events_pb2 import TrainingRequest

from services.trainer.domain.job import TRAIN, ChampionSpec
from services.trainer.domain.switches import Switch
from services.trainer.entrypoints.rerun import Reruns
from services.trainer.errors import BadRequest, SwitchedOff
from services.trainer.handlers import switch
from tests.support.poll import until
from tests.unit.trainer.test_executor import Shop, ask_by_hand
from tests.unit.trainer.world import START_US


@pytest.fixture
async def shop(world, tmp_path):
    """A workshop that has made one run, gated against a champion."""
    async with Shop(world, tmp_path / "runs") as made:
        made.registry.serving = ChampionSpec(3, await made.registry.put_artifact(b"champion"))
        await ask_by_hand(world)
        [made.end] = await made.ends()
    return made


async def outcome_of(world, shop, run_id=""):
    """Every step that is told, and the outcome."""
    steps = [step async for step in Reruns(world.desk, shop.workshop).rerun(run_id or shop.end.run_id)]
    assert [outcome for *_, outcome in steps[:-1]] == [None] * (len(steps) - 1)
    return steps, steps[-1][-1]


async def test_the_record_alone_gives_the_same_run_and_changes_nothing(world, shop, tmp_path):
    shop.registry.serving = ChampionSpec(9, "sha256:other")  # what serves by now is not what it was held against
    events = len(await world.run_events())
    steps, outcome = await outcome_of(world, shop)
    assert outcome.same and outcome.note == "" and all(line.same for line in outcome.lines)
    assert {"data snapshot", "verdict", "model", "auc of candidate", "code", "environment"} <= {
        line.what for line in outcome.lines
    }
    first, again = shop.jobs.specs
    assert again == first and again.mode == TRAIN and again.champion.version == 3
    assert [share for _, share, _ in steps] == sorted(share for _, share, _ in steps) and steps[-1][1] == 1.0
    assert len(await world.run_events()) == events
    assert not list((tmp_path / "reruns").iterdir())


async def test_what_differs_is_named(world, shop):
    shop.jobs.auc, shop.features.history = 0.8000000000000002, "a label more"
    _, outcome = await outcome_of(world, shop)
    assert not outcome.same
    differing = {line.what: (line.before, line.now) for line in outcome.lines if not line.same}
    assert differing["auc of candidate"] == ("0.8", "0.8000000000000002")
    assert set(differing) == {"auc of candidate", "data snapshot"}


async def test_other_code_is_told_and_does_not_decide(world, shop):
    shop.workshop = replace(shop.workshop, code_version="2.0")
    _, outcome = await outcome_of(world, shop)
    [line] = [line for line in outcome.lines if not line.same]
    assert outcome.same and (line.what, line.before, line.now) == ("code", "1.0", "2.0")


async def test_under_another_definition_the_kept_rows_are_read(world, shop):
    definition = world.definitions.projects["pumps"]
    world.definitions.projects = {"pumps": Definition(2, "sha256:e", definition.project)}
    asked = len(shop.features.asked)
    _, outcome = await outcome_of(world, shop)
    assert outcome.same and "the definition is version 2" in outcome.note and len(shop.features.asked) == asked


async def test_a_run_that_met_its_gate_again_is_held_against_what_that_gate_measured(world, tmp_path):
    async with Shop(world, tmp_path / "runs") as shop:
        await ask_by_hand(world)
        [first] = await shop.ends()
        shop.registry.serving = ChampionSpec(7, await shop.registry.put_artifact(b"champion"))
        await world.ask(TrainingRequest.STALE_GATE, START_US + 5, "stale-1", first.run_id)
        shop.end = (await shop.ends(2))[-1]
    _, outcome = await outcome_of(world, shop)
    assert outcome.same and "met its gate again" in outcome.note
    assert "auc of tried" not in {line.what for line in outcome.lines}
    spec = shop.jobs.specs[-1]
    assert (spec.mode, spec.champion.version, len(spec.judged)) == (TRAIN, 7, 1)


async def test_what_cannot_be_made_again_says_why(world, shop, tmp_path):
    async with world.runs.transaction() as book:
        run = await book.run(shop.end.run_id)
        await book.put_run(replace(run, report_json='{"metrics": {}}'))
    with pytest.raises(BadRequest, match="of an older release"):
        await outcome_of(world, shop)
    async with world.runs.transaction() as book:
        await book.put_run(replace(run, report_json=run.report_json))
        await switch(world.desk, book, Switch("pumps", True, "the disk is full", "ada", 1))
    with pytest.raises(SwitchedOff, match="the disk is full"):
        await outcome_of(world, shop)


async def test_a_declined_run_has_no_model_to_hold_against_its_record(world, tmp_path):
    async with Shop(world, tmp_path / "runs", declined="too odd") as shop:
        await ask_by_hand(world)
        [shop.end] = await shop.ends()
    with pytest.raises(BadRequest, match="is DECLINED: it has no model"):
        await outcome_of(world, shop)


async def test_rows_that_were_forgotten_are_not_learned_from_again(world, shop):
    digest = shop.end.candidate.snapshot_digest
    request = Forget(id="f-1", phase=Forget.SWEPT, snapshots=[Superseded(digest=digest, by="sha256:newer")])
    await note_superseded(world.database, request, 5)
    with pytest.raises(BadRequest, match="forgotten"):
        await outcome_of(world, shop)
    assert len(shop.jobs.specs) == 1


async def test_who_goes_away_ends_the_job_and_leaves_nothing(world, shop, tmp_path):
    shop.jobs.hold = asyncio.Event()

    async def follow():
        async with aclosing(Reruns(world.desk, shop.workshop).rerun(shop.end.run_id)) as steps:
            async for _ in steps:
                pass

    asked = asyncio.create_task(follow())
    await until(lambda: len(shop.jobs.specs) == 2, 5.0)
    asked.cancel()
    with suppress(asyncio.CancelledError):
        await asked
    assert asked.cancelled() and not list((tmp_path / "reruns").iterdir())
