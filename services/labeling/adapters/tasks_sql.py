"""Tasks and leases in SQL: the part of a LabelTransaction that people use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from millrace.bus.events import derive_id
from millrace.stores.sql import Transaction

from services.labeling.domain.tasks import Draft, Task, TaskState

_COLUMNS = "task_id, project, entity, moment_us, payload, state, annotator, lease_id, lease_expires_us"
_NEXT = f"""
SELECT {_COLUMNS} FROM tasks
WHERE project = :project AND state <> 'submitted' AND (state = 'open' OR lease_expires_us <= :now_us)
  AND NOT EXISTS (SELECT 1 FROM given WHERE given.task_id = tasks.task_id AND given.annotator = :annotator)
ORDER BY priority DESC, created_us, task_id LIMIT 1
"""
_HELD = f"""
SELECT {_COLUMNS} FROM tasks
WHERE project = :project AND state = 'leased' AND annotator = :annotator AND lease_expires_us > :now_us
ORDER BY lease_expires_us LIMIT 1
"""


def task_id_of(project: str, entity: str, moment_us: int) -> str:
    """One example has one task: asking again finds it."""
    return derive_id(f"{project}/{entity}/{moment_us}", "labeling.task")


class SqlTasks:
    """Statements about tasks."""

    def __init__(self, transaction: Transaction) -> None:
        self._sql = transaction

    async def add_tasks(self, project: str, drafts: Sequence[Draft], now_us: int) -> list[str]:
        """As `LabelTransaction.add_tasks`."""
        made = []
        for draft in drafts:
            row = _draft_row(project, draft, now_us)
            touched = await self._sql.execute(
                "INSERT INTO tasks (task_id, project, entity, moment_us, payload, priority, state, created_us)"
                " VALUES (:task_id, :project, :entity, :moment_us, :payload, :priority, 'open', :created_us)"
                " ON CONFLICT (task_id) DO NOTHING",
                row,
            )
            if touched:
                made.append(row["task_id"])
        return made

    async def held_task(self, project: str, annotator: str, now_us: int) -> Task | None:
        """As `LabelTransaction.held_task`."""
        row = await self._sql.row(_HELD, {"project": project, "annotator": annotator, "now_us": now_us})
        return _task(row) if row else None

    async def next_task(self, project: str, annotator: str, now_us: int) -> Task | None:
        """As `LabelTransaction.next_task`."""
        row = await self._sql.row(_NEXT, {"project": project, "annotator": annotator, "now_us": now_us})
        return _task(row) if row else None

    async def task(self, task_id: str) -> Task | None:
        """As `LabelTransaction.task`."""
        row = await self._sql.row(f"SELECT {_COLUMNS} FROM tasks WHERE task_id = :task_id", {"task_id": task_id})
        return _task(row) if row else None

    async def lease(self, task: Task, now_us: int) -> None:
        """As `LabelTransaction.lease`."""
        await self._sql.execute(
            "INSERT INTO given (task_id, annotator, given_us) VALUES (:task_id, :annotator, :now_us)",
            {"task_id": task.task_id, "annotator": task.annotator, "now_us": now_us},
        )
        await self.settle(task, None, "")

    async def settle(self, task: Task, value: float | None, comment: str) -> None:
        """As `LabelTransaction.settle`."""
        await self._sql.execute(
            "UPDATE tasks SET state = :state, annotator = :annotator, lease_id = :lease_id,"
            " lease_expires_us = :lease_expires_us, value = :value, comment = :comment WHERE task_id = :task_id",
            {
                "state": task.state.value,
                "annotator": task.annotator,
                "lease_id": task.lease_id,
                "lease_expires_us": task.lease_expires_us,
                "value": value,
                "comment": comment,
                "task_id": task.task_id,
            },
        )


def _draft_row(project: str, draft: Draft, now_us: int) -> dict[str, Any]:
    return {
        "task_id": task_id_of(project, draft.entity, draft.moment_us),
        "project": project,
        "entity": draft.entity,
        "moment_us": draft.moment_us,
        "payload": draft.payload,
        "priority": draft.priority,
        "created_us": now_us,
    }


def _task(row: Mapping[str, Any]) -> Task:
    return Task(
        task_id=row["task_id"],
        project=row["project"],
        entity=row["entity"],
        moment_us=row["moment_us"],
        payload=bytes(row["payload"]),
        state=TaskState(row["state"]),
        annotator=row["annotator"],
        lease_id=row["lease_id"],
        lease_expires_us=row["lease_expires_us"],
    )
