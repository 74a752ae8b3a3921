"""Checks a document against the JSON Schema and says what is wrong in words of its own, with places and hints."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import jsonschema

from millrace.definitions import schema
from millrace.definitions.document import Document, Path
from millrace.definitions.errors import did_you_mean

MAX_ERRORS = 200

_ARTICLES = {
    "object": "a mapping",
    "array": "a list",
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
}
_PATTERNS = {
    schema.NAME: "lower-case letters, digits, - and _ (it becomes part of a topic's name)",
    schema.IDENTIFIER: "letters, digits and _, not starting with a digit (expressions use it)",
    schema.VIEW: "name@version, such as plan@1",
    schema.SERVICE: "name@version, such as basket@1",
    schema.DURATION: "a duration, such as 90s, 10m, 3h or 7d",
    schema.AGGREGATE: "function(expression), such as mean(delay) or count()",
}


@cache
def _validator() -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(schema.json_schema())


def check_shape(document: Document) -> frozenset[Path]:
    """Adds every breach of the schema to the document; returns the paths that are broken."""
    broken: list[Path] = []
    for error in _validator().iter_errors(document.value):
        for path, message, hint in _explain(error):
            broken.append(path)
            if len(broken) <= MAX_ERRORS:
                document.add(path, message, hint)
    return frozenset(broken)


def _explain(error: jsonschema.ValidationError) -> Iterator[tuple[Path, str, str]]:
    path: Path = tuple(error.absolute_path)
    rule = error.validator
    value: Any = error.instance
    wanted: Any = error.validator_value
    section: Any = error.schema
    if rule == "additionalProperties" and wanted is False:
        known = list(section["properties"])
        for key in value:
            if key not in known:
                yield (*path, key), f"{key} is not a word of this section", did_you_mean(key, known)
    elif rule == "required":
        for key in wanted:
            if key not in value:
                yield path, f"{key} is missing", _meaning(section, key)
        return
    elif rule == "propertyNames" or "propertyNames" in error.absolute_schema_path:
        name = str(value if isinstance(value, str) else error.instance)
        pattern = wanted if isinstance(wanted, str) else wanted.get("pattern", "")
        yield (*path, name), f"the name {name!r} is not allowed", "use " + _PATTERNS.get(pattern, pattern)
    elif rule == "anyOf":
        yield from _closest(error)
    else:
        yield path, *_plain(str(rule), wanted, value, str(section.get("pattern", "")))


def _closest(error: jsonschema.ValidationError) -> Iterator[tuple[Path, str, str]]:
    """The branch of an `anyOf` that the value was meant for: of those whose type it has, the one with the fewest words
    that it does not know or lacks."""
    branches: dict[Any, list[jsonschema.ValidationError]] = {}
    for one in error.context or ():
        branches.setdefault(one.relative_schema_path[0], []).append(one)
    fitting = [
        errors for errors in branches.values() if not any(e.validator == "type" and not e.relative_path for e in errors)
    ]
    if not fitting:
        yield tuple(error.absolute_path), "must be text or a mapping", ""
        return
    told = [[line for one in errors for line in _explain(one)] for errors in fitting]
    yield from min(told, key=len)


def _plain(rule: str, wanted: Any, value: Any, pattern: str) -> tuple[str, str]:
    shown = _show(value)
    if rule == "type":
        hint = "put it in quotes" if wanted == "string" and isinstance(value, bool | int | float) else ""
        hint = f"write {_PATTERNS[pattern]}" if pattern in _PATTERNS else hint
        return f"must be {_ARTICLES.get(wanted, wanted)}, not {shown}", hint
    if rule == "enum":
        return f"{shown} is not one of {', '.join(map(str, wanted))}", did_you_mean(
            str(value), [str(w) for w in wanted]
        )
    if rule == "pattern":
        return f"{shown} is not what belongs here", "write " + _PATTERNS.get(wanted, wanted)
    words = {
        "minimum": f"must be at least {wanted}",
        "maximum": f"must be at most {wanted}",
        "exclusiveMinimum": f"must be greater than {wanted}",
        "exclusiveMaximum": f"must be less than {wanted}",
        "minItems": f"must have at least {wanted} items",
        "maxItems": f"must have at most {wanted} items",
        "minProperties": "must not be empty",
        "maxProperties": f"must have at most {wanted} entries",
        "uniqueItems": "must not repeat an item",
        "minLength": "must not be empty",
        "maxLength": f"must have at most {wanted} characters",
    }
    return f"{words.get(rule, f'breaks the rule {rule}')}, not {shown}", ""


def _meaning(section: Any, key: str) -> str:
    return str(section.get("properties", {}).get(key, {}).get("description", "")).rstrip(".")


def _show(value: Any) -> str:
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    if value is None:
        return "nothing"
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return text if len(text) <= 40 else text[:37] + "..."
