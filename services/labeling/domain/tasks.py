"""Tasks for people: a lease expires and returns; a task is never given twice to one annotator."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class TaskState(StrEnum):
    """Where a task is. A task that is `open` or whose lease ran out may be given."""

    OPEN = "open"
    LEASED = "leased"
    SUBMITTED = "submitted"


@dataclass(frozen=True, slots=True)
class Draft:
    """A task to be made. `payload` is what the annotator sees, a serialised Row."""

    entity: str
    moment_us: int
    payload: bytes
    priority: float


@dataclass(frozen=True, slots=True)
class Task:
    """One question about one example."""

    task_id: str
    project: str
    entity: str
    moment_us: int
    payload: bytes
    state: TaskState
    annotator: str = ""
    lease_id: str = ""
    lease_expires_us: int = 0


def holds(task: Task, lease_id: str, annotator: str) -> bool:
    """Whether the task is still this annotator's under this lease.

    A lease that ran out while nobody else took the task still counts: finished work is not thrown away.
    """
    return task.state is TaskState.LEASED and task.lease_id == lease_id and task.annotator == annotator
