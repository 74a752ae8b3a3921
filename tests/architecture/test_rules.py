"""The rules of the house, as tests: imports, floor plan, topics, generated code, vocabulary."""

import ast
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("ingestion", "labeling", "feature_store", "trainer", "registry", "inference", "monitor")
FLOOR_PLAN = {
    "README.md", "__init__.py", "__main__.py", "settings.py", "bootstrap.py", "domain", "domain.py", "handlers", "handlers.py",
    "ports.py", "errors.py", "adapters", "entrypoints",
}  # fmt: skip
NEEDED = ("README.md", "__main__.py", "settings.py", "bootstrap.py", "ports.py", "errors.py", "adapters", "entrypoints")

SUBJECT_FOLDERS = ("docs/proofs/", "examples/flights/", "tests/unit/examples/demo/")
"""The example, and the tests of its demonstration."""
SUBJECT_FILES = {
    # They present the example, install its data or tell what was measured with it.
    "README.md", "CHANGELOG.md", "Makefile", "requirements/dev.in", "requirements/dev.txt",
    "docs/decisions/0002-prediction-moment.md", "docs/decisions/0003-packed-rows-per-partition.md",
    "docs/decisions/0006-sinks-that-gather.md", "tests/e2e/test_flights_consistency.py", "tests/unit/examples/test_flights.py", "tests/architecture/test_rules.py",
}  # fmt: skip


def tracked(*patterns: str) -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", *patterns],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return [ROOT / name for name in listed.stdout.split() if (ROOT / name).exists()]


def code() -> list[Path]:
    return [p for p in tracked("*.py") if "wire" not in p.parts]


def run_tool(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [Path(sys.executable).parent / command[0], *command[1:]], cwd=ROOT, capture_output=True, text=True
    )


def test_import_rules_hold():
    ran = run_tool("lint-imports")
    assert ran.returncode == 0, ran.stdout


@pytest.mark.parametrize("command", [("check", "."), ("format", "--check", ".")], ids=" ".join)
def test_the_code_keeps_its_style(command):
    ran = run_tool("ruff", *command)
    assert ran.returncode == 0, ran.stdout[-3000:]


def test_types_hold():
    """On what `make lint` covers. Half a minute of CPU without mypy's cache, some seconds with it."""
    (typed,) = re.findall(r"^TYPED := (.+)$", (ROOT / "Makefile").read_text(), re.M)
    ran = run_tool("mypy", *typed.split())
    assert ran.returncode == 0, ran.stdout[-3000:] + ran.stderr


def test_types_are_strict_but_for_named_modules():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["mypy"]
    assert settings["strict"] is True
    modules = [entry["module"] for entry in settings["overrides"]]
    named = {name for entry in modules for name in ([entry] if isinstance(entry, str) else entry)}
    assert {name for name in named if "*" in name} == {"millrace.wire.*", "examples.*"}


def test_every_target_of_the_makefile_has_a_rule():
    text = (ROOT / "Makefile").read_text()
    (phony,) = re.findall(r"^\.PHONY: (.+)$", text, re.M)
    assert set(phony.split()) == set(re.findall(r"^([a-z-]+):(?!=)", text, re.M))


def test_proofs_speak_of_tests_that_are_there():
    stale = []
    for file in (ROOT / "docs" / "proofs").glob("*.jsonl"):
        for node in (json.loads(line)["node"] for line in file.read_text().splitlines()):
            path, *names = node.partition("[")[0].split("::")
            source = (ROOT / path).read_text() if (ROOT / path).is_file() else ""
            if not all(re.search(rf"\b{name}\b", source) for name in names if name != "runTest"):
                stale.append(node)
    assert not stale


@pytest.mark.parametrize("script", ["generate_wire.py", "generate_oip.py"])
def test_generated_code_is_what_protoc_makes(script):
    ran = subprocess.run([sys.executable, f"scripts/{script}", "--check"], cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_keeps_the_floor_plan(room):
    folder = ROOT / "services" / room
    present = {p.name for p in folder.iterdir() if p.name != "__pycache__"}
    assert not present - FLOOR_PLAN, f"not in the floor plan: {sorted(present - FLOOR_PLAN)}"
    assert not [name for name in NEEDED if name not in present]
    assert {"domain", "domain.py"} & present
    assert {"handlers", "handlers.py"} & present


@pytest.mark.parametrize("room", ROOMS)
def test_a_contract_card_says_what_strangers_need(room):
    card = (ROOT / "services" / room / "README.md").read_text().lower()
    assert not [word for word in ("consumes", "produces", "serves", "owns", "fails") if word not in card]


@pytest.mark.parametrize("room", ROOMS)
def test_handlers_end_with_their_table(room):
    folder = ROOT / "services" / room
    source = (folder / "handlers.py") if (folder / "handlers.py").exists() else (folder / "handlers" / "__init__.py")
    last = ast.parse(source.read_text()).body[-1]
    targets = [last.target] if isinstance(last, ast.AnnAssign) else getattr(last, "targets", [])
    assert [t.id for t in targets if isinstance(t, ast.Name)] == ["HANDLERS"], "handlers end with the HANDLERS table"


def test_nothing_outside_an_example_knows_its_subject():
    subject = re.compile(r"flight|airline|airport|nycflights|tail_?num|departure_delay|arrival_delay", re.I)
    # "in flight" is how requests are spoken of everywhere.
    harmless = re.compile(r"(in|single)[-_ ]?flight|preflight|apache.arrow.flight", re.I)
    found = {}
    for path in tracked():
        name = path.relative_to(ROOT).as_posix()
        if path.suffix == ".png" or name.startswith(SUBJECT_FOLDERS):
            continue
        if met := subject.search(harmless.sub("", path.read_text())):
            found[name] = met.group(0)
    assert not {name: word for name, word in found.items() if name not in SUBJECT_FILES}
    assert not SUBJECT_FILES - set(found), "these need no exemption"


def test_functions_and_files_stay_short():
    long_functions, long_files = [], []
    for path in code():
        text = path.read_text()
        if text.count("\n") > 500:
            long_files.append(path.name)
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno - node.lineno >= 70:
                long_functions.append(f"{path.relative_to(ROOT)}:{node.lineno} {node.name}")
    assert not long_functions
    assert not long_files


def test_nobody_sleeps_to_wait():
    """A sleep of a whole second or a blocking sleep is a wait for luck; pollers use short steps and a deadline.

    A test waits by tests/support/poll.py alone, which has the deadline; `asyncio.sleep(0)` lets others run.
    """
    in_tests = re.compile(r"\b(?:time|asyncio|anyio|trio)\.sleep\((?!0\))|from (?:time|asyncio) import [^\n]*\bsleep\b")
    elsewhere = re.compile(r"time\.sleep\(|asyncio\.sleep\([1-9]")
    guilty = []
    for path in code():
        name = path.relative_to(ROOT).as_posix()
        pattern = in_tests if name.startswith("tests/") else elsewhere
        if name not in ("tests/architecture/test_rules.py", "tests/support/poll.py") and pattern.search(
            path.read_text()
        ):
            guilty.append(name)
    assert not guilty
    seen = (
        "await asyncio.sleep(0.05)",
        "time.sleep(1)",
        "from time import monotonic, sleep",
        "await asyncio.sleep(pause_s)",
    )
    assert all(in_tests.search(line) for line in seen)
    assert not in_tests.search("await asyncio.sleep(0)")


def test_nothing_is_unpickled():
    pattern = re.compile(r"\bpickle\.loads?\b|torch\.load\(|joblib\.load\(|(?<![.\w\"'`])eval\(")
    guilty = [str(p.relative_to(ROOT)) for p in code() if "tests" not in p.parts and pattern.search(p.read_text())]
    assert not guilty


def test_no_registry_address_and_no_machine_path_is_recorded():
    address = re.compile(r"--index-url|--find-links|files\.pythonhosted|repo1?\.maven|/wor[k]/|/roo[t]/|/hom[e]/\w+/")
    guilty = []
    for path in tracked():
        if path.suffix in {".png", ".binpb"} or path.name == "test_rules.py":
            continue
        if match := address.search(path.read_text(errors="ignore")):
            guilty.append(f"{path.relative_to(ROOT)}: {match.group(0)}")
    assert not guilty


def test_every_setting_says_why():
    import importlib

    for room in ROOMS:
        module = importlib.import_module(f"services.{room}.settings")
        silent = [name for name, field in module.Settings.model_fields.items() if not field.description]
        assert not silent, f"{room}: {silent}"
