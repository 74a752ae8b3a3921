"""What annotators do: take a task, answer it, pass it on."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

from millrace.bus.events import derive_id
from millrace.definitions.model import Project
from millrace.definitions.model import Task as ModelTask

from services.labeling.domain.tasks import Draft, Task, TaskState, holds
from services.labeling.domain.values import Example, Origin, Truth
from services.labeling.errors import BadAnswer, LeaseLost, NothingToDo, UnknownTask
from services.labeling.handlers.messages import task_message
from services.labeling.ports import LabelBook, LabelTransaction, Projects


class TaskHandler:
    """`project_now_us` is the project's clock; `now_us` arguments are the wall's."""

    def __init__(
        self, book: LabelBook, projects: Projects, *, project_now_us: Callable[[str], int], lease_us: int
    ) -> None:
        self._book = book
        self._projects = projects
        self._project_now_us = project_now_us
        self._lease_us = lease_us

    async def create(self, project: str, drafts: Sequence[Draft], now_us: int) -> list[str]:
        """Make tasks; the ids of those that did not exist. Raises UnknownProject."""
        self._projects.reading(project)
        async with self._book.transaction() as transaction:
            made = await transaction.add_tasks(project, drafts, now_us)
            found = [await _known(transaction, task_id) for task_id in made]
            await transaction.publish([task_message(task, "open", now_us, "") for task in found])
        return made

    async def next(self, project: str, annotator: str, now_us: int) -> Task:
        """The task that the annotator holds, or else the most urgent one never given to them. Raises NothingToDo."""
        self._projects.reading(project)
        async with self._book.transaction() as transaction:
            await transaction.lock(project)
            held = await transaction.held_task(project, annotator, now_us)
            if held is not None:
                return held
            free = await transaction.next_task(project, annotator, now_us)
            if free is None:
                raise NothingToDo(f"no task of {project} waits for {annotator!r}")
            leased = replace(
                free,
                state=TaskState.LEASED,
                annotator=annotator,
                lease_id=derive_id(free.task_id, f"labeling.lease:{annotator}"),
                lease_expires_us=now_us + self._lease_us,
            )
            await transaction.lease(leased, now_us)
            await transaction.publish([task_message(leased, "leased", now_us, annotator)])
        return leased

    async def submit(
        self, task_id: str, lease_id: str, annotator: str, value: float, comment: str, now_us: int
    ) -> Task:
        """The answer becomes a truth of origin PERSON about the task's example. Submitting again changes nothing.

        Raises UnknownTask, LeaseLost, BadAnswer.
        """
        async with self._book.transaction() as transaction:
            task, watermark_us = await self._locked(transaction, task_id)
            if task.state is TaskState.SUBMITTED and task.lease_id == lease_id and task.annotator == annotator:
                return task
            _require_lease(task, lease_id, annotator)
            _require_label(self._projects.reading(task.project).project, value)
            done = replace(task, state=TaskState.SUBMITTED, lease_expires_us=0)
            await transaction.settle(done, value, comment)
            visible_us = max(self._project_now_us(task.project), watermark_us + 1)
            message = task_message(done, "submitted", now_us, annotator)
            await self._store_truth(transaction, done, value, visible_us, message.event.id)
            await transaction.publish([message])
        return done

    async def skip(self, task_id: str, lease_id: str, annotator: str, reason: str, now_us: int) -> Task:
        """The task goes back, to others. Raises UnknownTask, LeaseLost."""
        async with self._book.transaction() as transaction:
            task, _ = await self._locked(transaction, task_id)
            _require_lease(task, lease_id, annotator)
            back = replace(task, state=TaskState.OPEN, annotator="", lease_id="", lease_expires_us=0)
            await transaction.settle(back, None, reason)
            await transaction.publish([task_message(task, "skipped", now_us, annotator)])
        return back

    async def _locked(self, transaction: LabelTransaction, task_id: str) -> tuple[Task, int]:
        """The task, read when nobody else can change it any more, and its project's watermark."""
        watermark_us = await transaction.lock((await _known(transaction, task_id)).project)
        return await _known(transaction, task_id), watermark_us

    async def _store_truth(
        self, transaction: LabelTransaction, task: Task, value: float, visible_us: int, event_id: str
    ) -> None:
        horizon_us = self._projects.reading(task.project).project.label.horizon_us
        matured_us = task.moment_us + horizon_us
        await transaction.add_examples(
            task.project, [Example(task.entity, task.moment_us, matured_us, visible_us, event_id)]
        )
        truth = Truth(task.entity, visible_us, visible_us, event_id, value, Origin.PERSON, task.moment_us)
        await transaction.add_truths(task.project, [truth])


async def _known(transaction: LabelTransaction, task_id: str) -> Task:
    task = await transaction.task(task_id)
    if task is None:
        raise UnknownTask(f"there is no task {task_id!r}")
    return task


def _require_label(project: Project, value: float) -> None:
    if not math.isfinite(value):
        raise BadAnswer(f"{value} is no label: an answer is a finite number")
    if project.model.task is ModelTask.BINARY and value not in (0.0, 1.0):
        raise BadAnswer(f"{value:g} is no label of {project.name}: it is binary, so an answer is 0 or 1")


def _require_lease(task: Task, lease_id: str, annotator: str) -> None:
    if not holds(task, lease_id, annotator):
        raise LeaseLost(f"task {task.task_id} is not leased to {annotator!r}: it is {task.state}")
