"""The value that rooms hold: one parsed expression."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

from millrace.expressions.errors import ExpressionError
from millrace.expressions.parser import parse_tree
from millrace.expressions.rows import Evaluate, compile_rows
from millrace.expressions.tree import Among, Binary, Call, IsNull, Name, Node, Unary
from millrace.expressions.types import type_of

# Expressions come from definitions: few and long-lived. The bound only guards against a caller that makes them up.
_PARSED_KEPT = 1_024


class Expression:
    """One parsed expression; immutable, safe to share between threads."""

    __slots__ = ("_evaluate", "names", "text", "tree")

    def __init__(self, text: str, tree: Node) -> None:
        self.text = text
        self.tree = tree
        self.names: frozenset[str] = frozenset(_names(tree))
        self._evaluate: Evaluate = compile_rows(tree)

    def evaluate(self, row: Mapping[str, Any]) -> Any:
        """The value over one row (None: null; absent fields are null).

        Raises ExpressionError when a value has a type that the operation cannot work on.
        """
        try:
            return self._evaluate(row)
        except (TypeError, AttributeError, OverflowError) as error:
            raise ExpressionError(f"'{self.text}' cannot be evaluated: {error}") from error

    def evaluate_all(self, rows: Sequence[Mapping[str, Any]]) -> list[Any]:
        """The value over each row. Raises ExpressionError, as `evaluate`."""
        if isinstance(self.tree, Name):  # most aggregates are of a plain field
            name = self.tree.name
            return [row.get(name) for row in rows]
        evaluate = self._evaluate
        try:
            return [evaluate(row) for row in rows]
        except (TypeError, AttributeError, OverflowError) as error:
            raise ExpressionError(f"'{self.text}' cannot be evaluated: {error}") from error

    def is_true(self, row: Mapping[str, Any]) -> bool:
        """Whether the value over `row` is true; null is not."""
        return bool(self.evaluate(row))

    def type_of(self, types: Mapping[str, str]) -> str:
        """The type of the result: number, integer, string, boolean, timestamp or null.

        `types` gives each field's type by the same words. Raises ExpressionError with the column for an unknown
        field or an operation on types that it does not take.
        """
        return type_of(self.tree, types)

    def __repr__(self) -> str:
        return f"Expression({self.text!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Expression) and other.text == self.text

    def __hash__(self) -> int:
        return hash(self.text)

    def __reduce__(self) -> tuple[Any, ...]:
        return (parse, (self.text,))


def _names(node: Node) -> Iterator[str]:
    match node:
        case Name(name=name):
            yield name
        case Unary(operand=operand) | IsNull(operand=operand) | Among(operand=operand):
            yield from _names(operand)
        case Binary(left=left, right=right):
            yield from _names(left)
            yield from _names(right)
        case Call(arguments=arguments):
            for argument in arguments:
                yield from _names(argument)


@lru_cache(maxsize=_PARSED_KEPT)
def parse(text: str) -> Expression:
    """The expression that `text` says; raises ExpressionError with the column of what is wrong."""
    return Expression(text, parse_tree(text))
