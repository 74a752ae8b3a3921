"""Which views an answer needs, and in which order: resolved once per definition version."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from millrace.definitions.model import FieldType, Project

from services.feature_store.domain.views import CompiledView


@dataclass(frozen=True, slots=True, eq=False)
class Lookup:
    """One view read by one set of entity keys: the predict entity's, or the values of its `carriers`: each is a lookup
    and the place of a column in it, one for each field of the view's entity.

    A plan makes each once, so identity is equality.
    """

    view: CompiledView
    carriers: tuple[tuple[Lookup, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Feature:
    """One column of an answer."""

    name: str
    type: FieldType
    lookup: Lookup
    column: int


@dataclass(frozen=True)
class InputsPlan:
    """The features of an answer, in order. Round one reads the `direct` lookups, round two the `joined` ones."""

    features: tuple[Feature, ...]

    @cached_property
    def joined(self) -> tuple[Lookup, ...]:
        """Lookups through another view's value."""
        return tuple(dict.fromkeys(f.lookup for f in self.features if f.lookup.carriers))

    @cached_property
    def direct(self) -> tuple[Lookup, ...]:
        """Lookups by the predict entity, those that joins go through included."""
        needed = [carrier for f in self.features for carrier, _ in f.lookup.carriers or ((f.lookup, 0),)]
        return tuple(dict.fromkeys(needed))

    @cached_property
    def views(self) -> tuple[CompiledView, ...]:
        """Every view involved, once."""
        return tuple({lookup.view.id: lookup.view for lookup in (*self.direct, *self.joined)}.values())

    @cached_property
    def names(self) -> list[str]:
        """Feature names, in order."""
        return [feature.name for feature in self.features]

    def restricted(self, names: Sequence[str]) -> InputsPlan:
        """The plan for some of the features, in the order of `names`; KeyError with the first name that is unknown."""
        known = {feature.name: feature for feature in self.features}
        return InputsPlan(tuple(known[name] for name in names))


def plan_inputs(project: Project, views: Mapping[str, CompiledView]) -> InputsPlan:
    """The plan of all model inputs; `views` by name, the newest version of each."""
    direct: dict[str, Lookup] = {}
    joined: dict[tuple[str, str], Lookup] = {}
    features = []
    for item in project.model.inputs:
        view = views[item.view]
        if item.through:
            carriers = []
            for carrier in item.carriers:
                name, _, column = carrier.partition(".")
                middle = direct.setdefault(name, Lookup(views[name]))
                carriers.append((middle, views[name].view.columns.index(column)))
            lookup = joined.setdefault((item.view, item.through), Lookup(view, tuple(carriers)))
        else:
            lookup = direct.setdefault(item.view, Lookup(view))
        features.append(Feature(item.name, item.type, lookup, view.view.columns.index(item.column)))
    return InputsPlan(tuple(features))
