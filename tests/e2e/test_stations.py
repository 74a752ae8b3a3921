"""One story through the command line: README's walk with the stations example, then what can go wrong with it."""

import base64
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import grpc
import onnx
import psutil
import pyarrow as pa
import pytest
from millrace.client.addresses import Addresses
from millrace.client.errors import CallFailed
from millrace.client.features import SyncFeatures
from millrace.client.recording import write_line
from millrace.wire.registry.v1 import service_pb2, service_pb2_grpc
from onnx import helper

from examples.stations.events import events
from tests.e2e import readme
from tests.e2e.asking import Asking
from tests.support.poll import until_sync

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]
ROOT = Path(__file__).resolve().parents[2]
PROJECT = ROOT / "examples" / "stations" / "project.yaml"
DAY_US = 86_400_000_000
WALK_DAYS, BAD_DAYS, BROKEN_DAYS = 38, 1, 14


class Cli:
    """`millrace` as a person runs it, against one home."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.told = ""  # what the walk printed

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

    def tail(self, topic: str) -> list[dict]:
        return [json.loads(line) for line in self.ok("events", "tail", topic, "-n", "200", "--json").splitlines()]

    def services(self) -> dict[str, dict]:
        return {s["name"]: s for s in json.loads(self.run("status", "--json").stdout)["services"]}

    def pids(self) -> list[int]:
        return [service["pid"] for service in self.services().values()]


@pytest.fixture(scope="module")
def platform(tmp_path_factory):
    """The platform as README's walk leaves it before its last line, which ends it here, too."""
    cli = Cli(tmp_path_factory.mktemp("stations"))
    commands, down = readme.walk()
    assert down.startswith("millrace down")
    try:
        cli.told = readme.shell(commands, cli.home)
        pids = cli.pids()
        assert len(pids) == 10
        yield cli
        pids += cli.pids()
    finally:
        readme.shell(down, cli.home)
    assert not [pid for pid in pids if psutil.pid_exists(pid)], "down leaves nothing running"


def test_the_walk_ends_in_a_prediction_and_in_why(platform):
    counts = {name: int(count) for name, count in re.findall(r"(\w+) (\d+)", _line(platform.told, "before_first"))}
    assert counts["events"] == counts["accepted"] == 96 * WALK_DAYS
    assert (counts["quarantined"], counts["failed"]) == (0, 0)
    assert counts["predictions"] > 200
    assert counts["predictions"] + counts["before_first_release"] == 48 * WALK_DAYS
    assert "runs in every room" in platform.told
    assert "seattle-1273370400000000" in platform.told
    (version,) = platform.json("models", "list", "stations")
    assert version["state"] == "champion"
    assert version["metrics"]["mae"] < 6
    assert version["snapshot_digest"].startswith("sha256:")
    released = next(e for e in platform.tail("models.events") if e["data"]["kind"] == "released")
    assert released["id"] in platform.told
    chain = platform.json("events", "why", released["id"])
    assert chain["complete"]
    assert version["snapshot_digest"] in json.dumps(chain)


def test_a_run_can_be_made_again_from_its_record_to_the_bit(platform):
    (version,) = platform.json("models", "list", "stations")
    again = platform.json("runs", "rerun", version["run_id"])
    assert again["same"], [line for line in again["lines"] if not line["same"]]
    lines = {line["what"]: line for line in again["lines"]}
    assert lines["data snapshot"]["now"] == version["snapshot_digest"] and again["note"] == ""
    assert lines["model"]["now"] == version["model_digest"]
    assert float(lines["mae of candidate"]["now"]) == pytest.approx(version["metrics"]["mae"], abs=0)
    assert all(line["same"] for line in lines.values()), "the same code in the same environment"


def test_the_snippets_run_as_they_stand(platform, tmp_path):
    publish, predict, training, _ = readme.snippets()
    assert "1 0 []" in _typed(publish, platform, tmp_path / "publish")
    said = _typed(predict, platform, tmp_path / "predict")
    [answer] = platform.json("predict", "stations", "seattle-1273370400000000")["answers"]
    value, version = re.search(r"([\d.]+) (\d+) \[\('plan", said).groups()
    assert (float(value), int(version)) == (pytest.approx(answer["value"], rel=1e-6), 1)
    assert "'note': 'mine', 'plan." in _typed(training, platform, tmp_path / "training")


def test_a_project_file_with_errors_changes_nothing_and_names_every_line(platform, tmp_path):
    before = platform.json("apply", str(PROJECT), "--plan")
    assert (before["version"], before["changed"]) == (1, False)
    bad, lines = tmp_path / "project.yaml", PROJECT.read_text().splitlines()
    wrong = {
        "entity: station": "entity: sttion",
        "horizon: 6h": "horizon: six",
        "range: [-40, 130]": "range: [130, -40]",
    }
    places = {good: next(i for i, line in enumerate(lines) if good in line) for good in wrong}
    for good, place in places.items():
        lines[place] = lines[place].replace(good, wrong[good])
    bad.write_text("\n".join(lines))
    ran = platform.run("apply", str(bad))
    assert ran.returncode == 1
    assert "Traceback" not in ran.stderr
    told = ran.stderr.replace("\n", "")  # long lines are wrapped
    for place in places.values():
        assert f"{bad.name}:{place + 1}" in told, told
    assert "sttion" in told
    assert platform.json("apply", str(PROJECT), "--plan") == before
    assert [(e["data"]["project"], e["data"]["version"]) for e in platform.tail("definitions")] == [("stations", 1)]


def test_bad_events_are_kept_with_field_and_reason_and_hold_back_nobody(platform):
    reading = {"reading_id": "fresh-0", "observed_at": 1_270_000_000_000_000, "station": "oslo", "temperature": 50.0}
    bad = [
        ('{"reading_id": "cut", ', "", "json", "not JSON"),
        (json.dumps({**reading, "reading_id": None}), "reading_id", "key", "neither null nor empty"),
        (
            json.dumps({**reading, "reading_id": "fresh-1", "observed_at": 4_102_444_800_000_000}),
            "observed_at",
            "future",
            "later than the project's clock",
        ),
        (json.dumps({**reading, "temperature": 500}), "temperature", "range", "a value in [-40, 130], found 500"),
        (json.dumps({**reading, "temperature": "warm"}), "temperature", "type", "expected a finite number, found warm"),
    ]
    lines = [line for line, *_ in bad] + [json.dumps(reading)]
    ran = platform.run("publish", "stations", "readings", "-", "--json", stdin="\n".join(lines))
    counts = json.loads(ran.stdout)
    assert ran.returncode == 1
    assert (counts["accepted"], counts["quarantined"]) == (1, len(bad))
    assert [verdict["field"] for verdict in counts["verdicts"]] == [field for _, field, *_ in bad]
    kept = {base64.b64decode(e["data"]["payload"]).decode(): e["data"] for e in platform.tail("quarantine")}
    assert len(kept) == len(bad)
    for line, field, rule, reason in bad:
        letter = kept[line.strip()]
        assert (letter["project"], letter["source"]) == ("stations", "readings")
        assert (letter["field"], letter["rule"]) == (field, rule)
        assert reason in letter["reason"]
    assert [e["data"] for e in platform.tail("data.stations.readings") if e["key"] == "fresh-0"] == [reading]

    unknown = platform.run("publish", "stations", "nothing", "-", stdin=json.dumps(reading))
    assert unknown.returncode == 1
    assert "project stations declares no source nothing" in unknown.stderr
    letters = [e["data"] for e in platform.tail("quarantine") if e["data"]["rule"] == "unknown_source"]
    assert [(letter["source"], json.loads(base64.b64decode(letter["payload"]))) for letter in letters] == [
        ("nothing", reading)
    ]


def test_no_request_fails_through_a_bad_release_its_rollback_and_a_retraining(platform, tmp_path):
    bad, later = tmp_path / "bad.onnx", tmp_path / "later.ndjson"
    good = next(v for v in platform.json("models", "list", "stations") if v["state"] == "champion")
    bad.write_bytes(negated(artifact(platform, good["model_digest"])))
    now_us = platform.services()["ingestion"]["watermarks_us"]["stations"]
    coming = [e for e in events(WALK_DAYS + BAD_DAYS) if e.available_us > now_us]
    later.write_bytes(b"".join(map(write_line, coming)))
    entities = ["seattle-1273370400000000", "sanfrancisco-1273370400000000"]
    with Asking(Addresses.discover(platform.home).grpc("inference"), "stations", entities) as asking:
        with _listening(platform, tmp_path / "releases") as releases:
            wrong = _pushed(platform, bad)
            until_sync(lambda: asking.versions() == {good["version"], wrong}, 30, what="answers of both versions")
            # Free running: a barrier waits for rest, and these requests never rest.
            platform.ok("replay", "stations", str(later), "--slice", "1h", "--free-running")
            rolled = until_sync(lambda: _rolled_back(platform, wrong), 90, what="the monitor's rollback")
            assert (rolled["data"]["other_version"], rolled["actor"]) == (good["version"], "monitor")
            until_sync(lambda: asking.answers[-1].version == good["version"], 30, what="the good version answers")
            plans = [[wrong, good["version"]], [good["version"]]]
            until_sync(lambda: _versions(releases)[-2:] == plans, 30, what="both plans told to the subscriber")
        chain = until_sync(lambda: _why(platform, rolled["id"]), 30, what="why the rollback happened")
        assert {"forced", "alert", "commanded"} <= {word for word in re.findall(r"\w+", json.dumps(chain))}
        _held_up_by_the_switch(platform)
        run = platform.json("train", "stations", "--wait", "--reason", "after the rollback")
        assert run["state"] in ("PASSED", "REFUSED"), run
        assert run["candidate"]["champion_version"] == good["version"]
        if run["state"] == "PASSED":  # a verdict either way; a better model serves, too, before the requests end
            until_sync(lambda: asking.answers[-1].version > wrong, 60, what="answers of the retrained version")
        until_sync(
            lambda: len(asking.answers) + len(asking.failures) > 100, 60, what="a hundred requests over all of it"
        )
    assert asking.failures == []
    assert asking.versions() >= {good["version"], wrong}


def test_the_minus_one_of_a_broken_thermometer_is_not_learned_until_a_person_says_so(platform, tmp_path):
    """A value that the contract allows and nothing refuses: the rows that are new are held against those before."""
    now_us = platform.services()["ingestion"]["watermarks_us"]["stations"]
    coming = [e for e in events(WALK_DAYS + BAD_DAYS + BROKEN_DAYS) if e.available_us > now_us]
    broken = [e._replace(json=_cold(e.json)) if e.source == "readings" else e for e in coming]
    file = tmp_path / "broken.ndjson"
    file.write_bytes(b"".join(map(write_line, broken)))
    platform.ok("replay", "stations", str(file), "--slice", "6h")
    run = platform.json("train", "stations", "--wait")
    assert run["state"] == "DECLINED", run
    assert re.search(r"[\d,]+ of [\d,]+ new rows are not fit to be learned from: .* is -1 in \d+%", run["reason"]), run
    assert "`millrace train stations --accept-data` takes them as they are" in run["reason"]
    told = [e["data"] for e in platform.tail("training.runs") if e["data"]["run_id"] == run["run_id"]]
    assert (told[-1]["state"], told[-1]["reason"]) == ("DECLINED", run["reason"])
    shown = platform.ok("runs", "show", run["run_id"])
    assert "DECLINED" in shown and "stuck" in shown and "is -1 in 100% of" in shown, shown
    taken = platform.json("train", "stations", "--wait", "--accept-data", "--reason", "it is as cold as that")
    assert taken["state"] in ("PASSED", "REFUSED"), taken
    differ = platform.json("runs", "compare", run["run_id"], taken["run_id"])["differ"]
    assert differ["state"] == ["DECLINED", taken["state"]] and differ["data accepted by a person"] == [False, True]


def test_nothing_is_lost_when_rooms_are_killed(platform):
    made = events(WALK_DAYS + BAD_DAYS)
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


def test_a_model_that_learned_from_a_forgotten_entity_says_so(platform):
    trained = next(v for v in platform.json("models", "list", "stations") if v["snapshot_digest"])
    model, number, digest = "stations", str(trained["version"]), trained["snapshot_digest"]
    assert "forg" not in platform.ok("models", "lineage", model, number)
    with SyncFeatures(Addresses.discover(platform.home).grpc("feature_store"), "stations") as features:
        learned = pa.Table.from_batches(features.rows(digest))
        entity = learned["entity"][0].as_py()
        done = platform.json("data", "forget", entity, "-p", "stations", "--reason", "asked", "--wait", "120")
        with pytest.raises(CallFailed) as gone:
            list(features.rows(digest))
        receipts = [s for r in done["receipts"] for s in r.get("snapshots", []) if s["digest"] == digest]
        newer = receipts[0]["by"]
        assert newer in str(gone.value)
        left = pa.Table.from_batches(features.rows(newer))
        assert left.num_rows < learned.num_rows and entity not in left["entity"].to_pylist()
    said = until_sync(lambda: _flagged(platform, model, number), 60, what="the version is flagged")
    assert newer in said and done["id"] in said
    assert entity not in said


def _flagged(platform: Cli, model: str, version: str) -> str:
    told = platform.json("models", "lineage", model, version)["version"].get("forgotten", "")
    return told if told and told in platform.ok("models", "lineage", model, version) else ""


def _cold(reading: bytes) -> bytes:
    """The reading as a thermometer tells it that answers -1 when it cannot measure."""
    return json.dumps(json.loads(reading) | {"temperature": -1.0}).encode()


def negated(model: bytes) -> bytes:
    """The ONNX bytes of a model that answers -x wherever `model` answers x: it loads, and is wrong."""
    wrong = onnx.load_from_string(model)
    (output,) = wrong.graph.output
    honest = f"{output.name}_honest"
    for node in wrong.graph.node:
        node.output[:] = [honest if name == output.name else name for name in node.output]
    wrong.graph.node.append(helper.make_node("Neg", [honest], [output.name]))
    onnx.checker.check_model(wrong)
    return wrong.SerializeToString()


def artifact(platform: Cli, digest: str) -> bytes:
    """The bytes that `digest` names, from the registry."""
    with grpc.insecure_channel(Addresses.discover(platform.home).grpc("registry")) as channel:
        stub = service_pb2_grpc.RegistryStub(channel)
        return b"".join(chunk.data for chunk in stub.GetArtifact(service_pb2.Artifact(digest=digest), timeout=30))


@contextlib.contextmanager
def _listening(platform: Cli, log: Path):
    """README's last snippet at work, once it told what serves now; yields its log."""
    child = readme.console(readme.snippets()[-1], platform.home, log)
    try:
        until_sync(lambda: _versions(log), 60, what="the plan that serves")
        yield log
    finally:
        child.terminate()
        child.wait(30)


def _versions(log: Path) -> list[list[int]]:
    """The versions of each plan that the snippet printed."""
    return [json.loads(found) for found in re.findall(r"\d+ .*(\[[\d, ]+\])$", log.read_text(), re.M)]


def _pushed(platform: Cli, model: Path) -> int:
    """The version that the model became, released by force."""
    words = ("--force", "--actor", "e2e", "--reason", "wrong on purpose")
    return platform.json("models", "push", "stations", str(model), *words)["version"]


def _rolled_back(platform: Cli, version: int) -> dict | None:
    """The event, once it happened."""
    changes = [(e["data"]["kind"], e["data"]["version"], e) for e in platform.tail("models.events")]
    return next((e for kind, number, e in changes if (kind, number) == ("rolled_back", version)), None)


def _why(platform: Cli, event_id: str) -> dict | None:
    """The causal chain, once the index knows it to its end."""
    chain = platform.json("events", "why", event_id)
    return chain if chain["complete"] else None


def _typed(snippet: str, platform: Cli, log: Path) -> str:
    """What a snippet prints that comes to its end."""
    child = readme.console(snippet, platform.home, log)
    assert child.wait(60) == 0
    said = log.read_text()
    assert "Error" not in said, said
    return said


def _line(text: str, word: str) -> str:
    return next(line for line in text.splitlines() if word in line)


def _held_up_by_the_switch(platform: Cli) -> None:
    """While training is switched off nobody gets a run, and everybody is told who did it and why."""
    platform.ok("training", "off", "stations", "--reason", "a look at the rollback first", "--actor", "ana")
    refused = platform.run("train", "stations")
    words = "training of stations is switched off by ana: a look at the rollback first"
    assert refused.returncode == 1
    assert words in refused.stderr
    assert words in json.dumps(platform.services()["trainer"])
    platform.ok("training", "on", "stations", "--actor", "ana")
    assert platform.json("training", "show")["off"] == []


def _answer(platform: Cli, entity: str) -> dict | None:
    ran = platform.run("predict", "stations", entity, "--json")
    return json.loads(ran.stdout)["answers"][0] if ran.returncode == 0 else None
