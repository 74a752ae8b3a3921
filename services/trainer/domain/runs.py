"""A run as it is recorded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from services.trainer.domain.job import TRAIN


class State(StrEnum):
    """Where a run stands."""

    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    FAILED = "FAILED"
    PASSED = "PASSED"
    REFUSED = "REFUSED"
    DECLINED = "DECLINED"

    @property
    def is_unfinished(self) -> bool:
        """Whether work is still owed."""
        return self in (State.QUEUED, State.RUNNING)


@dataclass(frozen=True, slots=True)
class CandidateModel:
    """What a gated run offers, all by digest."""

    model_digest: str
    bundle_digest: str
    report_digest: str
    snapshot_digest: str
    definition_version: int
    champion_version: int
    code_version: str
    seed: int
    template: str
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Run:
    """One run. `attempt` counts how often it was taken up: who holds an older number has lost it. `turn` counts its
    gates: 0 for the training, then one for each time it was gated again. `put_back` counts the attempts that were ended
    because training was switched off. `reference`: the run whose rows were the last good ones when this one's were
    chosen; `accept_data`: a person takes the rows as they are. `as_of_us` (what data the run may know) and
    `asked_us` (when it was last decided on) are of the project's clock, the other times of the wall."""

    run_id: str
    project: str
    as_of_us: int
    asked_us: int
    cause_id: str
    mode: str = TRAIN
    state: State = State.QUEUED
    reason: str = ""
    attempt: int = 0
    turn: int = 0
    queued_us: int = 0
    started_us: int = 0
    finished_us: int = 0
    definition_version: int = 0
    definition_json: str = ""  # the project file as trained, canonical; set with the snapshot
    snapshot_digest: str = ""
    candidate: CandidateModel | None = None
    report_json: str = ""
    progress: float = 0.0
    curve: tuple[tuple[int, float, float], ...] = ()
    put_back: int = 0
    reference: str = ""
    accept_data: bool = False
    holdout_from_us: int = 0  # first and last moment of the rows that its gate judged by
    holdout_to_us: int = 0
