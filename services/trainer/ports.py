"""What the trainer needs of the world."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from millrace.bus.events import Message
from millrace.runtime.definitions import Definition

from services.trainer.domain.job import ChampionSpec, JobResult
from services.trainer.domain.runs import Run
from services.trainer.domain.scheduler import LabelBucket, PastRun, Request
from services.trainer.domain.switches import Switch


class Book(Protocol):
    """The recorded state inside one transaction."""

    async def seen(self, topic: str, partition: int, offset: int) -> bool:
        """Whether this position has taken effect."""
        ...

    async def forgotten(self, digest: str) -> str:
        """Why the snapshot is not whole any more; empty for one that is."""
        ...

    async def mark(self, topic: str, partition: int, offset: int) -> None:
        """Everything up to this position takes effect with this transaction."""
        ...

    async def publish(self, message: Message) -> None:
        """Publish if, and only if, the transaction commits."""
        ...

    async def add_request(self, request: Request) -> bool:
        """Records a request; False when it is known."""
        ...

    async def pending(self, project: str) -> list[Request]:
        """Requests that no run has taken, oldest first."""
        ...

    async def projects_pending(self) -> list[str]:
        """Projects with such requests."""
        ...

    async def answer(self, requests: Sequence[Request], run_id: str) -> None:
        """Records which run, or declined run, took the requests."""
        ...

    async def requests_of(self, run_id: str) -> list[Request]:
        """Requests that the run answers, oldest first."""
        ...

    async def past_runs(self, project: str) -> list[PastRun]:
        """The newest runs of a project, as many as the scheduler may need."""
        ...

    async def run(self, run_id: str) -> Run | None:
        """One run."""
        ...

    async def last_passed(self, project: str, before_us: int) -> Run | None:
        """The newest run that passed the gate, of those whose data end before that time."""
        ...

    async def judged(self, project: str, after_us: int) -> list[tuple[int, int]]:
        """Holdouts that end after that time, of every gate of the project's model so far: (first, last moment)."""
        ...

    async def put_run(self, run: Run) -> None:
        """Writes a run. Superseded when a later attempt has been recorded."""
        ...

    async def unfinished(self) -> list[Run]:
        """Runs that are owed work, oldest first."""
        ...

    async def newest_runs(self, project: str, limit: int, *, unfinished_only: bool) -> list[Run]:
        """Runs, newest first; an empty project means all."""
        ...

    async def add_labels(self, project: str, buckets: Sequence[LabelBucket]) -> None:
        """Adds to the counts of new labels."""
        ...

    async def count_labels(self, project: str, after_us: int) -> int:
        """New labels that began to count after `after_us`."""
        ...

    async def label_buckets(self, project: str, after_us: int) -> list[LabelBucket]:
        """Counts after `after_us`, oldest first."""
        ...

    async def forget_labels(self, project: str, until_us: int) -> None:
        """Drops counts up to `until_us`: a run has taken them in."""
        ...

    async def advance_labels(self, project: str, partition: int, visible_us: int) -> None:
        """Labels of a partition are complete up to `visible_us`."""
        ...

    async def label_watermark(self, project: str) -> int:
        """Up to when labels are complete in every partition; 0: not heard of all of them."""
        ...

    async def put_switch(self, switch: Switch) -> None:
        """Records a switch."""
        ...

    async def switches(self) -> list[Switch]:
        """Those that are off, that of all projects first."""
        ...

    async def off(self, project: str) -> Switch | None:
        """The switch by which training of the project is off, if it is."""
        ...

    async def marks(self, project: str) -> Marks | None:
        """How far the triggers have asked; None: the project was never looked at."""
        ...

    async def put_marks(self, project: str, marks: Marks) -> None:
        """Records how far the triggers have asked."""
        ...


@dataclass(frozen=True, slots=True)
class Marks:
    """Labels up to `consumed_us`, and turns of the schedule up to `schedule_us`, have led to a request or run; training
    was last switched on at `resumed_us`. All of the project's clock."""

    consumed_us: int = 0
    schedule_us: int = 0
    resumed_us: int = 0


class Runs(Protocol):
    """The room's state."""

    def transaction(self) -> AbstractAsyncContextManager[Book]:
        """Reads and writes, all or nothing."""
        ...

    def read(self) -> AbstractAsyncContextManager[Book]:
        """Reads."""
        ...


class Definitions(Protocol):
    """Accepted project files."""

    @property
    def projects(self) -> Mapping[str, Definition]:
        """The newest definition of each project."""
        ...

    def version(self, project: str, number: int) -> Definition | None:
        """One version, when it was seen."""
        ...


class Clocks(Protocol):
    """Each project's clock."""

    def now_us(self, project: str) -> int:
        """Microseconds; 0 before a replay's first tick."""
        ...


@dataclass(frozen=True, slots=True)
class SnapshotFacts:
    """A training set that the feature store keeps."""

    digest: str
    rows: int
    definition_version: int


class Features(Protocol):
    """The feature store. NeighbourUnavailable when it does not answer, NeighbourRefused when it says no."""

    async def wait_until(self, project: str, as_of_us: int) -> None:
        """Returns when everything visible by `as_of_us` has taken effect there."""
        ...

    async def create_snapshot(self, project: str, from_us: int, as_of_us: int) -> SnapshotFacts:
        """Builds the training set of moments in [from, as_of), as known at as_of."""
        ...

    async def read_snapshot(self, digest: str, path: Path) -> None:
        """Writes the rows (an Arrow IPC stream) to `path`, whole or not at all. SnapshotUnusable when they are not
        what the digest names."""
        ...


class Registry(Protocol):
    """The registry. NeighbourUnavailable when it does not answer, NeighbourRefused when it says no."""

    async def champion(self, project: str, model: str) -> ChampionSpec:
        """The version that serves; version 0 when none does."""
        ...

    async def get_artifact(self, digest: str) -> bytes:
        """Bytes by digest, verified."""
        ...

    async def put_artifact(self, data: bytes) -> str:
        """Keeps bytes; their digest."""
        ...


@dataclass(frozen=True, slots=True)
class JobProgress:
    """How far a job is: the share that is done, and the learning curve so far."""

    share: float = 0.0
    curve: tuple[tuple[int, float, float], ...] = ()


class Jobs(Protocol):
    """Where jobs run."""

    async def run(self, folder: Path, on_progress: Callable[[JobProgress], Awaitable[None]]) -> JobResult:
        """Does the job whose files lie in `folder`; JobFailed when it ends without a result. Cancelling ends it."""
        ...
