"""What the monitor needs from outside: the log, the index of events, its state, the models' references, the fleet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from millrace.bus.events import Message
from millrace.definitions.model import Task
from millrace.wire.common.v1.common_pb2 import RoomStatus

from services.monitor.domain.alerts import Alert
from services.monitor.domain.causes import Link
from services.monitor.domain.drifting import DayOfLabels, Floats, Reference
from services.monitor.domain.judge import Evidence
from services.monitor.domain.performance import Cell
from services.monitor.domain.plans import Change, Plan, Trial
from services.monitor.domain.quality import Window

Columns = Mapping[str, list[Any]]  # column name to values, all of one length


class Log(Protocol):
    """Predictions and labels, kept by id: a repeat changes nothing. Raises StoreUnavailable."""

    async def add_predictions(self, columns: Columns, token: str) -> None:
        """Append rows; `token` names the batch."""
        ...

    async def add_labels(self, columns: Columns, token: str) -> None:
        """Append rows; `token` names the batch."""
        ...

    async def evidence(self, trial: Trial, now_us: int) -> Evidence:
        """What is known of a trial at `now_us`: moments before it, labels known by it."""
        ...

    async def answered_since(self, trial: Trial, since_us: int, now_us: int) -> int:
        """How many rows the version on trial scored for moments in [since, now)."""
        ...

    async def input_bins(
        self, project: str, model: str, references: Mapping[str, Reference], starts: Sequence[int], window_us: int
    ) -> Mapping[tuple[int, str], Floats]:
        """(window start, input) to counts over the reference's bins, of the answered requests."""
        ...

    async def output_bins(
        self, project: str, model: str, version: int, reference: Reference, starts: Sequence[int], window_us: int
    ) -> Mapping[int, Floats]:
        """Window start to counts of a version's outputs."""
        ...

    async def label_days(self, project: str, from_us: int, to_us: int, now_us: int) -> list[DayOfLabels]:
        """Observed labels known at `now_us`, by the day of their moment in [from, to)."""
        ...

    async def performance(
        self, project: str, model: str, task: Task, window_us: int, from_us: int, to_us: int, now_us: int
    ) -> list[Cell]:
        """Metrics per window, version and kind of answer."""
        ...

    async def sample(self, project: str, model: str, from_us: int, to_us: int, rows: int) -> list[dict[str, Any]]:
        """At most `rows` answered rows' inputs and output, chosen by hash: the same ones each time."""
        ...

    async def find_label(self, event_id: str) -> Link | None:
        """The label event with this id, for the end of a causal chain."""
        ...


class Index(Protocol):
    """Every platform event, by id. Raises StoreUnavailable."""

    async def add(self, columns: Columns, token: str) -> None:
        """Append rows; a repeat changes nothing."""
        ...

    async def by_id(self, event_id: str) -> Link | None:
        """The event; None when no topic carried it."""
        ...

    async def by_run(self, run_id: str) -> Link | None:
        """The run's event that carries its candidate."""
        ...

    async def by_version(self, project: str, model: str, version: int) -> Link | None:
        """The event that first released a version, or failing that registered it."""
        ...

    async def recent(
        self, *, project: str = "", topics: Sequence[str] = (), before_us: int = 0, limit: int = 100
    ) -> list[Mapping[str, Any]]:
        """Newest first, by the time received; `before_us` pages on."""
        ...


@dataclass(frozen=True, slots=True)
class ScoreRow:
    """One scored window of one subject, as remembered for calibration and pictures."""

    reference: str
    subject: str
    start_us: int
    value: float
    rows: int
    threshold: float
    beyond: bool


@dataclass(slots=True)
class Outcome:
    """All that one decision changes: written, with its messages, in one transaction."""

    alerts: dict[str, Alert] = field(default_factory=dict)
    asked: dict[str, str] = field(default_factory=dict)  # ask key to event id
    messages: list[Message] = field(default_factory=list)
    scores: list[ScoreRow] = field(default_factory=list)
    judged_windows: list[tuple[str, int, bool]] = field(default_factory=list)  # (source, start, broken)


class State(Protocol):
    """What decisions stand on and leave behind. Raises StoreUnavailable."""

    async def heartbeat(self, seen: Mapping[tuple[str, int], int]) -> None:
        """Labels of (project, partition) are complete up to a time; never moves back."""
        ...

    async def heartbeats(self) -> Mapping[str, Mapping[int, int]]:
        """Project to partition to time."""
        ...

    async def put_plan(self, plan: Plan) -> None:
        """Keep it unless a newer epoch is known."""
        ...

    async def put_changes(self, project: str, changes: Sequence[Change]) -> None:
        """Keep them; repeats change nothing."""
        ...

    async def put_windows(self, project: str, windows: Sequence[Window]) -> None:
        """Keep windows of a source; a repeat changes nothing."""
        ...

    async def plans(self, project: str = "") -> list[Plan]:
        """The newest plan of every model."""
        ...

    async def changes(self, project: str, model: str) -> list[Change]:
        """All changes of a model's versions, oldest first."""
        ...

    async def alerts(self, project: str = "", *, open_only: bool = False, limit: int = 200) -> list[Alert]:
        """Newest first."""
        ...

    async def latest_alerts(self, project: str) -> Mapping[tuple[str, str], Alert]:
        """(rule, subject) to the newest incident."""
        ...

    async def asked(self, project: str) -> frozenset[str]:
        """Keys of every command asked for so far."""
        ...

    async def windows(self, project: str, until_us: int, limit: int) -> list[tuple[Window, bool, bool]]:
        """(window, judged, broken) that ended by `until_us`, the newest `limit` per source, oldest first."""
        ...

    async def scores(self, project: str, reference: str) -> list[ScoreRow]:
        """Every remembered score against one reference."""
        ...

    async def decided(self) -> Mapping[str, int]:
        """Project to the time of its last decision."""
        ...

    async def commit(self, project: str, until_us: int, outcome: Outcome) -> None:
        """The decision at `until_us`, whole or not at all."""
        ...

    async def publish(self, messages: Sequence[Message]) -> None:
        """Through the outbox."""
        ...


@dataclass(frozen=True, slots=True)
class ReportVerdict:
    """What Evidently found: shown, never acted upon."""

    drifted: int
    columns: int


@dataclass(frozen=True, slots=True)
class ReportRow:
    """A drift report that lies on disk."""

    project: str
    model: str
    version: int
    start_us: int
    end_us: int
    file: str
    drifted: int
    columns: int


class Reports(Protocol):
    """Pages with pictures of one window against the champion's first predictions."""

    async def make(
        self, reference: Sequence[dict[str, Any]], current: Sequence[dict[str, Any]], texts: Sequence[str], file: str
    ) -> ReportVerdict:
        """Write the page `file`; raises ReportFailed."""
        ...

    def forget(self, files: Sequence[str]) -> None:
        """Remove pages."""
        ...


class ReportState(Protocol):
    """Which reports there are. Raises StoreUnavailable."""

    async def plans(self, project: str = "") -> list[Plan]:
        """The newest plan of every model."""
        ...

    async def changes(self, project: str, model: str) -> list[Change]:
        """All changes of a model's versions, oldest first."""
        ...

    async def last_report(self, project: str, model: str) -> int:
        """Start of the newest report's window; 0: none yet."""
        ...

    async def put_report(self, row: ReportRow, kept: int) -> list[str]:
        """Remember it, keep the newest `kept` of the model; the files of those that fell out."""
        ...

    async def reports(self, limit: int = 50) -> list[ReportRow]:
        """Newest first."""
        ...


class Bundles(Protocol):
    """What each version was trained on."""

    async def get(self, digest: str) -> Mapping[str, Any]:
        """The bundle; raises ReferenceMissing."""
        ...


class Fleet(Protocol):
    """The rooms, as they describe themselves."""

    async def describe(self) -> Mapping[str, RoomStatus | None]:
        """Room to its status; None where it does not answer."""
        ...

    async def settled(self) -> bool:
        """Whether inference has handed over all that it logged (true where no address is known)."""
        ...
