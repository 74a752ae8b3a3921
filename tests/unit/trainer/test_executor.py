"""Runs are done once, survive a crash, and end with the evidence or the reason."""

import asyncio
import contextlib
import json
from dataclasses import replace

import pytest
from millrace.runtime.definitions import Definition
from millrace.stores.errors import StoreUnavailable
from millrace.wire.trainer.v1.events_pb2 import RunEvent, TrainingRequest

from services.trainer.adapters.runs_sql import SqlBook
from services.trainer.domain.job import ChampionSpec
from services.trainer.domain.runs import State
from services.trainer.domain.scheduler import Request, Trigger
from services.trainer.domain.switches import Switch
from services.trainer.entrypoints.executor import MAX_ATTEMPTS, Executor
from services.trainer.entrypoints.workshop import Workshop
from services.trainer.handlers import ask, consider, switch
from tests.support.poll import until
from tests.unit.trainer.world import START_US, FakeFeatures, FakeJobs, FakeRegistry, World, digest, project

STATE = RunEvent.State


@pytest.fixture
async def world(tmp_path):
    """The small project, with state in a file."""
    made = World(project(), f"sqlite:///{tmp_path / 'trainer.db'}")
    await made.start()
    yield made
    await made.stop()


class Shop:
    """An executor with its fakes."""

    def __init__(self, world, tmp_path, **jobs):
        self.features, self.registry, self.jobs = FakeFeatures(), FakeRegistry(), FakeJobs(**jobs)
        self.world = world
        self.workshop = Workshop(self.features, self.registry, self.jobs, tmp_path, "1.0", threads=1, patience_s=5.0)
        self.task = None

    async def __aenter__(self):
        executor = Executor(self.world.desk, self.workshop, self.world.changed)
        self.world.changed.set()
        self.task = asyncio.create_task(executor.run())
        return self

    async def __aexit__(self, *error):
        self.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.task

    async def ends(self, count=1):
        """The last events once `count` runs have ended."""

        async def ended():
            events = await self.world.run_events()
            done = [e for e in events if e.state in (STATE.PASSED, STATE.REFUSED, STATE.FAILED, STATE.DECLINED)]
            return done if len(done) >= count else None

        done = await until(ended, 5.0)
        await until(lambda: self.world.runs.unfinished_runs == 0, 5.0)
        return done


async def ask_by_hand(world, name="by-hand"):
    await world.ask(TrainingRequest.MANUAL, START_US, name)


@pytest.mark.parametrize("verdict", ["PASSED", "REFUSED"])
async def test_a_run_ends_with_its_verdict_and_everything_by_digest(world, tmp_path, verdict):
    async with Shop(world, tmp_path, verdict=verdict) as shop:
        await ask_by_hand(world)
        [end] = await shop.ends()
    assert end.state == STATE.Value(verdict)
    candidate = end.candidate
    for name in (candidate.model_digest, candidate.gate_report_digest, candidate.bundle_digest):
        assert digest(shop.registry.artifacts[name]) == name
    assert candidate.snapshot_digest.startswith("sha256:") and candidate.definition_version == 1
    assert candidate.metrics["auc"] == 0.8 and candidate.template == "wide-and-deep" and candidate.seed == 7
    assert [e.state for e in await world.run_events()] == [STATE.QUEUED, STATE.RUNNING, STATE.Value(verdict)]
    causes = {e.causation_id for e in await world.published("training.runs")}
    assert causes == {"by-hand"} and world.runs.unfinished_runs == 0
    assert shop.features.asked == [(START_US - 30 * 86_400_000_000, START_US)]
    async with world.runs.read() as book:
        run = await book.run(end.run_id)
    assert run.curve == ((1, 0.7, 0.6),) and json.loads(run.report_json)["turn"] == 1


async def test_too_few_rows_decline_the_run_and_spend_no_budget(world, tmp_path):
    async with Shop(world, tmp_path) as shop:
        shop.features.rows = 4
        await ask_by_hand(world)
        [end] = await shop.ends()
    assert end.state == STATE.DECLINED and end.reason == "4 labelled rows, 10 are needed"
    async with world.runs.read() as book:
        assert await book.past_runs("pumps") == []
    assert shop.jobs.specs == []


async def test_rows_are_held_against_those_of_the_last_run_that_passed(world, tmp_path):
    day_us = 86_400_000_000
    async with Shop(world, tmp_path) as shop:
        for number, (verdict, declined) in enumerate(
            [("PASSED", ""), ("REFUSED", ""), ("PASSED", ""), ("", "broken"), ("PASSED", "")]
        ):
            shop.jobs.verdict, shop.jobs.declined = verdict, declined
            world.clocks.time_us = START_US + number * 2 * day_us
            await world.ask(TrainingRequest.MANUAL, world.clocks.time_us, f"by-hand-{number}")
            ends = await shop.ends(number + 1)
    specs, ids = shop.jobs.specs, [end.run_id for end in ends]
    judged = [sorted(first - START_US for first, _ in spec.judged) for spec in specs]
    assert judged == [[], [1], [1, 2], [1, 2, 3], [1, 2, 3]], "a declined run was judged by nothing"
    assert [spec.reference for spec in specs] == ["", ids[0], ids[0], ids[2], ids[2]]
    assert (ends[3].state, ends[3].reason) == (STATE.DECLINED, "broken")
    async with world.runs.read() as book:
        seen = [json.loads((await book.run(run_id)).report_json)["data"]["seen"] for run_id in ids]
    assert [data and data["turn"] for data in seen] == [None, 1, 1, 3, 3], "a declined run keeps what it found, too"
    assert not list(tmp_path.glob("*/reference.json"))


async def test_of_a_column_that_is_made_in_another_way_now_nothing_is_known(world, tmp_path):
    async with Shop(world, tmp_path) as shop:
        await ask_by_hand(world)
        await shop.ends()
        definition = world.definitions.projects["pumps"]
        [view] = definition.project.views
        other = replace(definition.project, views=(replace(view, derive=(("double", "2 * pressure"),)),))
        for name, project, known in (
            ("gate", replace(definition.project, gate=replace(other.gate, margin=0.1)), 3),
            ("view", other, 1),
            ("label", replace(other, label=replace(other.label, value="broken > 1")), 2),  # of those of the run before
        ):
            world.definitions.projects["pumps"] = replace(definition, project=project)
            world.clocks.time_us += 2 * 86_400_000_000
            await world.ask(TrainingRequest.MANUAL, world.clocks.time_us, name)
            end = (await shop.ends(len(shop.jobs.specs) + 1))[-1]
            async with world.runs.read() as book:
                seen = json.loads((await book.run(end.run_id)).report_json)["data"]["seen"]
            assert len(seen["profile"]["columns"]) == known, name


async def test_a_failed_job_says_why(world, tmp_path):
    async with Shop(world, tmp_path, fails="the job ended with status 1: ValueError: no") as shop:
        await ask_by_hand(world)
        [end] = await shop.ends()
    assert end.state == STATE.FAILED and "ValueError: no" in end.reason


async def test_a_neighbour_that_is_away_is_waited_for(world, tmp_path):
    async with Shop(world, tmp_path) as shop:
        shop.features.gone = 1
        await ask_by_hand(world)
        [end] = await shop.ends()
    assert end.state == STATE.PASSED


async def test_a_run_that_was_cut_off_is_done_under_the_same_id_on_the_same_snapshot(world, tmp_path):
    async with Shop(world, tmp_path, hold=asyncio.Event()) as shop:
        await ask_by_hand(world)
        await until(lambda: shop.jobs.specs, 5.0)
    first = shop.jobs.specs[0]
    assert world.runs.unfinished_runs == 1
    async with Shop(world, tmp_path) as again:
        [end] = await again.ends()
    assert end.run_id == first.run_id and end.candidate.snapshot_digest == first.snapshot_digest
    assert again.features.asked == []
    states = [e.state for e in await world.run_events()]
    assert states == [STATE.QUEUED, STATE.RUNNING, STATE.RUNNING, STATE.PASSED]
    ids = [e.id for e in await world.published("training.runs")]
    assert len(set(ids)) == len(ids)


async def test_a_superseded_attempt_writes_nothing(world, tmp_path):
    hold = asyncio.Event()
    async with Shop(world, tmp_path, hold=hold) as shop:
        await ask_by_hand(world)
        await until(lambda: shop.jobs.specs, 5.0)
        async with world.runs.transaction() as book:
            [run] = await book.unfinished()
            await book.put_run(replace(run, attempt=run.attempt + 1, state=State.FAILED))
        hold.set()
        await asyncio.sleep(0)
        await until(lambda: not world.changed.is_set(), 5.0)
    async with world.runs.read() as book:
        assert (await book.run(run.run_id)).state is State.FAILED


async def test_a_run_that_always_takes_the_process_down_is_given_up(world, tmp_path):
    for _ in range(5):
        async with Shop(world, tmp_path, hold=asyncio.Event()) as shop:
            await (ask_by_hand(world) if not await world.run_events() else asyncio.sleep(0))
            await until(lambda shop=shop: shop.jobs.specs, 5.0)
    async with Shop(world, tmp_path) as last:
        [end] = await last.ends()
    assert end.state == STATE.FAILED and "5 attempts" in end.reason


async def test_the_champion_is_compared_with_and_a_change_meanwhile_gates_again(world, tmp_path):
    async with Shop(world, tmp_path) as shop:
        first, second = [await shop.registry.put_artifact(data) for data in (b"one", b"two")]
        shop.registry.serving = ChampionSpec(1, first)

        def overtaken(jobs_done):
            shop.registry.serving = ChampionSpec(2, second)

        shop.jobs.on_run = overtaken
        await ask_by_hand(world)
        [end] = await shop.ends()
    assert [(s.mode, s.champion.version) for s in shop.jobs.specs] == [("train", 1), ("gate", 2)]
    same_rows = ((START_US + 1, START_US + 11),)
    assert [s.judged for s in shop.jobs.specs] == [(), same_rows]
    assert end.candidate.champion_version == 2


async def test_a_stale_gate_is_met_again_by_the_stored_model_under_the_same_run(world, tmp_path):
    async with Shop(world, tmp_path) as shop:
        await ask_by_hand(world)
        [first] = await shop.ends()
        shop.registry.serving = ChampionSpec(7, await shop.registry.put_artifact(b"champion"))
        await world.ask(TrainingRequest.STALE_GATE, START_US + 5, "stale-1", first.run_id)
        ends = await shop.ends(2)
    assert ends[1].run_id == first.run_id and ends[1].candidate.champion_version == 7
    assert ends[1].candidate.gate_report_digest != first.candidate.gate_report_digest
    assert ends[1].candidate.model_digest == first.candidate.model_digest
    assert ends[1].candidate.snapshot_digest == first.candidate.snapshot_digest
    own = ((START_US + 1, START_US + 11),)
    assert [(s.mode, s.judged) for s in shop.jobs.specs] == [("train", ()), ("gate", own)]
    async with world.runs.read() as book:
        later = await book.judged("pumps", START_US)
    assert len(later) == 2, "the run met the gate twice, whoever asks"
    events = await world.published("training.runs")
    assert events[-1].causation_id == "stale-1" and len({e.id for e in events}) == len(events)


async def test_requests_that_come_while_a_run_is_unfinished_share_the_next(world, tmp_path):
    hold = asyncio.Event()
    async with Shop(world, tmp_path, hold=hold) as shop:
        await ask_by_hand(world, "one")
        await until(lambda: shop.jobs.specs, 5.0)
        await ask_by_hand(world, "two")
        await ask_by_hand(world, "three")
        assert world.runs.unfinished_runs == 1
        hold.set()
        ends = await shop.ends(2)
    assert set(ends[1].request_ids) == {"two", "three"}


async def test_a_run_under_way_is_stopped_by_the_switch_and_goes_on_with_its_snapshot(world, tmp_path):
    hold = asyncio.Event()
    async with Shop(world, tmp_path, hold=hold) as shop:
        await ask_by_hand(world)
        await until(lambda: shop.jobs.specs, 5.0)
        await switched(world, off=True)
        last = await until(lambda: stands(world, STATE.QUEUED, 1), 5.0)
        assert last.reason == "training of pumps is switched off by ana: costs"
        assert world.runs.unfinished_runs == 0  # nobody waits for what is switched off
        hold.set()
        await switched(world, off=False)
        [end] = await shop.ends()
    assert end.state == STATE.PASSED
    told = [(e.state, e.reason) for e in await world.run_events()]
    assert told[3:5] == [(STATE.RUNNING, told[0][1]), (STATE.PASSED, "because")]
    assert len(shop.features.asked) == 1
    assert {spec.snapshot_digest for spec in shop.jobs.specs} == {end.candidate.snapshot_digest}


async def test_a_queued_run_does_not_start_while_it_is_switched_off_and_others_do(tmp_path):
    other = replace(project(), name="valves")
    world = World(project(), f"sqlite:///{tmp_path / 'trainer.db'}")
    world.definitions.projects = {**world.definitions.projects, "valves": Definition(1, "sha256:v", other)}
    await world.start()
    await ask_by_hand(world)
    await switched(world, off=True)
    async with world.runs.transaction() as book:
        asked = Request("by-hand-2", "valves", Trigger.MANUAL, START_US)
        await ask(book, asked, "", 1)
        await consider(world.desk, book, "valves")
    async with Shop(world, tmp_path) as shop:
        [end] = await shop.ends()
        assert end.project == "valves"
        await switched(world, off=False)
        both = await shop.ends(2)
    assert {e.project for e in both} == {"pumps", "valves"}
    await world.stop()


async def test_a_run_that_was_left_running_when_the_room_died_is_put_back_while_it_is_off(world, tmp_path):
    async with Shop(world, tmp_path, hold=asyncio.Event()) as shop:
        await ask_by_hand(world)
        await until(lambda: shop.jobs.specs, 5.0)
    await switched(world, off=True)
    async with Shop(world, tmp_path) as shop:
        await until(lambda: stands(world, STATE.QUEUED, 1), 5.0)
        await switched(world, off=False)
        [end] = await shop.ends()
    assert end.state == STATE.PASSED


async def test_a_switch_that_is_used_again_and_again_does_not_give_a_run_up(world, tmp_path):
    hold = asyncio.Event()
    async with Shop(world, tmp_path, hold=hold) as shop:
        await ask_by_hand(world)
        for turn in range(1, MAX_ATTEMPTS + 2):
            await until(lambda turn=turn: len(shop.jobs.specs) == turn, 5.0)
            await switched(world, off=True)
            await until(lambda turn=turn: stands(world, STATE.QUEUED, turn), 5.0)
            await switched(world, off=False)
        hold.set()
        [end] = await shop.ends()
    assert end.state == STATE.PASSED


async def test_a_database_that_does_not_answer_for_a_moment_ends_no_run(world, tmp_path, monkeypatch):
    hold, asked = asyncio.Event(), []

    async def away(book, project):
        asked.append(project)
        raise StoreUnavailable("a blip")

    async with Shop(world, tmp_path, hold=hold) as shop:
        await ask_by_hand(world)
        await until(lambda: shop.jobs.specs, 5.0)
        with monkeypatch.context() as patch:
            patch.setattr(SqlBook, "off", away)
            world.changed.set()
            await until(lambda: asked, 5.0)
        hold.set()
        [end] = await shop.ends()
    assert end.state == STATE.PASSED


async def switched(world, *, off):
    async with world.runs.transaction() as book:
        await switch(world.desk, book, Switch("pumps", off, "costs" if off else "", "ana", 1))
    world.changed.set()


async def stands(world, state, attempts):
    """The last event, once it is of this state after so many attempts."""
    events = await world.run_events()
    tried = sum(e.state == STATE.RUNNING for e in events)
    return events[-1] if events and (events[-1].state, tried) == (state, attempts) else None
