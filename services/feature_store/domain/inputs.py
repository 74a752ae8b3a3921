"""Which views an answer needs, and in which order: resolved once per definition version."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from millrace.definitions.model import FieldType, Input

from services.feature_store.domain.views import CompiledView

Places = np.ndarray | slice  # int64, or a slice where they follow each other: numpy is much quicker with that


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


@dataclass(frozen=True, slots=True)
class Part:
    """The features of one lookup: their places in the answer and their columns in the view, all of them and those of
    numbers alone."""

    places: Places
    columns: Places
    numbers: Places
    number_columns: Places


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
    def parts(self) -> dict[Lookup, Part]:
        """The features, lookup by lookup."""
        grouped: dict[Lookup, list[tuple[int, Feature]]] = {}
        for place, feature in enumerate(self.features):
            grouped.setdefault(feature.lookup, []).append((place, feature))
        return {lookup: _part(features) for lookup, features in grouped.items()}

    @cached_property
    def age_of(self) -> list[int]:
        """Per feature the place of its lookup in `parts`."""
        places = {lookup: place for place, lookup in enumerate(self.parts)}
        return [places[feature.lookup] for feature in self.features]

    @cached_property
    def is_text(self) -> np.ndarray:
        """uint8 per feature, 1 for text."""
        return np.array([feature.type is FieldType.STRING for feature in self.features], dtype="u1")

    @cached_property
    def texts(self) -> tuple[Feature, ...]:
        """The features of text."""
        return tuple(feature for feature in self.features if feature.type is FieldType.STRING)

    @cached_property
    def names(self) -> list[str]:
        """Feature names, in order."""
        return [feature.name for feature in self.features]

    def restricted(self, names: Sequence[str]) -> InputsPlan:
        """The plan for some of the features, in the order of `names`; KeyError with the first name that is unknown."""
        known = {feature.name: feature for feature in self.features}
        return InputsPlan(tuple(known[name] for name in names))


def _part(features: Sequence[tuple[int, Feature]]) -> Part:
    numbers = [(place, feature) for place, feature in features if feature.type is not FieldType.STRING]
    return Part(
        _places([place for place, _ in features]),
        _places([feature.column for _, feature in features]),
        _places([place for place, _ in numbers]),
        _places([feature.column for _, feature in numbers]),
    )


def _places(places: Sequence[int]) -> Places:
    begin = places[0] if places else 0
    if list(places) == list(range(begin, begin + len(places))):
        return slice(begin, begin + len(places))
    return np.array(places, dtype=np.int64)


def plan_inputs(inputs: Sequence[Input], views: Mapping[str, CompiledView]) -> InputsPlan:
    """The plan of these features; `views` by the names that they use, each the version that is meant."""
    direct: dict[str, Lookup] = {}
    joined: dict[tuple[str, str], Lookup] = {}
    features = []
    for item in inputs:
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
