"""A question in hand: rows to score under the plan it began with, and the log records that it leaves."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from millrace.bus.events import derive_id
from millrace.runtime.clock import wall_us

from services.inference.domain.tensors import Array, Cell, CellMismatch, cells_of, check_feeds, feeds_of
from services.inference.ports import FeatureRow, LogRecord

from .serving import Live, Loaded

LOGGED_ELEMENTS = 256  # of one tensor's row; beyond it a log record would outweigh its answer


@dataclass(slots=True)
class Question(ABC):
    """What both doors ask. `log_id` is what the ids of the predictions are derived from."""

    live: Live
    log_id: str
    request_id: str
    door: str
    traceparent: str
    entities: Sequence[str]
    moments_us: Sequence[int]
    began_s: float = field(default_factory=time.monotonic)
    as_of_us: int = 0
    settled: set[int] = field(default_factory=set)  # rows that have an answer or a final error
    misfit: dict[int, str] = field(default_factory=dict)  # rows that no version can take, and why
    tried: set[tuple[int, int]] = field(default_factory=set)  # (version, row) that was scored
    records: list[LogRecord] = field(default_factory=list)

    @property
    def rows(self) -> int:
        """Rows asked for."""
        return len(self.entities)

    @abstractmethod
    def feeds(self, loaded: Loaded, indexes: Sequence[int]) -> Mapping[str, Array]:
        """The rows at `indexes` as `loaded` takes them. Raises CellMismatch or TensorMismatch."""

    @abstractmethod
    def inputs(self, loaded: Loaded, index: int) -> Mapping[str, Cell]:
        """The inputs of one row, for the log."""

    def prediction_id(self, version: int, index: int) -> str:
        """Derived, so that a repeat is recognised: of the request, the example, the version."""
        example = f"{self.live.plan.project}/{self.entities[index]}/{self.moments_us[index]}"
        return derive_id(self.log_id, f"inference {example} {version}", index)

    def record(
        self, loaded: Loaded, index: int, *, answered: bool, outputs: Sequence[float] = (), error: str = ""
    ) -> LogRecord:
        """One log record."""
        plan = self.live.plan
        return LogRecord(
            prediction_id=self.prediction_id(loaded.version, index),
            request_id=self.request_id,
            project=plan.project,
            entity=self.entities[index],
            moment_us=self.moments_us[index],
            model=plan.model,
            version=loaded.version,
            role=loaded.variant.role.value,
            epoch=plan.epoch,
            door=self.door,
            causation_id=plan.event_id,
            answered=answered,
            error=error,
            outputs=outputs,
            inputs=self.inputs(loaded, index),
            answered_us=wall_us(),
            latency_us=int((time.monotonic() - self.began_s) * 1e6),
            as_of_us=self.as_of_us,
            traceparent=self.traceparent,
        )


@dataclass(slots=True)
class KeyQuestion(Question):
    """Rows of columns: features, and what came with the question in their place."""

    names: Sequence[str] = ()
    features: Sequence[FeatureRow] = ()
    cells: list[Mapping[str, Cell]] = field(default_factory=list)

    def feeds(self, loaded: Loaded, indexes: Sequence[int]) -> Mapping[str, Array]:
        """As said above."""
        columns = loaded.bundle.columns
        return feeds_of(columns, [cells_of(columns, self.cells[i]) for i in indexes])

    def misfits(self, loaded: Loaded, indexes: Sequence[int]) -> dict[int, str]:
        """Rows with a value that its column cannot take, and why."""
        found: dict[int, str] = {}
        for index in indexes:
            try:
                cells_of(loaded.bundle.columns, self.cells[index])
            except CellMismatch as error:
                found[index] = str(error)
        return found

    def inputs(self, loaded: Loaded, index: int) -> Mapping[str, Cell]:
        """Only the columns of this version."""
        if not self.cells:
            return {}
        row = self.cells[index]
        return {c.name: row.get(c.name) for c in loaded.bundle.columns}

    def record(
        self, loaded: Loaded, index: int, *, answered: bool, outputs: Sequence[float] = (), error: str = ""
    ) -> LogRecord:
        """With the features' ages beside the values."""
        made = Question.record(self, loaded, index, answered=answered, outputs=outputs, error=error)
        if self.features:
            ages = self.features[index].ages_us
            made.ages_us = {n: a for n, a in zip(self.names, ages, strict=True) if a >= 0}
            made.missing = [n for n in self.names if self.cells[index].get(n) is None]
        return made


@dataclass(slots=True)
class TensorQuestion(Question):
    """Raw tensors: all rows go to one variant."""

    tensors: Mapping[str, Array] = field(default_factory=dict)
    datatypes: Mapping[str, str] = field(default_factory=dict)
    is_batched: bool = True

    def feeds(self, loaded: Loaded, indexes: Sequence[int]) -> Mapping[str, Array]:
        """The whole tensors, checked against this version's graph."""
        check_feeds(loaded.session.inputs, {n: (self.datatypes[n], a.shape) for n, a in self.tensors.items()})
        return self.tensors

    def inputs(self, loaded: Loaded, index: int) -> Mapping[str, Cell]:
        """Scalars under the input's name, wider rows element by element under `name[i]`."""
        cells: dict[str, Cell] = {}
        for name, array in self.tensors.items():
            row = array[index : index + 1] if self.is_batched else array
            values = row.ravel()[:LOGGED_ELEMENTS].tolist()
            is_scalar = array.ndim == int(self.is_batched)
            cells.update({name: values[0]} if is_scalar else {f"{name}[{i}]": v for i, v in enumerate(values)})
        return cells
