"""Evaluation over one row: the tree becomes nested closures once, so that a row costs no dispatch."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from typing import Any

from millrace.expressions.functions import FUNCTIONS
from millrace.expressions.tree import Among, Binary, Call, IsNull, Literal, Name, Node, Unary

Row = Mapping[str, Any]
Evaluate = Callable[[Row], Any]


def _divide(left: float, right: float) -> float | None:
    return left / right if right else None


def _modulo(left: float, right: float) -> float | None:
    return left % right if right else None


_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": _divide,
    "%": _modulo,
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def compile_rows(node: Node) -> Evaluate:
    """A function of a row for `node`; absent fields are null."""
    match node:
        case Literal(value=value):
            return lambda row: value
        case Name(name=name):
            return lambda row: row.get(name)
        case Unary(operator=sign, operand=operand):
            return _unary(sign, compile_rows(operand))
        case Binary(operator="and", left=left, right=right):
            return _and(compile_rows(left), compile_rows(right))
        case Binary(operator="or", left=left, right=right):
            return _or(compile_rows(left), compile_rows(right))
        case Binary(operator=sign, left=left, right=right):
            return _binary(_OPERATORS[sign], compile_rows(left), compile_rows(right))
        case IsNull(operand=operand, negated=negated):
            return _is_null(compile_rows(operand), negated)
        case Among(operand=operand, choices=choices, negated=negated):
            return _among(compile_rows(operand), choices, negated)
        case Call(function=name, arguments=arguments):
            return _call(name, [compile_rows(a) for a in arguments])


def _unary(sign: str, operand: Evaluate) -> Evaluate:
    apply = operator.not_ if sign == "not" else operator.neg

    def evaluate(row: Row) -> Any:
        value = operand(row)
        return None if value is None else apply(value)

    return evaluate


def _binary(apply: Callable[[Any, Any], Any], left: Evaluate, right: Evaluate) -> Evaluate:
    def evaluate(row: Row) -> Any:
        one = left(row)
        if one is None:
            return None
        other = right(row)
        if other is None:
            return None
        result = apply(one, other)
        return result if type(result) is not float or math.isfinite(result) else None

    return evaluate


def _and(left: Evaluate, right: Evaluate) -> Evaluate:
    def evaluate(row: Row) -> Any:
        one = left(row)
        if one is not None and not one:
            return False
        other = right(row)
        if other is not None and not other:
            return False
        return None if one is None or other is None else True

    return evaluate


def _or(left: Evaluate, right: Evaluate) -> Evaluate:
    def evaluate(row: Row) -> Any:
        one = left(row)
        if one:
            return True
        other = right(row)
        if other:
            return True
        return None if one is None or other is None else False

    return evaluate


def _is_null(operand: Evaluate, negated: bool) -> Evaluate:
    return (lambda row: operand(row) is not None) if negated else (lambda row: operand(row) is None)


def _among(operand: Evaluate, choices: tuple[Any, ...], negated: bool) -> Evaluate:
    members = frozenset(choices)

    def evaluate(row: Row) -> Any:
        value = operand(row)
        return None if value is None else (value in members) is not negated

    return evaluate


def _call(name: str, arguments: list[Evaluate]) -> Evaluate:
    if name == "if":
        condition, yes, no = arguments
        return lambda row: yes(row) if condition(row) else no(row)
    if name == "coalesce":
        return lambda row: next((v for v in (a(row) for a in arguments) if v is not None), None)
    function = FUNCTIONS[name].call
    assert function is not None

    def evaluate(row: Row) -> Any:
        values = [argument(row) for argument in arguments]
        return None if None in values else function(*values)

    return evaluate
