"""The snippets of README.md compile, and what they import and call exists with those arguments."""

import ast
import importlib
import inspect
import re
from pathlib import Path
from typing import Any

import pytest

README = Path(__file__).parents[3] / "README.md"
SNIPPETS = re.findall(r"```python\n(.*?)```", README.read_text(), re.S)


def imported(tree: ast.Module) -> dict[str, Any]:
    """Local name to what it is; fails when a module lacks it."""
    names: dict[str, Any] = {}
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.module:
            module = importlib.import_module(node.module)
            names |= {alias.asname or alias.name: getattr(module, alias.name) for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {alias.asname or alias.name: importlib.import_module(alias.name) for alias in node.names}
    return names


def instances(tree: ast.Module, names: dict[str, Any]) -> dict[str, type]:
    """Names that `async with` gives to an instance of an imported class."""
    found: dict[str, type] = {}
    for item in (item for node in ast.walk(tree) if isinstance(node, ast.AsyncWith) for item in node.items):
        call, target = item.context_expr, item.optional_vars
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and isinstance(target, ast.Name):
            found[target.id] = names[call.func.id]
    return found


def bind(function: Any, call: ast.Call, *before: object) -> None:
    keywords = {keyword.arg: keyword.value for keyword in call.keywords if keyword.arg}
    inspect.signature(function).bind(*before, *call.args, **keywords)


def check(call: ast.Call, names: dict[str, Any], made: dict[str, type]) -> bool:
    """Whether the call is of something known here; TypeError when its arguments do not fit."""
    function = call.func
    if isinstance(function, ast.Name) and function.id in names:
        bind(names[function.id], call)
    elif isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name) and function.value.id in made:
        bind(getattr(made[function.value.id], function.attr), call, None)
    elif isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name) and function.value.id in names:
        bind(getattr(names[function.value.id], function.attr), call)
    elif isinstance(function, ast.Attribute) and isinstance(function.value, ast.Call):
        owner = function.value.func  # Class.make(...).method(...)
        if isinstance(owner, ast.Attribute) and isinstance(owner.value, ast.Name) and owner.value.id in names:
            bind(getattr(names[owner.value.id], function.attr), call, None)
    else:
        return False
    return True


def test_there_are_four() -> None:
    assert len(SNIPPETS) == 4


@pytest.mark.parametrize("snippet", SNIPPETS)
def test_a_snippet_says_what_exists(snippet: str) -> None:
    compile(snippet, "README.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    tree = ast.parse(snippet)
    names = imported(tree)
    made = instances(tree, names)
    checked = [check(node, names, made) for node in ast.walk(tree) if isinstance(node, ast.Call)]
    assert sum(checked) >= 2


def test_a_wrong_argument_is_noticed() -> None:
    tree = ast.parse("from millrace.client.producer import Producer\nProducer('a', 'b', batch=3)")
    (call,) = (node for node in ast.walk(tree) if isinstance(node, ast.Call))
    with pytest.raises(TypeError, match="batch"):
        check(call, imported(tree), {})


def test_no_snippet_knows_a_port() -> None:
    assert not [snippet for snippet in SNIPPETS if re.search(r":\d{4,5}\"", snippet)]
