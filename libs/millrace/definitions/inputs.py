"""Inputs of the model and features of a service: what a file writes short, written out, one per column."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from millrace.definitions.build import joined, split_view
from millrace.definitions.document import Path
from millrace.definitions.errors import did_you_mean
from millrace.definitions.model import FieldType, Input, View
from millrace.definitions.semantics import Draft, view_types

MAX_INPUTS = 2_000


@dataclass(frozen=True, slots=True)
class Asked:
    """A set of features being written out: whose key is asked, and which versions of views it pins.

    `pins` None: versions are not written, every view is the newest; else view to version, filled as views are met.
    """

    draft: Draft
    entity: str  # empty: not known, nothing is said of joins
    role: str  # how the entity is called in messages
    pins: dict[str, int] | None = None

    def view(self, path: Path, name: str) -> View | None:
        """The view that `name` means, with or without version; None after an error, or where it is broken."""
        draft, known = self.draft, sorted(self.draft.view_names())
        if not draft.views:
            return None  # there is no such section: that is the error
        bare, at, version = name.partition("@")
        if at and self.pins is None:
            draft.document.add(path, f"there is no view {name}", "write its name without the version")
            return None
        if bare not in known:
            draft.document.add(path, f"there is no view {bare}", did_you_mean(bare, known))
            return None
        if self.pins is None:
            return draft.newest(bare)
        return self._pinned(path, bare, version)

    def _pinned(self, path: Path, name: str, version: str) -> View | None:
        assert self.pins is not None
        keys = [k for k, view in self.draft.views.items() if k.startswith(f"{name}@") and view is not None]
        versions = {split_view(key)[1]: key for key in keys}
        if not versions:
            return None  # it is broken: that is the error
        wanted = int(version) if version.isdigit() else self.pins.get(name, max(versions))
        if wanted not in versions or (version and not version.isdigit()):
            self.draft.document.add(path, f"there is no view {name}@{version or wanted}", did_you_mean(name, keys))
            return None
        if self.pins.setdefault(name, wanted) != wanted:
            message = f"{name}@{self.pins[name]} is in this service already: one version of a view at a time"
            self.draft.document.add(path, message)
            return None
        return self.draft.views[versions[wanted]]


def expand_inputs(draft: Draft) -> tuple[Input, ...]:
    """All inputs, in the order of the file: `plan.origin`, or a whole view, joined through a feature if it says so."""
    written = draft.raw("model", "inputs")
    entity = draft.predict.entity if draft.predict else ""
    return expand(Asked(draft, entity, "the predict entity"), ("model", "inputs"), written)


def expand(asked: Asked, place: Path, written: Any) -> tuple[Input, ...]:
    """The features that the list at `place` names, in its order."""
    inputs: dict[str, Input] = {}
    for index, item in enumerate(written if isinstance(written, list) else []):
        path: Path = (*place, index)
        if not asked.draft.whole(*path):
            continue
        for found in _expand(asked, path, item):
            if found.name in inputs:
                hint = "give one of them another prefix with `as`" if isinstance(item, dict) else ""
                asked.draft.document.add(path, f"the input {found.name} is there already", hint)
            elif len(inputs) >= MAX_INPUTS:
                asked.draft.document.add(path, f"a model or service has at most {MAX_INPUTS:,} inputs")
                return tuple(inputs.values())
            inputs[found.name] = found
    return tuple(inputs.values())


def _expand(asked: Asked, path: Path, item: Any) -> list[Input]:
    draft = asked.draft
    if isinstance(item, str):
        name, dot, column = item.partition(".")
        if not dot:
            hint = f"write {{view: {item}}} for all its columns" if item in draft.view_names() else "write view.column"
            draft.document.add(path, f"{item} is not view.column", hint)
            return []
        item = {"view": name, "columns": [column]}
    through = joined(item.get("through", ""))
    view = asked.view(path, item["view"])
    if view is None:
        return []
    source = draft.sources.get(view.source)
    if source is None:
        return []
    types = view_types(view, source)
    _check_join(asked, path, view, through)
    # Versions are in the pins: a name is enough to find the view again.
    through = ",".join(re.sub("@[0-9]+[.]", ".", carrier) for carrier in through.split(","))
    prefix = item.get("as", view.name)
    inputs = []
    for column in item.get("columns", view.columns):
        if column not in types:
            draft.document.add(path, f"{view.name} has no column {column}", did_you_mean(column, list(types)))
            continue
        kind = FieldType.STRING if types[column] == "string" else FieldType.NUMBER
        inputs.append(Input(f"{prefix}.{column}", view.name, column, kind, through))
    return inputs


def _check_join(asked: Asked, path: Path, view: View, through: str) -> None:
    """Without `through` the view must be about the entity that is asked; an entity is known by its field's name."""
    draft, entity = asked.draft, asked.entity
    if not entity:
        return
    if not through:
        if view.entity != entity:
            message = f"{view.name} is about {view.entity}, not about {asked.role} {entity}"
            draft.document.add(path, message, f"write {{view: {view.name}, through: view.column}}")
        return
    here = (*path, "through")
    carriers = through.split(",")
    if len(carriers) != len(view.entity_fields):
        message = (
            f"{view.name} is about {view.entity}: through needs {len(view.entity_fields)} columns, not {len(carriers)}"
        )
        draft.document.add(here, message)
        return
    for carrier, field in zip(carriers, view.entity_fields, strict=True):
        _check_carrier(asked, here, view, carrier, field)


def _check_carrier(asked: Asked, here: Path, view: View, carrier: str, field: str) -> None:
    """One `view.column` that holds one field of the joined view's entity."""
    draft, entity = asked.draft, asked.entity
    name, dot, column = carrier.partition(".")
    if not dot:
        draft.document.add(here, f"{carrier} is not view.column")
        return
    middle = asked.view(here, name)
    source = draft.sources.get(middle.source) if middle else None
    if middle is None or source is None:
        return
    types = view_types(middle, source)
    if middle.entity != entity:
        draft.document.add(here, f"{name} is about {middle.entity}: through must start at {asked.role} {entity}")
    elif column not in types:
        draft.document.add(here, f"{name} has no column {column}", did_you_mean(column, list(types)))
    elif middle.is_windowed:
        draft.document.add(here, f"{carrier} is an aggregate and names no entity")
    else:
        _check_key_types(draft, here, view, field, carrier, types[column])


def _check_key_types(draft: Draft, path: Path, view: View, field: str, carrier: str, kind: str) -> None:
    source = draft.sources.get(view.source)
    wanted = next((f.type.value for f in source.fields if f.name == field), "") if source else ""
    if kind and wanted and kind != wanted:
        draft.document.add(path, f"{carrier} is a {kind}, but {view.name}'s entity {field} is a {wanted}")
