"""Text to syntax tree. Python's own parser reads the text; what it returns is translated, name by name, or refused."""

from __future__ import annotations

import ast
import re
from typing import Any

from millrace.expressions.durations import parse_duration
from millrace.expressions.errors import ExpressionError
from millrace.expressions.functions import FUNCTIONS
from millrace.expressions.tree import Among, Binary, Call, IsNull, Literal, Name, Node, Unary

# Longer texts are programs, and Python's parser uses stack per nesting level.
MOST_CHARACTERS = 1_000
# Far below Python's recursion limit, wherever the tree is walked.
MOST_LEVELS = 100
_CONSTANTS: dict[str, Any] = {"null": None, "true": True, "false": False, "None": None, "True": True, "False": False}
_ARITHMETIC: dict[type[ast.operator], str] = {
    ast.Add: "+",
    ast.Sub: "-",
    ast.Mult: "*",
    ast.Div: "/",
    ast.Mod: "%",
}
_COMPARISONS: dict[type[ast.cmpop], str] = {
    ast.Eq: "==",
    ast.NotEq: "!=",
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
}
# `if` is a keyword to Python: outside of strings it is read in capitals, which keeps every column where it was.
_IF_OR_STRING = re.compile(r"""'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*"|\bif\b(?=\s*\()""")
_IF = "IF"


def parse_tree(text: str) -> Node:
    """The syntax tree of `text`; raises ExpressionError with the column."""
    if not text.strip():
        raise ExpressionError("the expression is empty", 1)
    if len(text) > MOST_CHARACTERS:
        raise ExpressionError(f"the expression is longer than {MOST_CHARACTERS} characters", MOST_CHARACTERS)
    indent = len(text) - len(text.lstrip())
    source = _IF_OR_STRING.sub(lambda m: _IF if m.group() == "if" else m.group(), text.strip())
    if "\n" in source or "\r" in source:
        source = source.replace("\r", " ").replace("\n", " ")
    try:
        body = ast.parse(source, mode="eval").body
        return _Translation(indent).node(body)
    except SyntaxError as error:
        raise ExpressionError(f"cannot be read: {error.msg}", (error.offset or 0) + indent) from None
    except (RecursionError, MemoryError, ValueError) as error:
        if isinstance(error, ExpressionError):
            raise
        raise ExpressionError("cannot be read: too deeply nested or not text", 1) from None


class _Translation:
    """Python's tree to ours; `indent` characters were cut off before the text."""

    def __init__(self, indent: int) -> None:
        self._indent = indent
        self._level = 0

    def node(self, node: ast.expr) -> Node:
        """Translate one node; anything that the grammar lacks is refused by name."""
        if self._level == MOST_LEVELS:
            raise self._refused(node, f"more than {MOST_LEVELS} operations are nested here")
        self._level += 1
        translated = self._translate(node)
        self._level -= 1
        return translated

    def _translate(self, node: ast.expr) -> Node:
        match node:
            case ast.Constant():
                return self._literal(node)
            case ast.Name():
                return self._name(node)
            case ast.UnaryOp():
                return self._unary(node)
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _ARITHMETIC:
                return Binary(_ARITHMETIC[type(op)], self.node(left), self.node(right), self._column(node))
            case ast.BoolOp(op=op, values=values):
                word = "and" if isinstance(op, ast.And) else "or"
                return self._joined(word, [self.node(v) for v in values], self._column(node))
            case ast.Compare():
                return self._comparison(node)
            case ast.Call():
                return self._call(node)
            case _:
                raise self._refused(node, f"{type(node).__name__} is not part of the expression language")

    def _column(self, node: ast.expr) -> int:
        return node.col_offset + 1 + self._indent

    def _refused(self, node: ast.expr, message: str) -> ExpressionError:
        return ExpressionError(message, self._column(node))

    def _literal(self, node: ast.Constant) -> Node:
        if node.value is not None and not isinstance(node.value, (bool, int, float, str)):
            raise self._refused(node, f"a literal of type {type(node.value).__name__} is not allowed")
        if isinstance(node.value, int) and abs(node.value) >= 2**63:
            raise self._refused(node, "an integer must fit into 64 bits")
        return Literal(node.value, self._column(node))

    def _name(self, node: ast.Name) -> Node:
        if node.id in _CONSTANTS:
            return Literal(_CONSTANTS[node.id], self._column(node))
        return Name(node.id, self._column(node))

    def _unary(self, node: ast.UnaryOp) -> Node:
        operand = self.node(node.operand)
        if isinstance(node.op, ast.Not):
            return Unary("not", operand, self._column(node))
        if isinstance(node.op, ast.USub):
            if isinstance(operand, Literal) and type(operand.value) in (int, float):
                return Literal(-operand.value, self._column(node))
            return Unary("-", operand, self._column(node))
        if isinstance(node.op, ast.UAdd):
            return operand
        raise self._refused(node, "~ is not part of the expression language")

    def _joined(self, word: str, parts: list[Node], column: int) -> Node:
        joined = parts[0]
        for part in parts[1:]:
            joined = Binary(word, joined, part, column)
        return joined

    def _comparison(self, node: ast.Compare) -> Node:
        """`a < b < c` means `a < b and b < c`."""
        operands = [node.left, *node.comparators]
        parts = [self._pair(operands[i], op, operands[i + 1], self._column(node)) for i, op in enumerate(node.ops)]
        return self._joined("and", parts, self._column(node))

    def _pair(self, left: ast.expr, op: ast.cmpop, right: ast.expr, column: int) -> Node:
        if isinstance(op, (ast.In, ast.NotIn)):
            return Among(self.node(left), self._choices(right), isinstance(op, ast.NotIn), column)
        one, other = self.node(left), self.node(right)
        nulls = [isinstance(n, Literal) and n.value is None for n in (one, other)]
        if isinstance(op, (ast.Is, ast.IsNot)) or any(nulls):
            if not any(nulls) or not isinstance(op, (ast.Is, ast.IsNot, ast.Eq, ast.NotEq)):
                raise ExpressionError("only == and != compare with null", column)
            return IsNull(other if nulls[0] else one, isinstance(op, (ast.NotEq, ast.IsNot)), column)
        return Binary(_COMPARISONS[type(op)], one, other, column)

    def _choices(self, node: ast.expr) -> tuple[Any, ...]:
        items = node.elts if isinstance(node, (ast.Tuple, ast.List, ast.Set)) else [node]
        choices = [self.node(item) for item in items]
        values = tuple(c.value for c in choices if isinstance(c, Literal) and c.value is not None)
        if len(values) != len(choices) or not values:
            raise self._refused(node, "`in` needs a list of literals that are not null")
        return values

    def _call(self, node: ast.Call) -> Node:
        if not isinstance(node.func, ast.Name) or node.keywords:
            raise self._refused(node, "only plain calls of the built-in functions are allowed")
        name = "if" if node.func.id == _IF else node.func.id
        function = FUNCTIONS.get(name)
        if function is None:
            raise self._refused(node, f"there is no function {name}(); known: {', '.join(sorted(FUNCTIONS))}")
        if not function.least <= len(node.args) <= function.most:
            wanted = str(function.least) if function.least == function.most else f"{function.least} to {function.most}"
            raise self._refused(node, f"{name}() takes {wanted} arguments, not {len(node.args)}")
        arguments = [self.node(argument) for argument in node.args]
        if name == "floor" and len(arguments) == 2:
            arguments[1] = self._duration(node.args[1], arguments[1])
        return Call(name, tuple(arguments), self._column(node))

    def _duration(self, node: ast.expr, argument: Node) -> Literal:
        if not isinstance(argument, Literal) or not isinstance(argument.value, str):
            raise self._refused(node, "floor() takes its unit as a text such as '30m'")
        try:
            unit_us = parse_duration(argument.value)
        except ExpressionError as error:
            raise ExpressionError(error.message, argument.column) from None
        if unit_us == 0:
            raise self._refused(node, "floor() needs a unit above zero")
        return Literal(unit_us, argument.column)
