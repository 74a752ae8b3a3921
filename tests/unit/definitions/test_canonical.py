"""The canonical text, the published schema, and what a change says."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest
import yaml
from millrace.definitions import (
    DefinitionErrors,
    changes,
    digest,
    from_canonical_json,
    json_schema,
    load_text,
    to_canonical_json,
)

ROOT = Path(__file__).parents[3]
TEXTS = {path.parent.name: path.read_text() for path in sorted((ROOT / "examples").glob("*/project.yaml"))}
TEXTS["parcels"] = (Path(__file__).parent / "parcels.yaml").read_text()


@pytest.mark.parametrize("name", TEXTS)
def test_canonical_json_round_trips(name):
    project = load_text(TEXTS[name])
    text = to_canonical_json(project)
    assert from_canonical_json(text) == project
    assert to_canonical_json(from_canonical_json(text)) == text


def test_the_digest_does_not_depend_on_layout():
    text = TEXTS["parcels"]
    assert digest(load_text("# a comment\n" + text.replace("margin: 0.0", "margin: 0"))) == digest(load_text(text))
    assert digest(load_text(text.replace("cooldown: 5d", "cooldown: 6d"))) != digest(load_text(text))


def test_words_of_newer_releases_are_skipped_and_missing_ones_get_defaults():
    project = load_text(TEXTS["parcels"])
    raw = json.loads(to_canonical_json(project))
    raw["training"]["tomorrow"] = 1
    del raw["training"]["min_rows"]
    read = from_canonical_json(json.dumps(raw))
    assert read == replace(project, training=replace(project.training, min_rows=200))


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", '{"name": 3}', '{"sources": 1}'])
def test_nonsense_is_a_value_error(text):
    with pytest.raises(ValueError, match=r".*"):
        from_canonical_json(text)


def test_the_published_schema_is_the_one_in_use():
    published = json.loads((ROOT / "docs" / "project.schema.json").read_text())
    assert published == json_schema(), "run: python -m millrace.definitions > docs/project.schema.json"
    jsonschema.Draft202012Validator.check_schema(published)


@pytest.mark.parametrize("name", TEXTS)
def test_any_validator_accepts_the_examples(name):
    jsonschema.validate(yaml.safe_load(TEXTS[name]), json_schema())


def test_the_script_checks_files(tmp_path):
    bad = tmp_path / "bad.yaml"
    bad.write_text("project: x\n")
    done = subprocess.run(
        [sys.executable, "-m", "millrace.definitions", bad], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert f"{bad}:1: sources is missing" in done.stderr and "gate is missing" in done.stderr


def test_equal_definitions_have_no_changes():
    project = load_text(TEXTS["parcels"])
    assert changes(project, project) == []


def test_a_new_project_is_told_in_full():
    lines = changes(None, load_text(TEXTS["parcels"]))
    assert lines[0] == "project parcels is new"
    assert "view origin_weather@1 is new: filled from its source's history" in lines


def test_what_is_recomputed_and_which_models_are_touched():
    old = load_text(TEXTS["parcels"])
    text = (
        TEXTS["parcels"]
        .replace("origin_weather@1", "origin_weather@2")
        .replace("visibility, pressure]", "visibility]")
        .replace("horizon: 12h", "horizon: 13h")
    )
    assert changes(old, load_text(text)) == [
        "view origin_weather@2 is new: backfilled beside the old one from history",
        "view origin_weather@1 is gone: it lives until no loadable model needs it",
        "label changed: new truth from now on; model late-delivery is touched",
        "model late-delivery has other inputs (-origin_weather.pressure): the next run trains on them",
    ]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("ttl: 7d", "ttl: 8d", "name the changed view plan@2"),
        ("distance: {type: number, required: true, range", "distance: {type: integer, required: true, range", "plan@2"),
        ("clock: replay", "clock: wall", "the clock is replay and cannot change (make a new project)"),
    ],
)
def test_what_may_not_be_changed_is_refused(old, new, message):
    before = load_text(TEXTS["parcels"])
    changed = TEXTS["parcels"].replace(old, new, 1)
    assert changed != TEXTS["parcels"]
    load_text(changed)
    with pytest.raises(DefinitionErrors) as caught:
        load_text(changed, "p.yaml", [before])
    assert message in str(caught.value)
