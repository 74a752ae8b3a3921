"""`millrace up` and `down` as a user runs them, with two real rooms."""

import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support.poll import until_sync

ROOT = Path(__file__).parents[3]
ROOMS = ("--room", "registry", "--room", "inference")
PARTS = {"kafka", "valkey", "clickhouse"}

pytestmark = [pytest.mark.stack, pytest.mark.timeout(600)]


def millrace(*arguments: str, home: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "millrace.cli", *arguments, "--home", str(home)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)


def running(home: Path) -> list[int]:
    """Processes that have this home in their command or environment."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.status() != psutil.STATUS_ZOMBIE and str(home) in " ".join(
                [*process.cmdline(), process.environ().get("MILLRACE_HOME", "")]
            ):
                found.append(process.pid)
        except psutil.Error:
            continue
    return [pid for pid in found if pid != os.getpid()]


def services(home: Path) -> dict[str, dict[str, Any]]:
    said = json.loads(millrace("status", "--json", "--sample", "0", home=home).stdout)
    return {service["name"]: service for service in said["services"]}


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A home in which nothing is left running, whatever the test did."""
    place = tmp_path / "home"
    yield place
    millrace("down", "--force", "--timeout", "20", home=place)


def test_up_detached_status_crash_and_down(home: Path) -> None:
    up = millrace("up", "--detach", "--json", *ROOMS, home=home)
    assert up.returncode == 0, up.stderr
    said = json.loads(up.stdout)
    assert (said["home"], said["console"]) == (str(home), "")
    assert psutil.pid_exists(said["pid"])
    assert {s["name"] for s in said["services"] if s["healthy"]} == {*PARTS, "registry", "inference"}
    seen = services(home)
    assert {name for name, service in seen.items() if service["healthy"]} == {*PARTS, "registry", "inference"}
    assert seen["registry"]["grpc"].startswith("127.0.0.1:")

    second = millrace("up", "--detach", home=home)
    assert second.returncode == 1
    assert second.stderr.startswith("error: a platform already runs in")

    os.kill(seen["inference"]["pid"], signal.SIGKILL)
    until_sync(lambda: services(home)["inference"]["healthy"] and services(home)["inference"]["pid"], 90.0)
    assert services(home)["inference"]["pid"] != seen["inference"]["pid"]
    assert services(home)["inference"]["grpc"] == seen["inference"]["grpc"]

    down = millrace("down", "--json", home=home)
    assert down.returncode == 0, down.stderr
    assert json.loads(down.stdout) == {"home": str(home), "stopped": True, "pid": said["pid"], "killed": False}
    assert running(home) == []
    assert [path.name for path in (home / "run").iterdir()] == ["lock"]


def test_a_room_in_two_processes(home: Path) -> None:
    rooms = ("--room", "feature_store", "--room", "labeling")
    up = millrace("up", "--detach", "--json", *rooms, "--processes", "feature_store=2", home=home)
    assert up.returncode == 0, up.stderr
    expected = {*PARTS, "labeling", "feature_store", "feature_store-2"}
    assert {s["name"] for s in json.loads(up.stdout)["services"] if s["healthy"]} == expected
    assert "feature_store-2" in millrace("status", "--sample", "0", home=home).stdout
    first, second = (
        json.loads((home / "run" / f"{name}.json").read_text()) for name in ("feature_store", "feature_store-2")
    )
    assert first["pid"] != second["pid"]
    assert first["grpc"] != second["grpc"]
    with urllib.request.urlopen(f"http://{second['http']}/readyz", timeout=10) as ready:
        assert json.loads(ready.read())["ready"]
    assert millrace("down", home=home).returncode == 0
    assert running(home) == []
    for asked, reason in (
        ("registry=2", "registry cannot run in several"),
        ("feature_store", "give a room and a number"),
    ):
        refused = millrace("up", "--detach", "--processes", asked, home=home)
        assert refused.returncode == 1
        assert reason in refused.stderr


def test_ctrl_c_in_the_foreground_leaves_nothing_and_a_killed_one_leaves_nothing_either(home: Path) -> None:
    command = [sys.executable, "-m", "millrace.cli", "up", *ROOMS, "--home", str(home)]
    for ending in (signal.SIGINT, signal.SIGKILL):
        up = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, cwd=ROOT)
        ready = home / "run" / "up.json"
        until_sync(lambda ready=ready: ready.exists() and '"ready"' in ready.read_text(), 180.0)  # type: ignore[misc]
        up.send_signal(ending)
        _, said = up.communicate(timeout=60)
        if ending == signal.SIGINT:
            assert up.returncode == 0
            assert said.splitlines()[-1] == "stopped; nothing is left running"
        until_sync(lambda: running(home) == [], 20.0)


def test_ctrl_c_while_it_starts(home: Path) -> None:
    command = [sys.executable, "-m", "millrace.cli", "up", *ROOMS, "--home", str(home)]
    up = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    until_sync(lambda: (home / "run" / "up.json").exists(), 60.0)
    up.send_signal(signal.SIGINT)
    up.communicate(timeout=60)
    assert running(home) == []


def test_a_room_that_cannot_start_is_named_in_one_line(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MILLRACE_TOKEN_FILE", str(home / "no-such-file"))
    up = millrace("up", "--detach", "--room", "registry", home=home)
    assert up.returncode == 1
    (line,) = up.stderr.splitlines()
    assert line.startswith("error: registry ended with")
    assert "no-such-file" in line
    assert running(home) == []
