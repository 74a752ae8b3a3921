"""The same state on PostgreSQL."""

from dataclasses import replace

import pytest
from millrace.wire.trainer.v1.events_pb2 import RunEvent, TrainingRequest

from services.trainer.domain.runs import State
from services.trainer.errors import Superseded
from services.trainer.handlers import record_run
from tests.support.postgres import postgres
from tests.unit.trainer.world import HOUR_US, START_US, World, project

__all__ = ["postgres"]


async def test_labels_ask_a_run_is_recorded_and_an_older_attempt_cannot_write(postgres):
    world = World(project(), postgres)
    await world.start()
    try:
        batch = await world.labels([START_US] * 12)
        await world.handle(batch)
        await world.beat(START_US + HOUR_US)
        [asked] = await world.published("training.requests")
        await world.feed("training.requests", [asked])
        assert world.runs.unfinished_runs == 1 and world.runs.watermarks_us == {"pumps": START_US + HOUR_US}
        async with world.runs.transaction() as book:
            [run] = await book.newest_runs("", 5, unfinished_only=True)
            assert await book.newest_runs("pumps", 5, unfinished_only=False) == [run]
            await record_run(world.desk, book, replace(run, state=State.RUNNING, attempt=2, curve=((1, 0.5, 0.4),)))
        with pytest.raises(Superseded):
            async with world.runs.transaction() as book:
                await book.put_run(replace(run, attempt=1))
        async with world.runs.read() as book:
            kept = await book.run(run.run_id)
            assert kept is not None and (kept.attempt, kept.curve) == (2, ((1, 0.5, 0.4),))
            assert [r.request_id for r in await book.requests_of(run.run_id)] == [asked.id]
            assert await book.count_labels("pumps", 0) == 0
        await world.ask(TrainingRequest.DRIFT, START_US + 2 * HOUR_US, "drift-1")
        async with world.runs.read() as book:
            assert [r.request_id for r in await book.pending("pumps")] == ["drift-1"]
        assert [e.state for e in await world.run_events()] == [RunEvent.QUEUED, RunEvent.RUNNING]
    finally:
        await world.stop()
