"""The room's SQL state gives the same labels on PostgreSQL as on the twin."""

import uuid
from collections.abc import AsyncIterator

import pytest
from millrace.stores.sql import Database

from services.labeling.domain.tasks import Draft
from services.labeling.errors import NothingToDo
from services.labeling.handlers.tasks import TaskHandler
from tests.support.postgres import postgres
from tests.unit.labeling.conftest import MIGRATIONS, Bench
from tests.unit.labeling.world import HORIZON_US, MINUTE_US, OneProject, clock, delivery, labels_in, order

__all__ = ["postgres"]
T0 = 1_000 * MINUTE_US
DUE = T0 + HORIZON_US


@pytest.fixture(params=["memory", "postgres"])
async def bench(request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    url = "sqlite://" if request.param == "memory" else request.getfixturevalue("postgres")
    database = Database(url, room=f"labeling_{uuid.uuid4().hex[:8]}")
    await database.start(MIGRATIONS)
    yield Bench(database, OneProject(), most_examples=7)
    await database.stop()


async def test_labels_and_corrections(bench: Bench) -> None:
    await bench.feed(*[order(f"o{i}", T0 + i, T0 - 50 + i, i % 2) for i in range(30)])
    await bench.feed(
        *[delivery(f"o{i}", i if i % 3 else None, T0 + 60 + i, i % 2) for i in range(20)], *clock(DUE + 30)
    )
    await bench.feed(*[delivery(f"o{i}", 30, DUE + 60 + i, i % 2) for i in range(15, 25)], *clock(DUE + 100))
    labels = labels_in(await bench.published())
    assert len([label for label in labels if label.revision == 0]) == 30
    corrected = [label.key.entity for label in labels if label.revision]
    assert corrected == ["o15", "o18", *[f"o{i}" for i in range(20, 25)]]
    counts = await bench.book.counts("shop")
    assert (counts.pending, counts.matured, counts.corrected) == (0, 30, 7)
    assert await bench.book.positions()
    assert await bench.book.watermarks() == {"shop": DUE + 100}


async def test_tasks_and_history_marks(bench: Bench) -> None:
    people = TaskHandler(bench.book, bench.projects, project_now_us=lambda project: T0, lease_us=100)
    drafts = [Draft(name, T0, b"\x00", priority) for name, priority in (("a", 1.0), ("b", 2.0))]
    assert len(await people.create("shop", drafts, 0)) == 2
    assert await people.create("shop", drafts, 0) == []
    task = await people.next("shop", "ana", 10)
    assert (task.entity, task.payload) == ("b", b"\x00")
    done = await people.submit(task.task_id, task.lease_id, "ana", 1.0, "", 20)
    assert done.state == "submitted"
    assert (await people.next("shop", "ana", 30)).entity == "a"
    with pytest.raises(NothingToDo):
        await people.next("shop", "bo", 40)
    await bench.book.mark_history({("shop", 0): 5, ("shop", 1): 7})
    await bench.book.mark_history({("shop", 0): 3})
    assert await bench.book.history() == {("shop", 0): 5, ("shop", 1): 7}
