"""Which model versions need which versions of views: a version means the views of the definition it was made under."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from millrace.definitions.lineage import model_pins
from millrace.definitions.model import Project

# A rejected version never serves again; any other may be gated, released or rolled back to.
NEVER_LOADED = "rejected"


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """One version of a model, as the registry knows it."""

    model: str
    version: int
    state: str
    definition_version: int

    @property
    def is_loadable(self) -> bool:
        """Whether it may serve, now or later."""
        return self.state != NEVER_LOADED

    def __str__(self) -> str:
        return f"{self.model} version {self.version} ({self.state})"


def views_of(version: ModelVersion, definitions: Mapping[int, Project]) -> frozenset[str]:
    """Ids of the views that the version reads; none when its definition is not known."""
    project = definitions.get(version.definition_version)
    if project is None or project.model.name != version.model:
        return frozenset()
    return frozenset(f"{name}@{number}" for name, number in model_pins(project).items())


def needing(view_id: str, versions: Iterable[ModelVersion], definitions: Mapping[int, Project]) -> list[ModelVersion]:
    """The versions that can be loaded and read this version of the view."""
    return [v for v in versions if v.is_loadable and view_id in views_of(v, definitions)]
