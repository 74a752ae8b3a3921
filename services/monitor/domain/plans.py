"""Which versions serve, since when, and which of them are on trial against which other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from millrace.definitions.model import CanaryStep, Rollout


@dataclass(frozen=True, slots=True)
class Variant:
    """One version in a serving plan. `role` is champion, canary, shadow or ab."""

    version: int
    role: str
    weight: float
    fallback: bool
    bundle_digest: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """The serving plan of one model; `received_us` on the project's clock."""

    project: str
    model: str
    epoch: int
    variants: tuple[Variant, ...]
    event_id: str
    received_us: int

    def with_role(self, role: str) -> tuple[Variant, ...]:
        """The variants that have the role."""
        return tuple(v for v in self.variants if v.role == role)

    @property
    def champion(self) -> Variant | None:
        """The version that answers by default."""
        found = self.with_role("champion")
        return found[0] if found else None

    @property
    def target(self) -> Variant | None:
        """The warm version that a rollback of the champion would bring back."""
        warm = [v for v in self.with_role("shadow") if v.fallback]
        return warm[0] if warm else None


@dataclass(frozen=True, slots=True)
class Change:
    """One change of a version's state, from topic `models.events`. `clock_us` on the project's clock."""

    event_id: str
    model: str
    version: int
    to_state: str
    kind: str
    clock_us: int
    epoch: int
    other_version: int = 0


@dataclass(frozen=True, slots=True)
class Trial:
    """A version on trial against `target`, the version that would serve in its place."""

    project: str
    model: str
    version: int
    role: str
    target: int
    since_us: int  # when it went live in this role
    since_epoch: int
    epoch: int  # of the plan now
    step_us: int  # when the plan's step began
    weight: float
    cause_id: str  # the event that put it live
    step_cause_id: str  # the event that began the step

    @property
    def incident_id(self) -> str:
        """Stable per time on trial: at most one rollback comes of it."""
        return f"{self.model}/{self.version}/{self.since_epoch}"


def trials(plan: Plan, changes: Sequence[Change]) -> list[Trial]:
    """Every version of the plan that is to be judged, given the model's changes (any order).

    A champion is judged against its warm target, except when it serves because of a rollback: what it replaced was
    found worse. A canary, and a shadow that is no fallback, are judged against the champion.
    """
    champion, target = plan.champion, plan.target
    found = []
    if champion and target and not _came_back(changes, champion.version):
        found.append(_trial(plan, champion, target.version, changes))
    if champion:
        candidates = [*plan.with_role("canary"), *(v for v in plan.with_role("shadow") if not v.fallback)]
        found.extend(_trial(plan, variant, champion.version, changes) for variant in candidates)
    return found


def went_live(plan: Plan, changes: Sequence[Change]) -> Change:
    """The change that first made the plan's champion the champion; one at the plan's time when it is not known.

    The first, also for a version that came back by a rollback: what it was trained on did not change.
    """
    version = plan.champion.version if plan.champion else 0
    known = [c for c in _of(changes, version) if c.to_state.startswith("champion")]
    return known[0] if known else _stand_in(plan, version)


def step_of(rollout: Rollout, weight: float) -> CanaryStep:
    """The rollout's step with this weight; the last one when none fits, an empty one when there are none."""
    if not rollout.steps:
        return CanaryStep(weight)
    return next((s for s in rollout.steps if abs(s.weight - weight) < 1e-9), rollout.steps[-1])


_NONE = Change("", "", 0, "", "", 0, 0)


def _trial(plan: Plan, variant: Variant, target: int, changes: Sequence[Change]) -> Trial:
    live = _first_of_stay(changes, variant.version, variant.role)
    live = live if live.event_id else _stand_in(plan, variant.version)
    steps = [c for c in changes if c.version == variant.version and c.epoch == plan.epoch]
    step = max(steps, key=lambda c: c.clock_us, default=live)
    return Trial(
        project=plan.project,
        model=plan.model,
        version=variant.version,
        role=variant.role,
        target=target,
        since_us=live.clock_us,
        since_epoch=live.epoch,
        epoch=plan.epoch,
        step_us=step.clock_us,
        weight=variant.weight,
        cause_id=live.event_id,
        step_cause_id=step.event_id,
    )


def _stand_in(plan: Plan, version: int) -> Change:
    return Change(plan.event_id, plan.model, version, "", "", plan.received_us, plan.epoch)


def _of(changes: Sequence[Change], version: int) -> list[Change]:
    return sorted((c for c in changes if c.version == version), key=lambda c: (c.epoch, c.clock_us))


def _came_back(changes: Sequence[Change], version: int) -> bool:
    """Whether the version serves because another one was rolled back."""
    own = [c.epoch for c in _of(changes, version) if c.to_state.startswith("champion") and not _brings_back(c, version)]
    back = [c.epoch for c in changes if _brings_back(c, version)]
    return bool(back) and max(back) > max(own, default=-1)


def _brings_back(change: Change, version: int) -> bool:
    if change.kind == "restored":
        return change.version == version
    return change.kind == "rolled_back" and change.other_version == version


def _first_of_stay(changes: Sequence[Change], version: int, state: str) -> Change:
    """The change that began the present, unbroken stay in `state`."""
    first = _NONE
    for change in reversed(_of(changes, version)):
        if not change.to_state.startswith(state):
            break
        first = change
    return first
