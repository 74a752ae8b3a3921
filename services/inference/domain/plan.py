"""A serving plan as values: which versions of a model answer, for which share of the keys."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum


class PlanError(ValueError):
    """A plan that cannot be served as it stands."""


class Role(StrEnum):
    """What a variant does in a plan."""

    CHAMPION = "champion"
    CANARY = "canary"
    SHADOW = "shadow"
    AB = "ab"


@dataclass(frozen=True, slots=True)
class Variant:
    """One version in a plan. `weight` is its share of the keys, 0 to 1; the champion takes the rest."""

    version: int
    model_digest: str
    bundle_digest: str
    role: Role
    weight: float = 0.0
    fallback: bool = False
    definition_version: int = 0

    @property
    def answers(self) -> bool:
        """Whether callers can be routed to it."""
        return self.role is not Role.SHADOW

    @property
    def digests(self) -> tuple[str, ...]:
        """The artifacts it is made of."""
        return tuple(d for d in (self.model_digest, self.bundle_digest) if d)


@dataclass(frozen=True, slots=True)
class Plan:
    """The whole serving plan of one model. `event_id` is the event that brought it: the cause of its predictions."""

    project: str
    model: str
    epoch: int
    salt: str
    variants: tuple[Variant, ...]
    definition_version: int = 0
    cause: str = ""
    event_id: str = ""

    @property
    def answering(self) -> tuple[Variant, ...]:
        """The variants that callers can be routed to."""
        return tuple(v for v in self.variants if v.answers)

    @property
    def shadows(self) -> tuple[Variant, ...]:
        """The variants that score the same inputs and never answer by themselves."""
        return tuple(v for v in self.variants if not v.answers)

    @property
    def digests(self) -> frozenset[str]:
        """Every artifact of the plan."""
        return frozenset(d for v in self.variants for d in v.digests)

    def check(self) -> None:
        """PlanError says what is wrong; a plan without variants is a model taken out of service."""
        versions = [v.version for v in self.variants]
        if len(set(versions)) != len(versions):
            raise PlanError(f"a version stands twice in the plan: {versions}")
        if self.variants and not self.answering:
            raise PlanError("no variant answers: all are shadows")
        champions = [v.version for v in self.variants if v.role is Role.CHAMPION]
        if len(champions) > 1:
            raise PlanError(f"the plan has {len(champions)} champions {champions}; expected one")
        for variant in self.variants:
            if not (math.isfinite(variant.weight) and 0 <= variant.weight <= 1):
                raise PlanError(f"version {variant.version} has weight {variant.weight}; expected 0 to 1")
