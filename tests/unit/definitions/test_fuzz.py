"""Whatever is thrown at it: `load_text` answers with a project or with DefinitionErrors, and nothing else."""

from __future__ import annotations

import contextlib
import copy
import json
import random
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from millrace.definitions import DefinitionErrors, digest, from_canonical_json, load_text, to_canonical_json

from tests.unit.definitions.test_load import PARCELS, SMALL

DOCUMENT = yaml.safe_load(SMALL)
VALUES: list[Any] = [
    None, True, 0, -1, 5, 0.5, 1e999, float("nan"), "", " ", "1h", "0s", "plan.place", "plan", "mean(value)",
    "a" * 2000, "9" * 9 + "d", "value > ((", "-" * 900 + "1", "not " * 200 + "flag", "(" * 300, "binary",
    "canary", "default", "plan@1", "x@0", "\ud7ff\x85é",
    [], {}, [[]], [None], {"": None}, {"a": {"b": [1]}}, [1, "x", {"y": "z"}],
]  # fmt: skip


def load(text: str) -> None:
    with contextlib.suppress(DefinitionErrors):
        project = load_text(text)
        assert from_canonical_json(to_canonical_json(project)) == project
        assert digest(project).startswith("sha256:")


@given(st.text(max_size=300))
@settings(max_examples=50, deadline=None)
def test_any_text(text):
    load(text)


@pytest.mark.parametrize("seed", range(30))
def test_any_edit_of_a_good_file(seed):
    chance = random.Random(seed)
    text = chance.choice([SMALL, SMALL, PARCELS])
    for _ in range(chance.randint(1, 6)):
        at = chance.randrange(len(text))
        cut = chance.choice([0, 1, 3, 20])
        text = text[:at] + chance.choice(["", " ", ":", "{", "]", "@", "\n", "'", "9", "null", "-"]) + text[at + cut :]
    load(text)


def places(node: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) of a document."""
    keys = list(node) if isinstance(node, dict) else list(range(len(node))) if isinstance(node, list) else []
    return [(node, key) for key in keys] + [place for key in keys for place in places(node[key])]


@pytest.mark.parametrize("seed", range(120))
def test_any_value_in_any_place(seed):
    chance = random.Random(seed)
    document = copy.deepcopy(DOCUMENT)
    for _ in range(chance.randint(1, 3)):
        found = places(document)
        if not found:
            break
        container, key = chance.choice(found)
        if chance.random() < 0.2:
            del container[key]
        elif isinstance(container, dict) and chance.random() < 0.2:
            container[str(chance.choice(VALUES))] = container.pop(key)
        else:
            container[key] = chance.choice(VALUES)
    # JSON is YAML, and is written and read faster.
    load(json.dumps(document) if chance.random() < 0.8 else yaml.safe_dump(document))
