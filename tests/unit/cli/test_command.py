"""The command itself: help, completion, status, doctor, failures in one line."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from millrace.cli import doctor as doctoring
from millrace.cli import up as running
from millrace.cli.main import app
from millrace.cli.places import PARTS, ROOMS

from tests.unit.cli.conftest import FakeRooms

Run = Callable[..., Any]
INSTALLED = Path(sys.executable).parent / "millrace"
TOP = [
    *("up", "down", "status", "doctor", "apply", "train", "publish", "predict", "replay", "rollback", "alerts"),
    *("models", "events", "features", "data", "deadletter", "shadow", "topics", "training", "runs", "report"),
]


def commands() -> list[list[str]]:
    groups = {"models": ["list", "show", "push", "promote", "lineage"], "events": ["tail", "why"]}
    groups["features"] = ["list", "show", "read", "history", "services", "stats", "drop", "rebuild"]
    groups["features"] += ["training-set", "consistency"]
    groups["data"] = ["profile", "forget", "forgotten", "reveal", "revealed"]
    groups["deadletter"] = ["list", "show", "replay"]
    groups["topics"] = ["list", "lag", "check"]
    groups["training"] = ["off", "on", "show"]
    groups["runs"] = ["list", "show", "compare", "rerun"]
    return [[name] for name in TOP if name not in groups] + [[g, c] for g, names in groups.items() for c in names]


def test_help_names_every_command() -> None:
    said = subprocess.run([sys.executable, "-m", "millrace.cli", "--help"], capture_output=True, text=True, check=True)
    assert not [name for name in TOP if f"  {name} " not in said.stdout]


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys\nfrom millrace.cli.main import app\n"
        "print([m for m in ('grpc', 'rich', 'aiokafka', 'google.protobuf', 'numpy', 'yaml') if m in sys.modules])"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout == "[]\n"


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("", set(TOP)),
        ("mo", {"models"}),
        ("models ", {"list", "show", "push", "promote", "lineage"}),
        ("deadletter s", {"show"}),
        ("models push --f", {"--force"}),
    ],
)
def test_the_installed_command_completes_itself(typed: str, offered: set[str]) -> None:
    words = f"millrace {typed}"
    asked = {"_MILLRACE_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    said = subprocess.run([INSTALLED], env={**os.environ, **asked}, capture_output=True, text=True, check=True)
    assert set(said.stdout.split()) == offered


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")
def test_bash_completes_with_the_script_that_the_command_gives() -> None:
    script = subprocess.run(
        [INSTALLED], env={**os.environ, "_MILLRACE_COMPLETE": "source_bash"}, capture_output=True, text=True, check=True
    ).stdout
    typed = 'COMP_WORDS=(millrace models p); COMP_CWORD=2; $(complete -p millrace | sed "s/.*-F //; s/ .*//") millrace'
    said = subprocess.run(
        ["bash", "--norc", "-c", f'{script}\n{typed}\necho "${{COMPREPLY[@]}}"'],
        env={**os.environ, "PATH": f"{INSTALLED.parent}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout.split() == ["push", "promote"]


@pytest.mark.parametrize("command", commands(), ids=" ".join)
def test_every_command_explains_itself_with_an_example(millrace: Run, command: list[str]) -> None:
    shown = millrace(*command, "--help").stdout
    assert "Examples:" in shown
    assert f"millrace {' '.join(command)}" in shown


def test_json_is_offered_wherever_something_is_shown() -> None:
    lacking = []
    groups = [item.typer_instance for item in app.registered_groups if item.typer_instance]
    for command in (command for group in [app, *groups] for command in group.registered_commands):
        name = command.name or getattr(command.callback, "__name__", "")
        if "as_json" not in getattr(command.callback, "__annotations__", {}):
            lacking.append(name)
    assert not lacking


def test_no_command_without_a_platform_says_so_in_one_line(millrace: Run, tmp_path: Path) -> None:
    for arguments in (["runs", "list"], ["models", "list"], ["alerts"], ["predict", "p", "k"], ["events", "tail"]):
        result = millrace(*arguments, "--home", str(tmp_path))
        assert result.exit_code == 1
        assert len(result.stderr.splitlines()) == 1
        assert "millrace up" in result.stderr


def test_a_room_that_is_gone_is_named(rooms: FakeRooms, millrace: Run) -> None:
    rooms.stop()
    result = millrace("runs", "list")
    assert result.exit_code == 1
    assert result.stderr.startswith("error: trainer at 127.0.0.1:")
    assert "cannot be reached" in result.stderr


def test_status_shows_each_service_and_fails_when_one_is_down(rooms: FakeRooms, millrace: Run) -> None:
    rooms.status["labeling"].lag_records = 1234
    rooms.status["labeling"].watermarks_us["pumps"] = 1_372_636_800_000_000
    rooms.status["trainer"].ready = False
    rooms.status["trainer"].reasons.append("bus: Kafka is gone")
    result = millrace("status", "--sample", "0")
    assert result.exit_code == 1
    shown = {line.split()[0]: line for line in result.stdout.splitlines() if line.strip()}
    assert "1,234" in shown["labeling"]
    assert "pumps 2013-07-01 00:00:00" in shown["labeling"]
    assert "bus: Kafka is gone" in shown["trainer"]
    said = json.loads(millrace("status", "--json", "--sample", "0").stdout)
    assert said["healthy"] is False
    by_name = {service["name"]: service for service in said["services"]}
    assert by_name["labeling"]["pid"] == 0 or by_name["labeling"]["grpc"].startswith("127.0.0.1:")
    assert by_name["kafka"]["reason"] == "not running"


def test_a_room_has_doors_and_a_part_has_an_address(
    rooms: FakeRooms, millrace: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MILLRACE_KAFKA_BOOTSTRAP", "127.0.0.1:1,127.0.0.1:2")
    monkeypatch.setenv("MILLRACE_REDIS_URL", "redis://127.0.0.1:1/0")
    said = json.loads(millrace("status", "--json", "--sample", "0").stdout)
    doors = {service["name"]: (service["grpc"], service["http"], service["address"]) for service in said["services"]}
    assert doors["kafka"] == ("", "", "127.0.0.1:1,127.0.0.1:2")
    assert doors["valkey"] == ("", "", "redis://127.0.0.1:1/0")
    assert doors["labeling"][0].startswith("127.0.0.1:")
    assert doors["labeling"][1:] == ("127.0.0.1:1", "")
    assert "127.0.0.1:1,127.0.0.1:2" in millrace("status", "--sample", "0").stdout


def test_the_rate_is_measured_between_two_looks(rooms: FakeRooms, millrace: Run) -> None:
    from millrace.cli.health import Service, _with_rate

    assert _with_rate(Service("a", True, handled=10), Service("a", True, handled=40), 0.5).rate == 60.0
    assert _with_rate(Service("a", True, handled=10), Service("a", True, handled=0), 0.5).rate == 0.0


def test_doctor_says_what_is_missing_and_how_to_mend_it(
    millrace: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("MILLRACE_CACHE", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    result = millrace("doctor", "--home", str(tmp_path), "--json")
    assert result.exit_code == 1
    missing = {f["what"]: f for f in json.loads(result.stdout) if f["state"] == "missing"}
    assert set(missing) == {"java", "mvn"}
    assert all(finding["why"] and finding["fix"] for finding in missing.values())
    monkeypatch.setenv("MILLRACE_KAFKA_BOOTSTRAP", "127.0.0.1:1")
    findings = {f.what: f for f in doctoring.examine(tmp_path)}
    assert findings["java"].state == findings["mvn"].state == "ok"
    assert "unset MILLRACE_KAFKA_BOOTSTRAP" in findings["kafka"].fix


def test_down_where_nothing_runs(millrace: Run, tmp_path: Path) -> None:
    result = millrace("down", "--home", str(tmp_path))
    assert (result.exit_code, result.stdout) == (0, f"nothing runs in {tmp_path}\n")


def test_down_says_in_json_that_nothing_is_left(millrace: Run, tmp_path: Path) -> None:
    said = json.loads(millrace("down", "--json", "--home", str(tmp_path)).stdout)
    assert said == {"home": str(tmp_path), "stopped": True, "pid": 0, "killed": False}


def test_up_in_json_is_for_detached_ones(millrace: Run, tmp_path: Path) -> None:
    result = millrace("up", "--json", "--home", str(tmp_path))
    assert result.exit_code == 1
    assert "--detach" in result.stderr


def test_what_up_says_in_json(rooms: FakeRooms) -> None:
    said = running.facts(rooms.home, 4711)
    assert {name: said[name] for name in ("home", "pid", "console")} == {
        "home": str(rooms.home),
        "pid": 4711,
        "console": "http://127.0.0.1:1",
    }
    services = {service["name"]: service for service in said["services"]}
    assert set(services) == {*PARTS, *ROOMS}
    assert services["registry"]["healthy"]
    assert services["registry"]["grpc"].startswith("127.0.0.1:")


def test_up_of_an_unknown_room(millrace: Run, tmp_path: Path) -> None:
    result = millrace("up", "--room", "kitchen", "--home", str(tmp_path))
    assert result.exit_code == 1
    assert result.stderr.startswith("error: no room is called kitchen")
