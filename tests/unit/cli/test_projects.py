"""apply, train, runs."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from millrace.cli.places import ROOMS
from millrace.wire.registry.v1 import events_pb2 as registry_events
from millrace.wire.registry.v1 import service_pb2 as registry_wire
from millrace.wire.trainer.v1 import events_pb2 as trainer_events
from millrace.wire.trainer.v1 import service_pb2 as trainer_wire

from tests.unit.cli.conftest import FakeRooms, Refused

Run = Callable[..., Any]
YAML = "project: pumps\n"


@pytest.fixture
def file(tmp_path: Path) -> str:
    """A project file."""
    path = tmp_path / "project.yaml"
    path.write_text(YAML)
    return str(path)


def knows_pumps(rooms: FakeRooms, version: int) -> None:
    """The registry has the project; every room runs that version."""
    published = registry_events.DefinitionPublished(project="pumps", version=version)
    rooms.on["Registry.ListProjects"] = lambda _: registry_wire.ListProjectsReply(projects=[published])
    for room in ROOMS:
        rooms.status[room].definitions["pumps"] = version


def test_apply_bases_on_the_current_version_and_waits_for_all(rooms: FakeRooms, millrace: Run, file: str) -> None:
    knows_pumps(rooms, 4)

    def accept(request: Any) -> Any:
        for room in ROOMS:
            rooms.status[room].definitions["pumps"] = 5
        return registry_wire.ApplyReply(project="pumps", version=5, changed=True, changes=["gate: floor 0.6 → 0.7"])

    rooms.on["Registry.Apply"] = accept
    result = millrace("apply", file, "--actor", "ada")
    assert result.exit_code == 0
    assert "gate: floor 0.6 → 0.7" in result.stdout
    assert "pumps: version 5 runs in every room" in result.stdout
    (request,) = rooms.asked("Registry.Apply")
    assert (request.yaml, request.based_on_version, request.actor, request.plan_only) == (YAML, 4, "ada", False)


def test_apply_names_who_lags(rooms: FakeRooms, millrace: Run, file: str) -> None:
    knows_pumps(rooms, 5)
    rooms.status["trainer"].definitions["pumps"] = 4
    del rooms.status["monitor"].definitions["pumps"]
    rooms.on["Registry.Apply"] = lambda _: registry_wire.ApplyReply(project="pumps", version=5, changed=True)
    result = millrace("apply", file, "--timeout", "0.3")
    assert result.exit_code == 1
    assert result.stderr.startswith("error: after 0 s version 5 does not run in: trainer (4), monitor (none)")


def test_apply_prints_every_error_of_the_file_with_its_line(rooms: FakeRooms, millrace: Run, file: str) -> None:
    knows_pumps(rooms, 1)

    def refuse(_: Any) -> Any:
        raise Refused(grpc.StatusCode.INVALID_ARGUMENT, "project.yaml:3: no such field\nproject.yaml:9: bad duration")

    rooms.on["Registry.Apply"] = refuse
    result = millrace("apply", file)
    assert result.exit_code == 1
    assert result.stderr.splitlines() == [
        "error: registry: project.yaml:3: no such field",
        "  project.yaml:9: bad duration",
    ]


def test_a_plan_changes_and_awaits_nothing(rooms: FakeRooms, millrace: Run, file: str) -> None:
    knows_pumps(rooms, 0)
    rooms.on["Registry.Apply"] = lambda r: registry_wire.ApplyReply(project="pumps", version=1, changed=True)
    result = millrace("apply", file, "--plan", "--json")
    assert result.exit_code == 0
    said = json.loads(result.stdout)
    assert (said["plan"], said["version"], said["lagging"]) == (True, 1, [])
    assert rooms.asked("Registry.Apply")[0].plan_only


def test_a_file_that_is_not_there(rooms: FakeRooms, millrace: Run) -> None:
    result = millrace("apply", "nowhere.yaml")
    assert (result.exit_code, result.stderr) == (1, "error: cannot read nowhere.yaml: No such file or directory\n")


def test_train_waits_for_the_verdict_of_its_own_request(rooms: FakeRooms, millrace: Run) -> None:
    states = iter([trainer_events.RunEvent.QUEUED, trainer_events.RunEvent.RUNNING, trainer_events.RunEvent.REFUSED])
    other = trainer_wire.Run(run_id="r0", state=trainer_events.RunEvent.PASSED, request_ids=["q0"])
    rooms.on["Trainer.RequestRun"] = lambda _: trainer_wire.RequestRunReply(request_id="q1")
    rooms.on["Trainer.ListRuns"] = lambda _: trainer_wire.ListRunsReply(
        runs=[
            other,
            trainer_wire.Run(run_id="r1", state=next(states), request_ids=["q1"], reason="auc below the floor"),
        ]
    )
    result = millrace("train", "pumps", "--wait", "--reason", "why not")
    assert (result.exit_code, result.stdout) == (0, "run r1: REFUSED (auc below the floor)\n")
    assert rooms.asked("Trainer.RequestRun")[0].trigger == trainer_events.TrainingRequest.MANUAL


def test_train_passes_on_that_the_data_are_accepted(rooms: FakeRooms, millrace: Run) -> None:
    rooms.on["Trainer.RequestRun"] = lambda _: trainer_wire.RequestRunReply(request_id="q1")
    millrace("train", "pumps")
    millrace("train", "pumps", "--accept-data")
    assert [request.accept_data for request in rooms.asked("Trainer.RequestRun")] == [False, True]


def test_train_says_who_asks(rooms: FakeRooms, millrace: Run) -> None:
    rooms.on["Trainer.RequestRun"] = lambda _: trainer_wire.RequestRunReply(request_id="q1")
    result = millrace("train", "pumps", "--actor", "ada", "--json")
    assert (result.exit_code, json.loads(result.stdout)) == (0, {"request_id": "q1"})
    assert rooms.asked("Trainer.RequestRun")[0].actor == "ada"


def test_runs_as_json_keep_numbers_numbers(rooms: FakeRooms, millrace: Run) -> None:
    run = trainer_wire.Run(run_id="r", project="pumps", started_us=5, state=trainer_events.RunEvent.PASSED)
    run.candidate.metrics["auc"] = 0.75
    rooms.on["Trainer.ListRuns"] = lambda _: trainer_wire.ListRunsReply(runs=[run])
    (said,) = json.loads(millrace("runs", "list", "pumps", "--json").stdout)
    assert (said["started_us"], said["state"], said["candidate"]["metrics"]) == (5, "PASSED", {"auc": 0.75})
    assert "auc=0.75" in millrace("runs", "list").stdout
