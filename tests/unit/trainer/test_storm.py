"""Ten thousand labels in ten seconds and a storm of drift alarms: no more runs than the budget, and none starves."""

import asyncio
from collections import Counter
from dataclasses import replace

import pytest
from millrace.definitions.model import DAY_US, Clock
from millrace.runtime.definitions import Definition
from millrace.wire.trainer.v1.events_pb2 import RunEvent, TrainingRequest

from services.trainer.domain.scheduler import Request, Trigger
from services.trainer.entrypoints.executor import Executor
from services.trainer.entrypoints.workshop import Workshop
from services.trainer.handlers import ask, consider, look_again
from tests.support.poll import until
from tests.unit.trainer.world import START_US, FakeFeatures, FakeJobs, FakeRegistry, World, definition_of

SECOND_US = 1_000_000
LABELS, ALARMS, SECONDS, TURNS = 10_000, 500, 10, 100
BUDGET = 3
NOON_US = START_US // DAY_US * DAY_US + DAY_US // 2


@pytest.fixture
async def world(tmp_path):
    """The small project on wall time, with a neighbour that asks once; state in a file."""
    policy = {"new_labels": 100, "debounce_us": SECOND_US, "cooldown_us": SECOND_US, "budget_per_day": BUDGET}
    stormy = definition_of(Clock.WALL, **policy)
    made = World(stormy, f"sqlite:///{tmp_path / 'trainer.db'}")
    quiet = Definition(1, "sha256:v", replace(stormy, name="valves"))
    made.definitions.projects = {**made.definitions.projects, "valves": quiet}
    made.clocks.time_us = NOON_US
    await made.start()
    yield made
    await made.stop()


async def storm(world: World) -> None:
    """Labels and alarms in turns."""
    for turn in range(TURNS):
        world.clocks.time_us = now_us = NOON_US + turn * SECONDS * SECOND_US // TURNS
        await world.labels([now_us] * (LABELS // TURNS), partition=turn % 2)
        for name in [name for name in alarms() if name.startswith(f"drift-{turn:03}")]:
            await world.ask(TrainingRequest.DRIFT, now_us, name)
        await world.beat(now_us)
        if turn == TURNS // 2:
            async with world.runs.transaction() as book:
                await ask(book, Request("quiet", "valves", Trigger.DRIFT, now_us), "", 1)
                await consider(world.desk, book, "valves")
        await asyncio.sleep(0)


async def rested(world: World) -> None:
    """What waits is considered at the clock's time, and what was started is done."""
    await world.beat(world.clocks.time_us)
    await look_again(world.desk)
    world.changed.set()
    await until(lambda: world.runs.unfinished_runs == 0, 20)


async def test_a_storm_makes_no_more_runs_than_the_budget_and_the_last_event_is_in_the_last_one(world, tmp_path):
    shop = Workshop(FakeFeatures(), FakeRegistry(), FakeJobs(), tmp_path, "1.0", threads=1, patience_s=5.0)
    working = asyncio.ensure_future(Executor(world.desk, shop, world.changed).run())
    await storm(world)
    for seconds in range(SECONDS, 90, 2):
        world.clocks.time_us = NOON_US + seconds * SECOND_US
        await rested(world)
    today = await ended(world)
    assert [e.project for e in today].count("valves") == 1
    assert 1 <= [e.project for e in today].count("pumps") <= BUDGET
    world.clocks.time_us = (NOON_US // DAY_US + 1) * DAY_US  # what today's budget did not hold comes first tomorrow
    for _ in range(3):
        await rested(world)
        world.clocks.time_us += 60 * SECOND_US
    working.cancel()
    await asyncio.wait((working,))

    runs = [event for event in await ended(world) if event.project == "pumps"]
    assert {run.state for run in runs} == {RunEvent.PASSED}
    answered = Counter(request for run in runs for request in run.request_ids)
    own = {e.id for e in await world.published("training.requests") if e.subject == "pumps"}
    assert own, "the labels asked, too"
    assert answered == dict.fromkeys([*alarms(), *own], 1)
    recorded = await past(world)
    assert max(Counter(run.as_of_us // DAY_US for run in recorded).values()) == BUDGET
    last = max(run.as_of_us for run in recorded)
    assert last > NOON_US + SECONDS * SECOND_US
    assert next(run for run in recorded if run.as_of_us == last).run_id == runs[-1].run_id


def alarms() -> list[str]:
    return [f"drift-{turn:03}-{alarm}" for turn in range(TURNS) for alarm in range(ALARMS // TURNS)]


async def ended(world: World) -> list[RunEvent]:
    return [e for e in await world.run_events() if e.state not in (RunEvent.QUEUED, RunEvent.RUNNING)]


async def past(world: World):
    async with world.runs.read() as book:
        return await book.past_runs("pumps")
