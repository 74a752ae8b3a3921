"""What this room needs of the world, as Protocols; adapters fill them, tests put twins in."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from .domain.plan import Plan
from .domain.tensors import Array, Cell, TensorSpec


@dataclass(frozen=True, slots=True)
class FeatureRow:
    """Features of one entity: cells by name (None: missing or expired), and status and age in the reply's order.

    Statuses are those of millrace.wire.feature_store.v1.FeatureStatus; ages are microseconds, -1 when missing.
    """

    cells: Mapping[str, Cell]
    statuses: Sequence[int]
    ages_us: Sequence[int]


@dataclass(frozen=True, slots=True)
class FeatureRows:
    """Rows in the order of the entities asked for; `as_of_us` is the oldest view's."""

    names: Sequence[str] = ()
    rows: Sequence[FeatureRow] = ()
    as_of_us: int = 0


class Features(Protocol):
    """Online features of a project's entities."""

    async def online(
        self, project: str, entities: Sequence[str], names: Sequence[str], not_before_us: int, timeout_s: float
    ) -> FeatureRows:
        """One row per entity. Raises FeaturesUnavailable, TooLate, or what the feature store refused."""
        ...


class Artifacts(Protocol):
    """Artifacts by digest, kept on this machine once fetched."""

    async def get(self, digest: str) -> bytes:
        """The verified bytes. Raises ArtifactUnavailable, ArtifactMissing, ArtifactCorrupt."""
        ...

    async def keep_only(self, wanted: Callable[[], frozenset[str]]) -> None:
        """Forget all but the digests that are wanted when the folder is free."""
        ...


class Session(Protocol):
    """One loaded model."""

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """What it takes."""
        ...

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """What it gives."""
        ...

    def run(self, feeds: Mapping[str, Array], names: Sequence[str]) -> list[Array]:
        """The named outputs; raises whatever the engine raises."""
        ...


class Sessions(Protocol):
    """The engine that models run in."""

    def load(self, model: bytes) -> Session:
        """Blocking. Raises ModelRejected."""
        ...


class Plans(Protocol):
    """The last good plans, on disk."""

    def load(self) -> list[Plan]:
        """All that were kept; a damaged one is left out and reported."""
        ...

    def save(self, plan: Plan) -> None:
        """Replace the model's plan, atomically and durably."""
        ...


@dataclass(slots=True)
class LogRecord:
    """One answered, failed or shadowed score, before it becomes a Prediction."""

    prediction_id: str
    request_id: str
    project: str
    entity: str
    moment_us: int
    model: str
    version: int
    role: str
    epoch: int
    door: str
    causation_id: str
    answered: bool = False
    error: str = ""
    outputs: Sequence[float] = ()
    inputs: Mapping[str, Cell] = field(default_factory=dict)
    ages_us: Mapping[str, int] = field(default_factory=dict)
    missing: Sequence[str] = ()
    answered_us: int = 0
    latency_us: int = 0
    as_of_us: int = 0
    traceparent: str = ""


class PredictionLog(Protocol):
    """Where every score is written before its answer leaves."""

    def append(self, records: Sequence[LogRecord]) -> None:
        """Write through to the operating system; what cannot be kept is counted, never raised."""
        ...


class Projects(Protocol):
    """What is known of projects."""

    def is_replayed(self, project: str) -> bool:
        """Whether the project's clock is a replay."""
        ...

    def model_of(self, project: str) -> str:
        """Name of the model in the project's newest definition; "" when the project is not known (yet)."""
        ...

    def request_inputs(self, project: str) -> Mapping[str, str]:
        """Input name -> request-time column that may come with the question in the feature's place."""
        ...

    def now_us(self, project: str) -> int:
        """The project's clock."""
        ...
