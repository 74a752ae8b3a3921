"""Keeps what `pytest -m prove` finds: one JSON line a proof, written as it ends; what passed today can be skipped."""

import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDER = Path("docs") / "proofs"
RESUME = "MILLRACE_PROVE_RESUME"
_FIGURES = pytest.StashKey[dict[str, Any]]()
_PHASES = pytest.StashKey[list[pytest.TestReport]]()
_RESUMED = pytest.StashKey[bool]()


@pytest.fixture
def proof_figures(request: pytest.FixtureRequest) -> dict[str, Any]:
    """What a proof measured, by name; kept with its outcome. Values are whatever JSON has."""
    return request.node.stash.setdefault(_FIGURES, {})


def pytest_configure(config: pytest.Config) -> None:
    """Only `-m prove` keeps results: a test run with other marks leaves the folder alone."""
    if config.option.markexpr.strip() == "prove" and not config.option.collectonly:
        file = ROOT / FOLDER / f"{datetime.now(UTC):%Y-%m-%d}.jsonl"
        config.pluginmanager.register(Proofs(file, resume=os.environ.get(RESUME) == "1", commit=_commit()), "proofs")


class Proofs:
    """Writes `file`, and with `resume` skips what has passed in it."""

    def __init__(self, file: Path, *, resume: bool, commit: str = "") -> None:
        self.file = file
        self._commit = commit
        self._passed = passed_in(file) if resume else set()

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Skips what passed today, with the reason."""
        for item in items:
            if item.nodeid in self._passed:
                item.stash[_RESUMED] = True
                item.add_marker(pytest.mark.skip(reason=f"passed already, see {FOLDER / self.file.name}"))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Iterator[None]:
        """Gathers the three phases of a proof; the last one ends it."""
        report: pytest.TestReport = yield  # type: ignore[misc]
        phases = item.stash.setdefault(_PHASES, [])
        phases.append(report)
        if report.when == "teardown" and not item.stash.get(_RESUMED, False):
            self._write(line_of(item.nodeid, phases, item.stash.get(_FIGURES, {}), self._commit))
        return report  # type: ignore[return-value]

    def _write(self, line: Mapping[str, Any]) -> None:
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with self.file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, default=str) + "\n")


def line_of(node: str, phases: list[pytest.TestReport], figures: Mapping[str, Any], commit: str = "") -> dict[str, Any]:
    """One proof's line. `seconds` is its own time, without that of the fixtures it shares."""
    outcomes = {phase.outcome for phase in phases}
    outcome = next((worst for worst in ("failed", "skipped") if worst in outcomes), "passed")
    line: dict[str, Any] = {
        "node": node,
        "outcome": outcome,
        "seconds": round(sum(phase.duration for phase in phases if phase.when == "call"), 3),
        "ended": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
        "commit": commit,
        "figures": dict(figures),
    }
    if outcome == "failed":
        line["why"] = _reason(next(phase for phase in phases if phase.failed))
    return line


def _reason(report: pytest.TestReport) -> str:
    """The error's message in one line."""
    crash = getattr(report.longrepr, "reprcrash", None)
    return " ".join((crash.message if crash else report.longreprtext).split())[:300]


def passed_in(file: Path) -> set[str]:
    """Node ids whose newest line in `file` says passed. A line cut off by a kill counts for nothing."""
    newest: dict[str, str] = {}
    for text in file.read_text(encoding="utf-8").splitlines() if file.exists() else ():
        try:
            line = json.loads(text)
        except ValueError:
            continue
        newest[line["node"]] = line["outcome"]
    return {node for node, outcome in newest.items() if outcome == "passed"}


def _commit() -> str:
    """The commit that is proved, with a plus when files differ from it; empty outside a repository."""

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()

    head = git("rev-parse", "--short=12", "HEAD")
    return f"{head}+" if head and git("status", "--porcelain", "--", ".", f":!{FOLDER}") else head
