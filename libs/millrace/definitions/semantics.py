"""What a schema cannot say: names that must exist, types of expressions, numbers that must fit each other.

Sections that broke the schema are left out, and so is every check that needs them: no error is the echo of another.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from millrace.definitions import build
from millrace.definitions.document import Document, Path
from millrace.definitions.errors import did_you_mean
from millrace.definitions.model import (
    WITH_ARGUMENT,
    Aggregate,
    Aggregation,
    FieldType,
    Label,
    Pii,
    Predict,
    Source,
    View,
    format_duration,
)
from millrace.expressions import ExpressionError, parse

MAX_LAST_K = 16  # each is a column per window, and three numbers in every tile
ARGUMENTS = {
    Aggregation.QUANTILE: "for example quantile(delay, 0.95)",
    Aggregation.LAST_K: "for example last_k(delay, 3)",
}
MAX_TILES = 5_000  # per window: more cost memory at every read
MAX_HORIZON_US = 3_660 * 86_400_000_000
RESERVED = frozenset({"and", "or", "not", "in", "is", "if", "null", "true", "false", "None", "True", "False"})
NUMERIC = frozenset({"number", "integer", "boolean", "timestamp", "null"})
KEYS = (FieldType.STRING, FieldType.INTEGER)


@dataclass(slots=True)
class Draft:
    """A file half-way: sections by name; None where a section is broken."""

    document: Document
    broken: frozenset[Path]
    sources: dict[str, Source | None] = field(default_factory=dict)
    views: dict[str, View | None] = field(default_factory=dict)
    predict: Predict | None = None
    label: Label | None = None

    def raw(self, *path: str) -> Any:
        """The written value at `path`; None when it is absent."""
        value = self.document.value
        for part in path:
            value = value.get(part) if isinstance(value, dict) else None
        return value

    def whole(self, *path: str | int) -> bool:
        """Whether something stands at `path` and no part of it broke the schema."""
        return path in self.document.positions and not any(p[: len(path)] == path for p in self.broken)

    def section(self, name: str) -> dict[str, Any]:
        """A section as it was written; empty when it is absent or no mapping."""
        value = self.raw(name)
        return value if isinstance(value, dict) else {}

    def newest(self, name: str) -> View | None:
        """The newest version of a view; None when it is broken or unknown."""
        keys = [k for k in self.views if k.partition("@")[0] == name and k.partition("@")[2].isdigit()]
        return self.views[max(keys, key=lambda k: build.split_view(k)[1])] if keys else None

    def view_names(self) -> set[str]:
        """Names of all views, broken ones too."""
        return {key.partition("@")[0] for key in self.views}

    def source_at(self, name: str, path: Path) -> Source | None:
        """The named source; an unknown one is an error at `path`."""
        if self.sources and name not in self.sources:
            self.document.add(path, f"there is no source {name}", did_you_mean(name, list(self.sources)))
        return self.sources.get(name)

    def type_at(self, text: str, types: dict[str, str], path: Path) -> str:
        """The type of an expression; an error at `path` and "" when it has none."""
        try:
            expression = parse(text)
            unknown = sorted(expression.names - types.keys())
            for name in unknown:
                self.document.add(path, f"there is no field {name}", did_you_mean(name, list(types)))
            return "" if unknown else expression.type_of(types)
        except ExpressionError as error:
            self.document.add(path, str(error))
        except RecursionError:
            self.document.add(path, "the expression is nested too deep")
        return ""


def field_types(source: Source) -> dict[str, str]:
    """Field name to type of what the platform keeps of a source; a hashed or masked value is text."""
    kept = (f for f in source.fields if f.pii is not Pii.DROP)
    return {f.name: f.type.value if f.pii is Pii.KEEP else FieldType.STRING.value for f in kept}


def view_types(view: View, source: Source) -> dict[str, str]:
    """Column name to type; "" where an expression does not type."""
    if view.is_windowed:
        return dict.fromkeys(view.columns, FieldType.NUMBER.value)
    types = field_types(source)
    known = {name: types.get(name, "") for name in view.latest}
    for name, text in view.derive:
        try:
            known[name] = parse(text).type_of(types)
        except (ExpressionError, RecursionError):
            known[name] = ""
    return known


def check_sources(draft: Draft) -> None:
    """Reads the sources and checks keys, times and expectations."""
    for name in draft.section("sources"):
        draft.sources[name] = None
        if draft.whole("sources", name):
            source = build.source(name, draft.raw("sources", name))
            draft.sources[name] = source
            _check_source(draft.document, source)


def _check_source(document: Document, source: Source) -> None:
    path: Path = ("sources", source.name)
    names = [f.name for f in source.fields]
    for role, name in (("key", source.key), ("event_time", source.event_time)):
        here = (*path, role)
        if name not in names:
            document.add(here, f"there is no field {name}", did_you_mean(name, names))
            continue
        chosen = source.field(name)
        if role == "event_time" and (chosen.type is not FieldType.TIMESTAMP or chosen.pii is not Pii.KEEP):
            document.add(here, f"{name} must be a timestamp that is kept, not {chosen.type} ({chosen.pii})")
        if role == "key" and chosen.type not in KEYS:
            document.add(here, f"a key must be string or integer, not {chosen.type}")
        if role == "key" and chosen.pii is Pii.DROP:
            document.add(here, f"{name} is dropped and cannot be the key", "pii: hash keeps it usable")
    for item in source.fields:
        _check_field(document, (*path, "fields", item.name), item)


def _check_field(document: Document, path: Path, item: Any) -> None:
    numeric = item.type in (FieldType.NUMBER, FieldType.INTEGER)
    text = item.type is FieldType.STRING
    if item.name in RESERVED:
        document.add(path, f"{item.name} is a word of the expression language and cannot be a field")
    if item.range and not numeric:
        document.add((*path, "range"), f"a {item.type} has no range", "range is for numbers")
    if item.range and item.range[0] > item.range[1]:
        document.add((*path, "range"), "the least value is greater than the greatest")
    if item.set is not None and not text:
        document.add((*path, "set"), f"a {item.type} has no set", "set is for strings")
    if item.pii in (Pii.HASH, Pii.MASK) and not text:
        document.add((*path, "pii"), f"a {item.type} cannot be {item.pii}ed", "use drop, or declare it a string")
    if item.regex is not None:
        if not text:
            document.add((*path, "regex"), f"a {item.type} has no regex", "regex is for strings")
        try:
            re.compile(item.regex)
        except (re.error, OverflowError, RecursionError) as error:
            document.add((*path, "regex"), f"not a regular expression: {error}")


def check_predict(draft: Draft) -> None:
    """Reads the predict section and checks its names and its moment."""
    if not draft.whole("predict"):
        return
    predict = build.predict(draft.raw("predict"))
    draft.predict = predict
    source = draft.source_at(predict.source, ("predict", "source"))
    if source is None:
        return
    types = field_types(source)
    _check_entity(draft.document, ("predict", "entity"), predict.entity, types)
    kind = draft.type_at(predict.moment, types, ("predict", "moment"))
    if kind and kind != "timestamp":
        draft.document.add(("predict", "moment"), f"must be a timestamp, not a {kind}")
    for index, name in enumerate(predict.request):
        if name not in types:
            draft.document.add(
                ("predict", "request", index), f"there is no field {name}", did_you_mean(name, list(types))
            )


def _check_entity(document: Document, path: Path, name: str, types: dict[str, str]) -> None:
    if name not in types:
        document.add(path, f"there is no field {name}", did_you_mean(name, list(types)))
    elif types[name] not in KEYS:
        document.add(path, f"an entity must be string or integer, not {types[name]}")


def check_views(draft: Draft) -> None:
    """Reads the feature views and checks columns, windows and expressions."""
    for key in draft.section("features"):
        draft.views[key] = None
        if not draft.whole("features", key):
            continue
        path: Path = ("features", key)
        raw = draft.raw("features", key)
        if not _functions_known(draft, path, raw.get("aggregates", {})):
            continue
        view = build.view(key, raw)
        draft.views[key] = view
        source = draft.source_at(view.source, (*path, "source"))
        _check_windows(draft.document, path, view)
        if source is not None:
            _check_columns(draft, path, view, field_types(source))


def _functions_known(draft: Draft, path: Path, aggregates: dict[str, str]) -> bool:
    known = [a.value for a in Aggregation]
    fine = True
    for column, text in aggregates.items():
        function = build.split_call(text)[0]
        if function not in known:
            here = (*path, "aggregates", column)
            draft.document.add(here, f"there is no aggregate {function}()", did_you_mean(function, known))
            fine = False
    return fine


def _check_windows(document: Document, path: Path, view: View) -> None:
    if not view.is_windowed:
        for word, given in (("windows", view.windows_us), ("hop", view.hop_us), ("where", view.where)):
            if given and word != "where":
                document.add((*path, word), f"{word} needs aggregates")
        if not view.columns:
            document.add(path, "has no columns", "give latest, derive or aggregates")
        return
    if view.latest or view.derive:
        document.add(path, "has latest values and aggregates: make it two views")
    if not view.windows_us or not view.hop_us:
        document.add(path, "aggregates need windows and a hop", "for example hop: 10m, windows: [1h, 3h]")
        return
    for index, window in enumerate(view.windows_us):
        here = (*path, "windows", index)
        shown = format_duration(window)
        if window == 0 or window % view.hop_us:
            document.add(here, f"{shown} is not a multiple of the hop {format_duration(view.hop_us)}")
        elif window // view.hop_us > MAX_TILES:
            document.add(here, f"{shown} is more than {MAX_TILES:,} hops", "use a wider hop")
        if window in view.windows_us[:index]:
            document.add(here, f"{shown} is written twice")


def _check_columns(draft: Draft, path: Path, view: View, types: dict[str, str]) -> None:
    document = draft.document
    for name in view.entity_fields:
        _check_entity(document, (*path, "entity"), name, types)
    for index, name in enumerate(view.latest):
        if name not in types:
            document.add((*path, "latest", index), f"there is no field {name}", did_you_mean(name, list(types)))
    for name, text in view.derive:
        here = (*path, "derive", name)
        if name in view.latest:
            document.add(here, f"{name} is a column already")
        draft.type_at(text, types, here)
    for aggregate in view.aggregates:
        _check_aggregate(draft, (*path, "aggregates", aggregate.name), aggregate, types)
    outputs = [output for aggregate in view.aggregates for output in aggregate.outputs]
    for output in sorted({output for output in outputs if outputs.count(output) > 1}):
        document.add((*path, "aggregates"), f"two aggregates make a column {output}", "give one of them another name")
    if view.where:
        kind = draft.type_at(view.where, types, (*path, "where"))
        if kind not in ("", "boolean"):
            document.add((*path, "where"), f"must be true or false, not a {kind}")


def _check_aggregate(draft: Draft, path: Path, aggregate: Aggregate, types: dict[str, str]) -> None:
    function, text = aggregate.function, aggregate.expression
    if function in WITH_ARGUMENT:
        if not aggregate.argument:
            draft.document.add(path, f"{function}() needs a number after its expression", ARGUMENTS[function])
            return
        if function is Aggregation.QUANTILE and not 0 < aggregate.argument < 1:
            draft.document.add(
                path, f"a quantile lies between 0 and 1, not at {aggregate.argument:g}", ARGUMENTS[function]
            )
        if function is Aggregation.LAST_K and not _is_small_number(aggregate.argument):
            message = f"last_k() takes a whole number from 1 to {MAX_LAST_K}, not {aggregate.argument:g}"
            draft.document.add(path, message, ARGUMENTS[function])
    if not text:
        if function is not Aggregation.COUNT:
            draft.document.add(path, f"{function}() needs an expression", f"for example {function}(delay)")
        return
    kind = draft.type_at(text, types, path)
    if function not in (Aggregation.COUNT, Aggregation.DISTINCT) and kind and kind not in NUMERIC:
        draft.document.add(path, f"{function}() takes a number, not a {kind}")


def _is_small_number(value: float) -> bool:
    return value.is_integer() and 1 <= value <= MAX_LAST_K


def check_label(draft: Draft) -> None:
    """Reads the label section and checks that truth and example can meet."""
    if not draft.whole("label"):
        return
    label = build.label(draft.raw("label"))
    draft.label = label
    document = draft.document
    if not 0 < label.horizon_us <= MAX_HORIZON_US:
        document.add(("label", "horizon"), "must be above zero and at most ten years")
    if label.missing == "default" and draft.raw("label", "default") is None:
        document.add(("label", "missing"), "needs the default that is assumed", "for example default: 0")
    source = draft.source_at(label.source, ("label", "source"))
    if source is None:
        return
    types = field_types(source)
    _check_entity(document, ("label", "key"), label.key, types)
    kind = draft.type_at(label.value, types, ("label", "value"))
    if kind and kind not in ("number", "integer", "boolean"):
        document.add(("label", "value"), f"must be a number, or true or false, not a {kind}")
    _check_same_entity(draft, label, types)


def _check_same_entity(draft: Draft, label: Label, types: dict[str, str]) -> None:
    predict = draft.predict
    asked = draft.sources.get(predict.source) if predict else None
    if predict is None or asked is None:
        return
    entity = field_types(asked).get(predict.entity)
    if entity and label.key in types and types[label.key] != entity:
        message = f"{label.key} is a {types[label.key]}, but the predict entity {predict.entity} is a {entity}"
        draft.document.add(("label", "key"), message)
