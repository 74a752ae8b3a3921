"""One text per definition: canonical JSON (sorted keys, no spaces, everything written out) and its sha256.

Defaults are written out on purpose: a later release of Millrace that changes a default does not change a project.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import types
import typing
from enum import Enum
from functools import cache
from typing import Any

from millrace.definitions.model import Project


def to_canonical_json(project: Project) -> str:
    """The canonical text."""
    return json.dumps(to_plain(project), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def from_canonical_json(text: str) -> Project:
    """The project of a canonical text; ValueError when it is none. Words of newer releases are skipped."""
    try:
        raw = json.loads(text)
        if not isinstance(raw, dict):
            raise TypeError("it is no object")
        project: Project = from_plain(Project, raw)
    except (TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ValueError(f"not a canonical definition: {error}") from error
    return project


def digest(project: Project) -> str:
    """`sha256:<hex>` of the canonical text."""
    return "sha256:" + hashlib.sha256(to_canonical_json(project).encode()).hexdigest()


def to_plain(value: Any) -> Any:
    """Dataclasses, tuples and enums as JSON has them."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, tuple):
        return [to_plain(item) for item in value]
    return value.value if isinstance(value, Enum) else value


@cache
def _hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def from_plain(kind: Any, value: Any) -> Any:
    """What `to_plain` made, as a value of the type `kind`; keys that it does not know are skipped."""
    if value is None:
        return None
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        hints = _hints(kind)
        return kind(**{name: from_plain(hints[name], item) for name, item in value.items() if name in hints})
    origin = typing.get_origin(kind)
    arguments = typing.get_args(kind)
    if origin is tuple:
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            return tuple(from_plain(arguments[0], item) for item in value)
        return tuple(from_plain(argument, item) for argument, item in zip(arguments, value, strict=True))
    if origin in (types.UnionType, typing.Union):
        return from_plain(next(a for a in arguments if a is not type(None)), value)
    return kind(value)
