"""Tasks for people: leases, no task twice to one person, and answers that become labels."""

import asyncio

import pytest
from millrace.wire.labeling.v1.events_pb2 import Label, TaskChanged

from services.labeling.domain.tasks import Draft
from services.labeling.errors import BadAnswer, LeaseLost, NothingToDo, UnknownTask
from services.labeling.handlers.tasks import TaskHandler
from tests.unit.labeling.conftest import Bench
from tests.unit.labeling.world import HORIZON_US, MINUTE_US, clock, labels_in, order

T0 = 1_000 * MINUTE_US
DUE = T0 + HORIZON_US
LEASE_US = 100


class People:
    def __init__(self, bench: Bench) -> None:
        self.now_us = T0
        self.handler = TaskHandler(
            bench.book, bench.projects, project_now_us=lambda project: self.now_us, lease_us=LEASE_US
        )

    async def create(self, *names: str) -> list[str]:
        drafts = [Draft(name, T0, b"", priority=float(place)) for place, name in enumerate(names)]
        return await self.handler.create("shop", drafts, now_us=0)


@pytest.fixture
def people(bench: Bench) -> People:
    return People(bench)


async def test_the_most_urgent_task_comes_first_and_one_example_has_one_task(people: People) -> None:
    made = await people.create("a", "b", "c")
    assert len(made) == 3
    assert await people.create("a", "b", "c") == []
    assert [(await people.handler.next("shop", who, 10)).entity for who in ("ana", "bo", "cy")] == ["c", "b", "a"]
    with pytest.raises(NothingToDo):
        await people.handler.next("shop", "dee", 10)


async def test_asking_again_shows_the_task_in_hand(people: People) -> None:
    await people.create("a", "b")
    first = await people.handler.next("shop", "ana", 10)
    assert await people.handler.next("shop", "ana", 20) == first


async def test_a_lease_that_ran_out_goes_to_others_but_never_back_to_the_same_person(people: People) -> None:
    await people.create("a")
    lost = await people.handler.next("shop", "ana", 10)
    with pytest.raises(NothingToDo):
        await people.handler.next("shop", "bo", 10 + LEASE_US - 1)
    taken = await people.handler.next("shop", "bo", 10 + LEASE_US)
    assert taken.task_id == lost.task_id
    with pytest.raises(LeaseLost):
        await people.handler.submit(lost.task_id, lost.lease_id, "ana", 1.0, "", 10 + LEASE_US)
    with pytest.raises(NothingToDo):
        await people.handler.next("shop", "ana", 10 + 5 * LEASE_US)


async def test_work_finished_late_counts_while_nobody_else_took_the_task(people: People) -> None:
    await people.create("a")
    task = await people.handler.next("shop", "ana", 10)
    done = await people.handler.submit(task.task_id, task.lease_id, "ana", 1.0, "", 10 + 3 * LEASE_US)
    assert done.state == "submitted"
    with pytest.raises(NothingToDo):
        await people.handler.next("shop", "bo", 10 + 9 * LEASE_US)


async def test_a_skipped_task_is_for_others(people: People) -> None:
    await people.create("a")
    task = await people.handler.next("shop", "ana", 10)
    await people.handler.skip(task.task_id, task.lease_id, "ana", "cannot tell", 20)
    with pytest.raises(NothingToDo):
        await people.handler.next("shop", "ana", 30)
    assert (await people.handler.next("shop", "bo", 30)).entity == "a"


async def test_an_unknown_task_and_a_wrong_lease_are_refused(people: People) -> None:
    await people.create("a")
    task = await people.handler.next("shop", "ana", 10)
    with pytest.raises(UnknownTask):
        await people.handler.submit("no such", task.lease_id, "ana", 1.0, "", 20)
    for lease, who in (("other", "ana"), (task.lease_id, "bo")):
        with pytest.raises(LeaseLost):
            await people.handler.submit(task.task_id, lease, who, 1.0, "", 20)


@pytest.mark.parametrize("answer", [float("nan"), float("inf"), 0.5, 2.0])
async def test_an_answer_that_is_no_label_is_refused_and_the_lease_stays(people: People, answer: float) -> None:
    await people.create("a")
    task = await people.handler.next("shop", "ana", 10)
    with pytest.raises(BadAnswer, match="is no label"):
        await people.handler.submit(task.task_id, task.lease_id, "ana", answer, "", 20)
    assert await people.handler.next("shop", "ana", 30) == task


async def test_many_askers_at_once_never_get_the_same_task(people: People) -> None:
    await people.create(*[f"e{i}" for i in range(20)])
    given = await asyncio.gather(*[people.handler.next("shop", f"p{i}", 10) for i in range(20)])
    assert len({task.task_id for task in given}) == 20


async def test_an_answer_becomes_a_label_of_origin_person(bench: Bench, people: People) -> None:
    await bench.feed(order("a", T0, T0 - 50), *clock(T0))
    await people.create("a")
    task = await people.handler.next("shop", "ana", 10)
    people.now_us = T0 + 5
    await people.handler.submit(task.task_id, task.lease_id, "ana", 1.0, "seen it", 20)
    await people.handler.submit(task.task_id, task.lease_id, "ana", 1.0, "seen it", 30)
    await bench.feed(*clock(DUE))
    events = await bench.published()
    changes = [event for event in events if event.type == "millrace.labeling.task.changed.v1"]
    labels = labels_in([event for event in events if "label." in event.type])
    assert [TaskChanged.FromString(event.data).state for event in changes] == ["open", "leased", "submitted"]
    assert [(label.value, label.origin, label.visible_us) for label in labels] == [(1.0, Label.PERSON, DUE)]
    assert changes[-1].actor == "ana"
    assert [event.causation_id for event in events if "label." in event.type] == [changes[-1].id]


async def test_an_answer_after_maturity_is_a_correction_that_was_not_known_before(bench: Bench, people: People) -> None:
    await bench.feed(order("a", T0, T0 - 50), *clock(DUE))
    await people.create("a")
    task = await people.handler.next("shop", "ana", 10)
    people.now_us = DUE
    await people.handler.submit(task.task_id, task.lease_id, "ana", 1.0, "", 20)
    await bench.feed(*clock(DUE + 10))
    labels = labels_in([event for event in await bench.published() if "label." in event.type])
    assert [(label.revision, label.visible_us) for label in labels] == [(0, DUE), (1, DUE + 1)]


async def test_an_example_known_to_people_only_gets_its_label_too(bench: Bench, people: People) -> None:
    await bench.feed(*clock(DUE + 10))
    await people.create("unseen")
    task = await people.handler.next("shop", "ana", 10)
    people.now_us = DUE + 10
    await people.handler.submit(task.task_id, task.lease_id, "ana", 0.0, "", 20)
    await bench.feed(*clock(DUE + 20))
    (label,) = labels_in([event for event in await bench.published() if "label." in event.type])
    assert (label.key.entity, label.value, label.visible_us) == ("unseen", 0.0, DUE + 11)
