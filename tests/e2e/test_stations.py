"""One story through the command line: the stations example from its project file to predictions and kill -9."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from millrace.client.recording import write_line

from examples.stations.events import events
from tests.support.poll import until_sync

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]
ROOT = Path(__file__).resolve().parents[2]
PROJECT = ROOT / "examples" / "stations" / "project.yaml"
TRAIN_DAYS, SERVE_DAYS = 33, 5


class Cli:
    """`millrace` as a person runs it, against one home."""

    def __init__(self, home: Path) -> None:
        self.home = home

    def run(self, *words: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "millrace.cli", *words, "--home", str(self.home)],
            cwd=ROOT, input=stdin, capture_output=True, text=True, timeout=400,
        )  # fmt: skip

    def ok(self, *words: str, stdin: str | None = None) -> str:
        ran = self.run(*words, stdin=stdin)
        assert ran.returncode == 0, f"{words}: {ran.stderr}{ran.stdout}"
        return ran.stdout

    def json(self, *words: str) -> object:
        return json.loads(self.ok(*words, "--json"))

    def services(self) -> dict[str, dict]:
        return {s["name"]: s for s in json.loads(self.run("status", "--json").stdout)["services"]}


@pytest.fixture(scope="module")
def platform(tmp_path_factory):
    cli = Cli(tmp_path_factory.mktemp("stations"))
    cli.ok("up", "--detach")
    pids = [service["pid"] for service in cli.services().values()]
    assert len(pids) == 10
    yield cli
    cli.ok("down")
    assert not [pid for pid in pids if psutil.pid_exists(pid)], "down leaves nothing running"


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    made = list(events(TRAIN_DAYS + SERVE_DAYS))
    split = made[0].available_us + TRAIN_DAYS * 86_400_000_000
    folder = tmp_path_factory.mktemp("recorded")
    for name, part in (
        ("train", [e for e in made if e.available_us <= split]),
        ("serve", [e for e in made if e.available_us > split]),
    ):
        (folder / name).write_bytes(b"".join(map(write_line, part)))
    return folder, made


def test_a_project_file_with_errors_changes_nothing_and_names_every_line(platform, tmp_path):
    bad = tmp_path / "project.yaml"
    text = PROJECT.read_text().replace("entity: station", "entity: sttion").replace("horizon: 6h", "horizon: six")
    bad.write_text(text)
    ran = platform.run("apply", str(bad))
    assert ran.returncode == 1
    assert "sttion" in ran.stderr
    assert "horizon" in ran.stderr
    assert "Traceback" not in ran.stderr
    assert platform.run("models", "list").returncode == 0


def test_the_loop_runs_from_the_project_file_alone(platform, recorded):
    folder, _ = recorded
    platform.ok("apply", str(PROJECT))
    trained = platform.json("replay", "stations", str(folder / "train"), "--slice", "1h", "--barrier", "24h")
    assert trained["quarantined"] == 0
    versions = platform.json("models", "list", "stations")
    assert [v["state"] for v in versions] == ["champion"], platform.ok("runs", "stations")
    assert versions[0]["metrics"]["mae"] < 6
    served = platform.json("replay", "stations", str(folder / "serve"), "--slice", "1h", "--barrier", "24h")
    assert served["predictions"] > 200
    assert served["failed"] == 0
    assert served["before_first_release"] == 0


def test_why_leads_from_the_release_to_the_data_snapshot(platform):
    [version] = platform.json("models", "list", "stations")
    lineage = platform.json("models", "lineage", "stations", str(version["version"]))
    assert version["snapshot_digest"].startswith("sha256:")
    assert any(event["kind"] == "released" for event in lineage["events"])
    tail = platform.ok("events", "tail", "models.events", "-n", "50", "--json").splitlines()
    released = next(e for e in map(json.loads, tail) if e["data"]["kind"] == "released")
    chain = platform.json("events", "why", released["id"])
    assert chain["complete"]
    assert version["snapshot_digest"] in json.dumps(chain)


def test_bad_events_are_refused_with_field_and_reason_and_hold_back_nobody(platform):
    reading = {"reading_id": "fresh-0", "observed_at": 1_270_000_000_000_000, "station": "oslo", "temperature": 50.0}
    rows = [
        {**reading, "temperature": "warm"},
        {**reading, "reading_id": None},
        {**reading, "reading_id": "fresh-1", "observed_at": 4_102_444_800_000_000},
        reading,
    ]
    ran = platform.run("publish", "stations", "readings", "-", "--json", stdin="\n".join(map(json.dumps, rows)))
    counts = json.loads(ran.stdout)
    assert ran.returncode == 1
    assert (counts["accepted"], counts["quarantined"]) == (1, 3)
    assert {v["field"] for v in counts["verdicts"]} == {"temperature", "reading_id", "observed_at"}
    unknown = platform.run("publish", "stations", "nothing", "-", stdin=json.dumps(rows[0]))
    assert unknown.returncode != 0
    assert "nothing" in unknown.stderr


def test_nothing_is_lost_when_rooms_are_killed(platform, recorded):
    _, made = recorded
    entity = next(json.loads(e.json)["forecast_id"] for e in reversed(made) if e.source == "requests")
    before = platform.json("predict", "stations", entity)["answers"][0]
    pids = {name: platform.services()[name]["pid"] for name in ("feature_store", "inference", "labeling", "registry")}
    for pid in pids.values():
        os.kill(pid, signal.SIGKILL)

    def healthy() -> bool:
        seen = platform.services()
        return all(seen[name]["healthy"] and seen[name]["pid"] != pid for name, pid in pids.items())

    until_sync(healthy, 120)
    after = until_sync(lambda: _answer(platform, entity), 60)
    assert after["version"] == before["version"]
    assert after["value"] == pytest.approx(before["value"], rel=1e-6)


def _answer(platform: Cli, entity: str) -> dict | None:
    ran = platform.run("predict", "stations", entity, "--json")
    return json.loads(ran.stdout)["answers"][0] if ran.returncode == 0 else None
