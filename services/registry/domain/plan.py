"""The serving plan of a model: which version answers, which is scored beside it, which stands ready."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import StrEnum

from services.registry.domain.state import ReleaseState, State


class Role(StrEnum):
    """What a variant does."""

    CHAMPION = "champion"
    CANARY = "canary"
    SHADOW = "shadow"


@dataclass(frozen=True, slots=True)
class Variant:
    """One version in the plan. `weight` is its share of the keys; weights sum to 1."""

    version: int
    role: Role
    weight: float
    fallback: bool = False


def variants_of(state: ReleaseState) -> tuple[Variant, ...]:
    """The plan's variants, the champion first; empty before the first release."""
    if not state.champion:
        return ()
    plan = [Variant(state.champion, Role.CHAMPION, 1.0 - state.weight)]
    if state.challenger:
        canary = state.versions[state.challenger].state is State.CANARY
        plan.append(Variant(state.challenger, Role.CANARY if canary else Role.SHADOW, state.weight))
    if state.fallback:
        plan.append(Variant(state.fallback, Role.SHADOW, 0.0, fallback=True))
    return tuple(plan)


def salt_of(project: str, model: str) -> str:
    """Stable per model, so that raising a canary's share moves only keys into it."""
    return hashlib.sha256(f"{project}/{model}".encode()).hexdigest()[:16]
