"""Static types of expressions, so that a project file is refused before any row meets it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from millrace.expressions.errors import ExpressionError
from millrace.expressions.functions import FUNCTIONS
from millrace.expressions.tree import Among, Binary, Call, IsNull, Literal, Name, Node, Unary

# A timestamp is a whole number of microseconds, so it takes part in arithmetic.
_NUMERIC = frozenset({"number", "integer", "timestamp", "null"})
_TAKES: dict[str, frozenset[str]] = {
    "number": _NUMERIC,
    "timestamp": frozenset({"timestamp", "integer", "null"}),
    "string": frozenset({"string", "null"}),
    "boolean": frozenset({"boolean", "null"}),
}


def type_of(node: Node, types: Mapping[str, str]) -> str:
    """Type of `node` over fields of `types`: number, integer, string, boolean, timestamp or null."""
    match node:
        case Literal(value=value):
            return _literal_type(value)
        case Name(name=name, column=column):
            if name not in types:
                raise ExpressionError(f"there is no field {name}; known: {', '.join(sorted(types))}", column)
            return types[name]
        case Unary(operator=sign, operand=operand):
            wanted = "boolean" if sign == "not" else "number"
            return _expect(type_of(operand, types), wanted, node, sign)
        case Binary():
            return _binary_type(node, types)
        case IsNull(operand=operand):
            type_of(operand, types)
            return "boolean"
        case Among(operand=operand, choices=choices):
            for choice in choices:
                _common([type_of(operand, types), _literal_type(choice)], node)
            return "boolean"
        case Call():
            return _call_type(node, types)


def _literal_type(value: Any) -> str:
    if value is None:
        return "null"
    return {bool: "boolean", int: "integer", float: "number", str: "string"}[type(value)]


def _expect(actual: str, wanted: str, node: Node, word: str) -> str:
    if actual not in _TAKES[wanted]:
        raise ExpressionError(f"{word} takes a {wanted}, not a {actual}", node.column)
    return actual


def _common(found: list[str], node: Node) -> str:
    """The one type that all of `found` share; numbers of different kinds meet in `number`."""
    kinds = {t for t in found if t != "null"}
    if len(kinds) <= 1:
        return next(iter(kinds), "null")
    if kinds <= {"integer", "timestamp"}:
        return "timestamp"
    if kinds <= _NUMERIC:
        return "number"
    raise ExpressionError(f"cannot mix {' and '.join(sorted(kinds))}", node.column)


def _binary_type(node: Binary, types: Mapping[str, str]) -> str:
    left, right = type_of(node.left, types), type_of(node.right, types)
    if node.operator in ("and", "or"):
        _expect(left, "boolean", node, node.operator)
        _expect(right, "boolean", node, node.operator)
        return "boolean"
    if node.operator in ("==", "!=", "<", "<=", ">", ">="):
        _common([left, right], node)
        return "boolean"
    _expect(left, "number", node, node.operator)
    _expect(right, "number", node, node.operator)
    if node.operator == "/":
        return "number"
    if node.operator == "-" and left == right == "timestamp":
        return "integer"
    return _common([left, right], node)


def _call_type(node: Call, types: Mapping[str, str]) -> str:
    function = FUNCTIONS[node.function]
    found = [type_of(argument, types) for argument in node.arguments]
    if node.function == "if":
        _expect(found[0], "boolean", node, "the condition of if()")
        return _common(found[1:], node)
    if node.function == "floor":
        _expect(found[0], "number", node, "floor()")
        return found[0] if len(found) == 2 and found[0] == "timestamp" else "integer"
    if function.takes != "any":
        for kind in found:
            _expect(kind, function.takes, node, f"{node.function}()")
    return _common(found, node) if function.returns == "same" else function.returns
