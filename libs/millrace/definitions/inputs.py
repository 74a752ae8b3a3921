"""The model's inputs: what a file writes short, written out, one input per column."""

from __future__ import annotations

from typing import Any

from millrace.definitions import build
from millrace.definitions.document import Path
from millrace.definitions.errors import did_you_mean
from millrace.definitions.model import FieldType, Input, View
from millrace.definitions.semantics import Draft, view_types

MAX_INPUTS = 2_000


def expand_inputs(draft: Draft) -> tuple[Input, ...]:
    """All inputs, in the order of the file: `plan.origin`, or a whole view, joined through a feature if it says so."""
    inputs: dict[str, Input] = {}
    written = draft.raw("model", "inputs")
    for index, item in enumerate(written if isinstance(written, list) else []):
        path: Path = ("model", "inputs", index)
        if not draft.whole(*path):
            continue
        for found in _expand(draft, path, item):
            if found.name in inputs:
                hint = "give one of them another prefix with `as`" if isinstance(item, dict) else ""
                draft.document.add(path, f"the input {found.name} is there already", hint)
            elif len(inputs) >= MAX_INPUTS:
                draft.document.add(path, f"a model has at most {MAX_INPUTS:,} inputs")
                return tuple(inputs.values())
            inputs[found.name] = found
    return tuple(inputs.values())


def _expand(draft: Draft, path: Path, item: Any) -> list[Input]:
    if isinstance(item, str):
        name, dot, column = item.partition(".")
        if not dot:
            hint = f"write {{view: {item}}} for all its columns" if item in draft.view_names() else "write view.column"
            draft.document.add(path, f"{item} is not view.column", hint)
            return []
        item = {"view": name, "columns": [column]}
    through = build.joined(item.get("through", ""))
    view = _view(draft, path, item["view"])
    if view is None:
        return []
    source = draft.sources.get(view.source)
    if source is None:
        return []
    types = view_types(view, source)
    _check_join(draft, path, view, through)
    prefix = item.get("as", view.name)
    inputs = []
    for column in item.get("columns", view.columns):
        if column not in types:
            draft.document.add(path, f"{view.name} has no column {column}", did_you_mean(column, list(types)))
            continue
        kind = FieldType.STRING if types[column] == "string" else FieldType.NUMBER
        inputs.append(Input(f"{prefix}.{column}", view.name, column, kind, through))
    return inputs


def _view(draft: Draft, path: Path, name: str) -> View | None:
    if not draft.views:
        return None  # there is no such section: that is the error
    if name not in draft.view_names():
        hint = "write its name without the version" if "@" in name else did_you_mean(name, sorted(draft.view_names()))
        draft.document.add(path, f"there is no view {name}", hint)
        return None
    return draft.newest(name)


def _check_join(draft: Draft, path: Path, view: View, through: str) -> None:
    """Without `through` the view must be about the predict entity; an entity is known by its field's name."""
    predict = draft.predict
    if predict is None:
        return
    if not through:
        if view.entity != predict.entity:
            message = f"{view.name} is about {view.entity}, not about the predict entity {predict.entity}"
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
        _check_carrier(draft, here, view, carrier, field, predict.entity)


def _check_carrier(draft: Draft, here: Path, view: View, carrier: str, field: str, entity: str) -> None:
    """One `view.column` that holds one field of the joined view's entity."""
    name, dot, column = carrier.partition(".")
    if not dot:
        draft.document.add(here, f"{carrier} is not view.column")
        return
    middle = _view(draft, here, name)
    source = draft.sources.get(middle.source) if middle else None
    if middle is None or source is None:
        return
    types = view_types(middle, source)
    if middle.entity != entity:
        message = f"{name} is about {middle.entity}: through must start at the predict entity {entity}"
        draft.document.add(here, message)
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
