"""What is being served: immutable plans with their loaded models, replaced whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from services.inference.domain.bundle import Bundle
from services.inference.domain.plan import Plan, Role, Variant
from services.inference.domain.routing import Router
from services.inference.errors import BadRequest, NoPlanYet, UnknownModel
from services.inference.ports import Projects, Session


@dataclass(frozen=True, slots=True)
class Loaded:
    """One version that was loaded, warmed and checked.

    `is_by_key`: every input is a column of rows, so that it can be asked by entity key.
    `is_short`: one row takes less than the event loop's bound.
    """

    variant: Variant
    session: Session
    bundle: Bundle
    is_by_key: bool
    is_short: bool = True

    @property
    def version(self) -> int:
        """The model's version."""
        return self.variant.version


@dataclass(frozen=True, slots=True)
class Live:
    """A plan whose answering variants are all loaded. Never changed: a request keeps the one it began with."""

    plan: Plan
    loaded: Mapping[int, Loaded]
    router: Router
    features: tuple[str, ...]  # what the feature store is asked for: inputs of every loaded variant, in a fixed order
    shadows: tuple[Loaded, ...]  # those that could be loaded
    is_by_key: bool  # every answering variant can be asked by entity key

    def choose(self, key: str) -> Loaded:
        """The variant that answers `key`."""
        return self.loaded[self.router.choose(key).version]

    def fallbacks(self, failed: Loaded) -> Iterator[Loaded]:
        """Who answers in place of `failed`: the declared fallbacks, then the champion."""
        for wants in (lambda v: v.fallback, lambda v: v.role is Role.CHAMPION and not v.fallback):
            for variant in self.plan.variants:
                if wants(variant) and variant.version != failed.version and variant.version in self.loaded:
                    yield self.loaded[variant.version]


def live_of(plan: Plan, loaded: Mapping[int, Loaded]) -> Live:
    """A plan ready to serve."""
    features = tuple(dict.fromkeys(c.name for v in loaded.values() for c in v.bundle.columns))
    shadows = tuple(loaded[v.version] for v in plan.shadows if v.version in loaded)
    by_key = all(loaded[v.version].is_by_key for v in plan.answering)
    return Live(plan, dict(loaded), Router(plan), features, shadows, by_key)


@dataclass(slots=True)
class Serving:
    """The plans by model. `switch` is one assignment; readers take what they find and keep it."""

    projects: Projects
    waiting: dict[str, Plan] = field(default_factory=dict)  # by model: released, and nothing of it loaded yet
    models: Mapping[str, Live] = field(default_factory=dict)
    switched: Callable[[str, Live | None], None] | None = None

    def switch(self, model: str, live: Live | None) -> None:
        """Serve `live` from now on; None takes the model out of service."""
        others = {m: known for m, known in self.models.items() if m != model}
        self.models = others if live is None else {**others, model: live}
        if self.switched:
            self.switched(model, live)

    def for_model(self, model: str) -> Live:
        """The plan of `model`. Raises UnknownModel, NoPlanYet."""
        live = self.models.get(model)
        if live is not None:
            return live
        if model in self.waiting:
            raise NoPlanYet(f"model {model!r} is released and not loaded yet; try again shortly")
        raise UnknownModel(f"model {model!r} is not served here; expected one of {sorted(self.models)}")

    def for_project(self, project: str) -> Live:
        """The plan of the project's model. Raises UnknownModel, NoPlanYet."""
        named = self.projects.model_of(project)
        live = self.models.get(named)
        if live is not None and live.plan.project == project:
            return live
        for other in self.models.values():  # the definition is newer than the last release, or not known (yet)
            if other.plan.project == project:
                return other
        if any(plan.project == project for plan in self.waiting.values()):
            raise NoPlanYet(f"the model of project {project!r} is released and not loaded yet; try again shortly")
        if named:
            raise UnknownModel(f"project {project!r} has no released model yet")
        raise UnknownModel(f"project {project!r} is not known here")

    def version_of(self, model: str, version: str) -> Loaded | None:
        """The loaded version that was named; None where the plan shall choose. Raises UnknownModel, BadRequest."""
        live = self.for_model(model)
        if not version:
            return None
        if not version.isdecimal():
            raise BadRequest(
                f"model version is {version!r}; expected a whole number, or nothing to let the plan choose"
            )
        loaded = live.loaded.get(int(version))
        if loaded is None:
            raise UnknownModel(f"version {version} of {model!r} is not loaded; expected one of {sorted(live.loaded)}")
        return loaded
