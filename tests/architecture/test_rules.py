"""The rules of the house, as tests: imports, floor plan, topics, generated code, vocabulary."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("ingestion", "labeling", "feature_store", "trainer", "registry", "inference", "monitor")
FLOOR_PLAN = {
    "README.md", "__init__.py", "__main__.py", "settings.py", "bootstrap.py", "domain", "domain.py", "handlers", "handlers.py",
    "ports.py", "errors.py", "adapters", "entrypoints",
}  # fmt: skip
NEEDED = ("README.md", "__main__.py", "settings.py", "bootstrap.py", "ports.py", "errors.py", "adapters", "entrypoints")


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


def test_import_rules_hold():
    ran = subprocess.run([Path(sys.executable).parent / "lint-imports"], cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout


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
    allowed = ("examples/flights", "docs", "README.md", "CHANGELOG.md", "ARCHITECTURE.md", "Makefile", "requirements", "tests/e2e",
               "tests/architecture", "tests/unit/examples", "bench")  # fmt: skip
    found = []
    for path in tracked("*.py", "*.proto", "*.yaml", "*.yml", "*.html", "*.sql", "*.json", "*.toml"):
        name = path.relative_to(ROOT).as_posix()
        if not name.startswith(allowed):
            # "in flight" is how requests are spoken of everywhere.
            text = re.sub(
                r"(in|single)[-_ ]?flight|preflight|apache.arrow.flight",
                "",
                path.read_text(errors="ignore"),
                flags=re.I,
            )
            found += [f"{name}: {m.group(0)}" for m in subject.finditer(text)]
    assert not found, found[:10]


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
    """A sleep of a whole second or a blocking sleep is a wait for luck; pollers use short steps and a deadline."""
    pattern = re.compile(r"time\.sleep\(|asyncio\.sleep\([1-9]")
    guilty = [str(p.relative_to(ROOT)) for p in code() if p.name != "test_rules.py" and pattern.search(p.read_text())]
    assert not guilty


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
