"""YAML text to plain values, remembering where each value stood.

Plain scalars are read by YAML 1.2's core rules, so that `NO`, `on` and `12:30` stay text. Duplicate keys, tags of our
own making and numbers without a finite value are errors. Size, depth and node count are bounded:
aliases cannot explode.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import yaml

from millrace.definitions.errors import DefinitionError

MAX_CHARACTERS = 1_000_000
MAX_NODES = 50_000
MAX_DEPTH = 32

Path = tuple[str | int, ...]
Position = tuple[int, int]

_NULL = re.compile(r"~|null|Null|NULL|")
_TRUE = re.compile(r"true|True|TRUE")
_FALSE = re.compile(r"false|False|FALSE")
_INTEGER = re.compile(r"[-+]?[0-9]{1,18}")
_NUMBER = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_STANDARD_TAG = "tag:yaml.org,2002:"


@dataclass(slots=True)
class Document:
    """The values of one file, where they stood, and what could not be read."""

    file: str
    value: Any = None
    positions: dict[Path, Position] = field(default_factory=dict)
    errors: list[DefinitionError] = field(default_factory=list)

    def position(self, path: Path) -> Position:
        """(line, column) of the value at `path`, or of its nearest ancestor that was written."""
        while path and path not in self.positions:
            path = path[:-1]
        return self.positions.get(path, (1, 1))

    def add(self, path: Path, message: str, hint: str = "") -> None:
        """Records an error about the value at `path`."""
        line, column = self.position(path)
        self.errors.append(DefinitionError(self.file, line, dotted(path), message, hint, column))


def dotted(path: Path) -> str:
    """`features.plan@1.windows[0]`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def read(text: str, file: str) -> Document:
    """Reads `text`; never raises: errors are in the document."""
    document = Document(file)
    if len(text) > MAX_CHARACTERS:
        document.add((), f"the file has more than {MAX_CHARACTERS:,} characters")
        return document
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        message = f"not valid YAML: {error.problem or error.context}"
        document.errors.append(DefinitionError(file, line, "", message, "", column))
    except yaml.YAMLError as error:
        document.add((), "not valid YAML: " + " ".join(str(error).split()))
    except (RecursionError, ValueError, OverflowError) as error:
        document.add((), f"not readable as YAML: {type(error).__name__}: nested too deep or a character is broken")
    else:
        if node is None:
            document.add((), "the file is empty")
        else:
            document.value = _Reader(document).value(node, ())
    return document


class _Reader:
    def __init__(self, document: Document) -> None:
        self._document = document
        self._nodes = 0

    def value(self, node: yaml.Node, path: Path) -> Any:
        mark = node.start_mark
        self._document.positions.setdefault(path, (mark.line + 1, mark.column + 1))
        self._nodes += 1
        if self._nodes > MAX_NODES or len(path) > MAX_DEPTH:
            if self._nodes <= MAX_NODES + 1:
                self._document.add(path, f"too large: more than {MAX_NODES:,} values or {MAX_DEPTH} levels")
                self._nodes = MAX_NODES + 1
            return None
        if not node.tag.startswith(_STANDARD_TAG) or "python" in node.tag:
            self._document.add(path, f"the tag {node.tag} is not read here")
            return None
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, (*path, index)) for index, item in enumerate(node.value)]
        return self._scalar(node, path) if isinstance(node, yaml.ScalarNode) else None

    def _mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                self._document.add(path, "a key must be plain text")
                continue
            key = str(key_node.value)
            here = (*path, key)
            mark = key_node.start_mark
            if key in values:
                line, column = mark.line + 1, mark.column + 1
                first = self._document.position(here)[0]
                self._document.errors.append(
                    DefinitionError(
                        self._document.file,
                        line,
                        dotted(here),
                        f"{key} is written twice, first in line {first}",
                        "",
                        column,
                    )
                )
                continue
            self._document.positions[here] = (mark.line + 1, mark.column + 1)
            values[key] = self.value(value_node, here)
        return values

    def _scalar(self, node: yaml.ScalarNode, path: Path) -> Any:
        text = str(node.value)
        if node.style is not None:
            return text
        if _NULL.fullmatch(text):
            return None
        if _TRUE.fullmatch(text):
            return True
        if _FALSE.fullmatch(text):
            return False
        if _INTEGER.fullmatch(text):
            return int(text)
        if _NUMBER.fullmatch(text):
            number = float(text)
            if abs(number) < 1e300:
                return number
        elif not _NOT_FINITE.fullmatch(text):
            return text
        self._document.add(path, f"{text[:40]} is not a finite number of a usable size")
        return None
