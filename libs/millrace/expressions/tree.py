"""The syntax tree. `column` counts characters from 1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Literal:
    """A number, a string, a boolean or null (None)."""

    value: Any
    column: int = 0


@dataclass(frozen=True, slots=True)
class Name:
    """A field of the row."""

    name: str
    column: int = 0


@dataclass(frozen=True, slots=True)
class Unary:
    """`-x` or `not x`."""

    operator: str
    operand: Node
    column: int = 0


@dataclass(frozen=True, slots=True)
class Binary:
    """Arithmetic `+ - * / %`, a comparison, `and` or `or`."""

    operator: str
    left: Node
    right: Node
    column: int = 0


@dataclass(frozen=True, slots=True)
class IsNull:
    """`x == null` (or `x != null` when negated); never null itself."""

    operand: Node
    negated: bool
    column: int = 0


@dataclass(frozen=True, slots=True)
class Among:
    """`x in (…)` over literals (or `not in` when negated)."""

    operand: Node
    choices: tuple[Any, ...]
    negated: bool
    column: int = 0


@dataclass(frozen=True, slots=True)
class Call:
    """A function of `millrace.expressions.functions`."""

    function: str
    arguments: tuple[Node, ...]
    column: int = 0


Node = Literal | Name | Unary | Binary | IsNull | Among | Call
