"""replay: what it refuses, in one line, and what it tells of a replay."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from millrace.definitions import load_text, to_canonical_json
from millrace.wire.common.v1 import common_pb2
from millrace.wire.inference.v1 import service_pb2 as inference_wire
from millrace.wire.ingestion.v1 import service_pb2 as ingestion_wire
from millrace.wire.registry.v1 import events_pb2 as registry_events

from tests.unit.cli.conftest import FakeRooms, Refused

Run = Callable[..., Any]
HALF_HOUR = 30 * 60_000_000
T0 = 1_372_636_800_000_000


def recording(folder: Path, *times_us: int) -> Path:
    """A file of announcements, each available at the dispatch that it announces."""
    file = folder / "events.ndjson"
    rows = [
        {"available_us": at, "source": "schedule", "id": f"e{at}", "data": {"parcel_id": "p", "scheduled_dispatch": at}}
        for at in times_us
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def one_line(result: Any) -> str:
    """The line that a refusal consists of."""
    assert result.exit_code == 1
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    return str(line)


def test_a_file_that_is_not_there(millrace: Run, tmp_path: Path) -> None:
    assert one_line(millrace("replay", "pumps", str(tmp_path / "none"))) == f"error: no file {tmp_path / 'none'}"
    assert one_line(millrace("replay", "pumps", str(tmp_path))) == f"error: no file {tmp_path}"


def test_a_file_without_events(millrace: Run, tmp_path: Path) -> None:
    file = recording(tmp_path)
    assert one_line(millrace("replay", "pumps", str(file))) == f"error: {file} holds no event"


@pytest.mark.parametrize(("content", "number"), [("{}\n", 1), ("\n", 1), ("GOOD\nnonsense\n", 2)])
def test_a_bad_line_is_named(millrace: Run, tmp_path: Path, content: str, number: int) -> None:
    file = recording(tmp_path, T0)
    file.write_text(content.replace("GOOD", file.read_text().strip()))
    assert f"{file}:{number}: " in one_line(millrace("replay", "pumps", str(file)))


def test_an_unsorted_file_is_refused_before_anything_is_published(
    rooms: FakeRooms, millrace: Run, tmp_path: Path
) -> None:
    file = recording(tmp_path, T0 + 2, T0 + 1)
    assert f"{file}:2: not sorted" in one_line(millrace("replay", "pumps", str(file)))
    assert rooms.calls == []


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--slice", "soon"), "'soon' is no duration: write it like 90s, 10m, 3h, 7d"),
        (("--barrier", "6 hours"), "'6 hours' is no duration"),
        (("--slice", ""), "'' is no duration"),
        (("--slice", "-30m"), "'-30m' is no duration"),
        (("--slice", "0m"), "a barrier must be a whole number of slices, and both positive"),
        (("--barrier", "0h"), "a barrier must be a whole number of slices, and both positive"),
        (("--slice", "40m", "--barrier", "1h"), "a barrier must be a whole number of slices"),
        (("--slice", "7h"), "a barrier must be a whole number of slices"),
    ],
)
def test_widths_that_cannot_be(millrace: Run, tmp_path: Path, arguments: tuple[str, ...], reason: str) -> None:
    line = one_line(millrace("replay", "pumps", str(recording(tmp_path, T0)), *arguments))
    assert reason in line
    assert " ".join(arguments[:2]).rstrip() in line


def test_no_platform(millrace: Run, tmp_path: Path) -> None:
    line = one_line(millrace("replay", "pumps", str(recording(tmp_path, T0)), "--home", str(tmp_path)))
    assert "millrace up" in line


def test_an_unknown_project(rooms: FakeRooms, millrace: Run, tmp_path: Path) -> None:
    def refuse(_: Any) -> Any:
        raise Refused(grpc.StatusCode.NOT_FOUND, "no project pumps")

    rooms.on["Registry.GetDefinition"] = refuse
    assert one_line(millrace("replay", "pumps", str(recording(tmp_path, T0)))) == "error: registry: no project pumps"


@pytest.fixture
def serving(rooms: FakeRooms) -> FakeRooms:
    """Rooms that know the project, hold its clock, take its events and answer."""
    definition = load_text(Path("tests/unit/definitions/parcels.yaml").read_text())
    known = registry_events.DefinitionPublished(project="parcels", canonical_json=to_canonical_json(definition))
    plan = registry_events.ServingPlan(variants=[registry_events.Variant(version=1)])
    lease = ingestion_wire.ClockLease(lease_id="l")
    rooms.on |= {
        "Registry.GetDefinition": lambda _: known,
        "Registry.GetPlan": lambda _: plan,
        "Ingestion.AcquireClock": lambda _: lease,
        "Ingestion.AdvanceClock": lambda request: ingestion_wire.ClockLease(
            published=[ingestion_wire.PublishReply(accepted=len(arrived.events)) for arrived in request.arrivals]
        ),
        "Ingestion.ReleaseClock": lambda _: common_pb2.Empty(),
        "Inference.Predict": lambda request: inference_wire.PredictReply(
            answers=[inference_wire.Answer(error="no features") for _ in request.items]
        ),
    }
    return rooms


def test_a_replay_tells_what_it_did(
    serving: FakeRooms, millrace: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: Any) -> Any:
        raise Refused(grpc.StatusCode.NOT_FOUND, "no release")

    serving.on["Registry.GetPlan"] = refuse
    monkeypatch.setenv("MILLRACE_TOKEN", "secret")
    file = recording(tmp_path, T0 + 1, T0 + HALF_HOUR)
    result = millrace("replay", "parcels", str(file), "--free-running", "--json")
    assert result.exit_code == 0
    facts = json.loads(result.stdout)
    assert (facts["events"], facts["accepted"], facts["predictions"]) == (2, 2, 0)
    assert facts["before_first_release"] == 2
    moves = [request.now_us for request in serving.asked("Ingestion.AdvanceClock")]
    assert (moves[0], moves[-1]) == (T0, T0 + HALF_HOUR)
    assert serving.metadata["authorization"] == "Bearer secret"


def test_failed_predictions_fail_the_command(serving: FakeRooms, millrace: Run, tmp_path: Path) -> None:
    file = recording(tmp_path, T0 + 1, T0 + HALF_HOUR + 1)
    result = millrace("replay", "parcels", str(file), "--free-running", "--barrier", "30m")
    assert result.exit_code == 1
    assert "predictions 2, failed 2" in result.stdout
    assert "p: no features" in result.stderr


def test_a_clock_that_somebody_else_holds(serving: FakeRooms, millrace: Run, tmp_path: Path) -> None:
    def refuse(_: Any) -> Any:
        raise Refused(grpc.StatusCode.FAILED_PRECONDITION, "the clock of parcels is held by demo")

    serving.on["Ingestion.AcquireClock"] = refuse
    result = millrace("replay", "parcels", str(recording(tmp_path, T0)), "--free-running")
    assert result.exit_code == 1
    assert "held by demo" in result.stderr.splitlines()[-1]


def sent(rooms: FakeRooms) -> list[str]:
    """Ids of the events that were published, in order."""
    moves = rooms.asked("Ingestion.AdvanceClock")
    return [event.id for request in moves for arrived in request.arrivals for event in arrived.events]


@pytest.mark.parametrize(
    ("clock_us", "slices"),
    [
        (T0 - HALF_HOUR, 0),  # behind the file: from its first event
        (T0 + HALF_HOUR, 1),
        (T0 + 2 * HALF_HOUR - 1, 1),  # between slices: what may have been sent is sent again
        (T0 + 9 * HALF_HOUR, 3),  # past its end: nothing is left
    ],
)
def test_a_cut_off_replay_goes_on_where_the_clock_stands(
    serving: FakeRooms, millrace: Run, tmp_path: Path, clock_us: int, slices: int
) -> None:
    serving.status["ingestion"].watermarks_us["parcels"] = clock_us
    serving.on["Ingestion.AcquireClock"] = lambda _: ingestion_wire.ClockLease(lease_id="l", now_us=clock_us)
    serving.on["Inference.Predict"] = lambda request: inference_wire.PredictReply(
        answers=[inference_wire.Answer() for _ in request.items]
    )
    times_us = [T0 + 1 + n * HALF_HOUR for n in range(3)]
    result = millrace("replay", "parcels", str(recording(tmp_path, *times_us)), "--free-running", "--json")
    assert result.exit_code == 0, result.stderr
    assert sent(serving) == [f"e{at}" for at in times_us[slices:]]
    moves = [request.now_us for request in serving.asked("Ingestion.AdvanceClock")]
    assert all(now_us >= clock_us for now_us in moves)  # time does not run backwards
    assert moves[-1:] == ([T0 + 3 * HALF_HOUR] if slices < 3 else [])
    assert ("the replay goes on from there" in result.stderr) == (slices > 0)
