"""What a model's release state is, and what a decision about it says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from types import MappingProxyType


class State(StrEnum):
    """Where a version stands; `NONE` is before it was registered."""

    NONE = ""
    REGISTERED = "registered"
    GATED = "gated"
    SHADOW = "shadow"
    CANARY = "canary"
    CHAMPION = "champion"
    RETIRED = "retired"
    REJECTED = "rejected"


class Kind(StrEnum):
    """What happened to a version."""

    REGISTERED = "registered"
    GATED = "gated"
    REJECTED = "rejected"
    RELEASED = "released"  # begins to serve: as shadow, canary, or the first champion
    ADVANCED = "advanced"
    HELD = "held"
    PROMOTED = "promoted"
    RETIRED = "retired"
    ROLLED_BACK = "rolled_back"
    RESTORED = "restored"  # serves again after a rollback of another version
    FORCED = "forced"


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a candidate showed: the champion that it was compared with (0: there was none) and the gate's report."""

    champion: int
    gate_report_digest: str


@dataclass(frozen=True, slots=True)
class Candidate:
    """A new version as its run hands it over."""

    run_id: str
    model_digest: str
    bundle_digest: str
    evidence: Evidence
    passed: bool
    reason: str = ""
    snapshot_digest: str = ""
    definition_version: int = 0
    clock_us: int = 0  # the project's clock that its run was asked at, or ended at
    metrics: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    actor: str = ""


@dataclass(frozen=True, slots=True)
class Version:
    """One version of a model. `championships` counts how often it became champion."""

    number: int
    candidate: Candidate
    state: State = State.REGISTERED
    reason: str = ""
    championships: int = 0
    broken: bool = False  # a replica could not load it, and none could

    @property
    def can_serve_again(self) -> bool:
        """Whether a rollback may choose it: it was champion, it was retired and not rejected, and it loads."""
        return self.state is State.RETIRED and self.championships > 0 and not self.broken


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a rollout: the share of keys; 0 is a shadow."""

    weight: float


@dataclass(frozen=True, slots=True)
class Rollout:
    """How a gated version becomes champion: no steps means at once. `guard_us` runs on the project's clock."""

    steps: tuple[Step, ...] = ()
    guard_us: int = 0


@dataclass(frozen=True, slots=True)
class ReleaseState:
    """Everything that decides about one model. Version numbers; 0 is none."""

    versions: Mapping[int, Version] = field(default_factory=lambda: MappingProxyType({}))
    last_number: int = 0  # numbers are never used twice; `versions` may leave out what no rule asks about
    champion: int = 0
    challenger: int = 0  # in shadow or canary
    step: int = 0  # of the challenger
    weight: float = 0.0  # share of keys of the challenger
    fallback: int = 0  # the replaced champion, kept warm while the guard lasts
    promoted_us: int = 0
    rolled_back_us: int | None = None
    epoch: int = 0
    incidents: frozenset[tuple[int, str]] = frozenset()  # (version, incident) already rolled back

    def with_version(self, version: Version) -> ReleaseState:
        """This state with one version added or replaced."""
        versions = MappingProxyType({**self.versions, version.number: version})
        return replace(self, versions=versions, last_number=max(self.last_number, version.number))

    def by_run(self, run_id: str) -> Version | None:
        """The version of a run."""
        return next((v for v in self.versions.values() if run_id and v.candidate.run_id == run_id), None)


@dataclass(frozen=True, slots=True)
class Move:
    """One change of one version, as it is told to the world."""

    version: int
    source: State
    target: State
    kind: Kind
    reason: str
    other_version: int = 0


@dataclass(frozen=True, slots=True)
class Decision:
    """What follows from a request: the new state and its moves; or why nothing does.

    `cause` names why the serving plan changed (empty: it did not); `regate` is a run whose gate must be met again.
    """

    state: ReleaseState
    moves: tuple[Move, ...] = ()
    cause: str = ""
    refusal: str = ""
    regate: str = ""
