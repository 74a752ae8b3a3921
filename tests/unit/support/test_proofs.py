"""What a proof leaves behind, and what is skipped because of it."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.support import proofs

pytest_plugins = ["pytester"]

SUITE = """
import pytest
pytestmark = pytest.mark.prove

def test_good(proof_figures):
    proof_figures["rate"] = 0.5

def test_bad(proof_figures):
    proof_figures["rate"] = 2.0
    assert False, "too many"
"""


def run(pytester: pytest.Pytester, file: Path, *, resume: bool) -> pytest.RunResult:
    plugin = proofs.Proofs(file, resume=resume, commit="abc")
    return pytester.inline_run("-m", "prove", plugins=[plugin])


def lines(file: Path) -> list[dict]:
    return [json.loads(text) for text in file.read_text().splitlines()]


def test_each_proof_leaves_a_line_and_what_passed_is_not_done_again(pytester, tmp_path):
    pytester.makeini("[pytest]\nmarkers = prove: long\nasyncio_default_fixture_loop_scope = function")
    pytester.makeconftest("from tests.support.proofs import proof_figures")
    pytester.makepyfile(SUITE)
    file = tmp_path / "proofs" / "day.jsonl"
    run(pytester, file, resume=False)
    good, bad = lines(file)
    assert (good["outcome"], good["figures"], good["commit"]) == ("passed", {"rate": 0.5}, "abc")
    assert (bad["outcome"], bad["figures"]) == ("failed", {"rate": 2.0})
    assert bad["why"].startswith("AssertionError: too many")

    again = run(pytester, file, resume=True)
    assert [len(found) for found in again.listoutcomes()] == [0, 1, 1]
    assert [line["node"] for line in lines(file)] == [good["node"], bad["node"], bad["node"]]

    run(pytester, file, resume=False)
    assert len(lines(file)) == 5


def test_the_newest_line_counts_and_a_torn_one_does_not(tmp_path):
    file = tmp_path / "day.jsonl"
    rows = [("a", "failed"), ("a", "passed"), ("b", "passed"), ("b", "failed")]
    file.write_text("".join(json.dumps({"node": n, "outcome": o}) + "\n" for n, o in rows) + '{"node": "c", "outc')
    assert proofs.passed_in(file) == {"a"}
    assert proofs.passed_in(tmp_path / "none") == set()


@pytest.mark.parametrize(("marks", "kept"), [("prove", True), ("not prove", False), ("", False), ("stack", False)])
def test_only_a_run_of_proofs_keeps_anything(marks, kept):
    registered = []

    class Manager:
        def register(self, plugin, name):
            registered.append((name, plugin.file.name))

    class Config:
        class option:
            markexpr, collectonly = marks, False

        pluginmanager = Manager()

    proofs.pytest_configure(Config)
    assert registered == ([("proofs", f"{datetime.now(UTC):%Y-%m-%d}.jsonl")] if kept else [])
