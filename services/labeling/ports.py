"""What the room needs: its state in SQL, the label history, clocks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa
from millrace.bus.events import Message

from services.labeling.domain.reading import Reading
from services.labeling.domain.tasks import Draft, Task
from services.labeling.domain.values import Example, Label, Truth


@dataclass(frozen=True, slots=True)
class PartitionState:
    """How far a partition has come: the next offset to take, and the time that is closed."""

    next_offset: int
    closed_us: int


@dataclass(frozen=True, slots=True)
class Maturing:
    """Examples that an advance may give labels to, each with the truths that may matter to it."""

    examples: Sequence[Example]
    truths: Mapping[str, Sequence[Truth]]


@dataclass(frozen=True, slots=True)
class Counts:
    """Totals of one project."""

    pending: int = 0
    matured: int = 0
    censored: int = 0
    corrected: int = 0
    open_tasks: int = 0


class LabelTransaction(Protocol):
    """State and outgoing messages of one step: all or nothing."""

    async def lock(self, project: str) -> int:
        """Be the only writer of the project until the end; its watermark."""
        ...

    async def partition(self, topic: str, partition: int, position_topic: str) -> PartitionState:
        """How far a partition has come. A new one: offset 0, time -1."""
        ...

    async def advance_partition(
        self, project: str, topic: str, partition: int, position_topic: str, state: PartitionState
    ) -> None:
        """Remember how far it is now."""
        ...

    async def closed(self, topics: Sequence[str]) -> Mapping[tuple[str, int], int]:
        """Closed time of each partition heard of."""
        ...

    async def add_examples(self, project: str, examples: Sequence[Example]) -> None:
        """Keep them; of two announcements the one visible first counts, until its label is out."""
        ...

    async def add_truths(self, project: str, truths: Sequence[Truth]) -> None:
        """Keep them; a repeated event id changes nothing."""
        ...

    async def next_stop(self, project: str, watermark_us: int, most_examples: int) -> int:
        """`watermark_us`, or the earlier time at which about `most_examples` fall due."""
        ...

    async def maturing(self, project: str, previous_us: int, watermark_us: int) -> Maturing:
        """What an advance between these times has to look at."""
        ...

    async def advance(self, project: str, watermark_us: int, labels: Sequence[Label]) -> None:
        """The watermark is here and these labels are out."""
        ...

    async def publish(self, messages: Sequence[Message]) -> None:
        """To be published when, and only when, this transaction commits."""
        ...

    async def add_tasks(self, project: str, drafts: Sequence[Draft], now_us: int) -> list[str]:
        """Make what does not exist; the ids of the new ones."""
        ...

    async def held_task(self, project: str, annotator: str, now_us: int) -> Task | None:
        """The task that the annotator holds a running lease on."""
        ...

    async def next_task(self, project: str, annotator: str, now_us: int) -> Task | None:
        """The most urgent task that is free at `now_us` (wall) and was never given to the annotator."""
        ...

    async def task(self, task_id: str) -> Task | None:
        """One task."""
        ...

    async def lease(self, task: Task, now_us: int) -> None:
        """Give the task to `task.annotator` under `task.lease_id` until `task.lease_expires_us`."""
        ...

    async def settle(self, task: Task, value: float | None, comment: str) -> None:
        """Store a task's new state and, when submitted, its answer."""
        ...


class LabelBook(Protocol):
    """The room's SQL state."""

    def transaction(self) -> AbstractAsyncContextManager[LabelTransaction]:
        """One step. Raises StoreUnavailable."""
        ...

    async def counts(self, project: str) -> Counts:
        """Totals."""
        ...

    async def watermarks(self) -> Mapping[str, int]:
        """Watermark per project."""
        ...

    async def mark_history(self, heard: Mapping[tuple[str, int], int]) -> None:
        """The history holds every label up to these times, per (project, partition of `labels`)."""
        ...

    async def history(self) -> Mapping[tuple[str, int], int]:
        """What mark_history was told."""
        ...


class History(Protocol):
    """Every revision of every label."""

    async def append(self, project_labels: Iterable[tuple[str, str, Label]], token: str) -> None:
        """Store (project, event id, label) rows; a repeat changes nothing."""
        ...

    async def spine(self, project: str, from_us: int, to_us: int, as_of_us: int, include_censored: bool) -> pa.Table:
        """The labelled spine as known at `as_of_us`: the columns and the order of `Labeling.Spine`."""
        ...


class Projects(Protocol):
    """Definitions, made ready for this room."""

    def reading(self, project: str) -> Reading:
        """Raises UnknownProject."""
        ...

    def of_topic(self, topic: str) -> tuple[Reading, str] | None:
        """(project, source) whose data topic this is; None when nobody wants it any more."""
        ...

    def partitions(self, topic: str) -> Sequence[int]:
        """Partitions of a topic in use."""
        ...
