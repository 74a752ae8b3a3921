"""training off, on, show."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from millrace.wire.trainer.v1 import events_pb2 as events
from millrace.wire.trainer.v1 import service_pb2 as wire

from tests.unit.cli.conftest import FakeRooms

Run = Callable[..., Any]


@pytest.mark.parametrize(
    ("arguments", "project", "says"),
    [
        (("off", "pumps", "--reason", "costs", "--actor", "ana"), "pumps", "training of pumps is off\n"),
        (("off", "--all", "--reason", "costs", "--actor", "ana"), "*", "training of all projects is off\n"),
        (("on", "pumps", "--reason", "costs", "--actor", "ana"), "pumps", "training of pumps is switched on\n"),
    ],
)
def test_the_switch_names_the_project_or_all(
    rooms: FakeRooms, millrace: Run, arguments: tuple[str, ...], project: str, says: str
) -> None:
    rooms.on["Trainer.SwitchTraining"] = lambda request: request
    rooms.on["Trainer.ListSwitches"] = lambda _: wire.ListSwitchesReply()
    result = millrace("training", *arguments)
    assert (result.exit_code, result.stdout) == (0, says)
    (asked,) = rooms.asked("Trainer.SwitchTraining")
    off = arguments[0] == "off"
    assert asked == events.TrainingSwitch(project=project, off=off, reason="costs", actor="ana")


@pytest.mark.parametrize("arguments", [("off", "--reason", "x"), ("off", "pumps", "--all", "--reason", "x")])
def test_a_project_or_all_not_both_and_not_neither(rooms: FakeRooms, millrace: Run, arguments: tuple[str, ...]) -> None:
    result = millrace("training", *arguments)
    assert result.exit_code == 1
    assert "name a project, or say --all" in result.stderr
    assert not rooms.asked("Trainer.SwitchTraining")


def test_what_is_off_is_listed_with_who_and_why(rooms: FakeRooms, millrace: Run) -> None:
    off = [events.TrainingSwitch(project="*", off=True, reason="an incident", actor="ana", switched_us=5)]
    asked = wire.WaitingRequest(
        project="pumps", trigger="drift", reason="it moved", waits_for="its cooldown", asked_us=6
    )
    rooms.on["Trainer.ListSwitches"] = lambda _: wire.ListSwitchesReply(switches=off)
    rooms.on["Trainer.ListWaiting"] = lambda _: wire.ListWaitingReply(waiting=[asked], total=1_234)
    shown = millrace("training", "show").stdout
    assert all(
        word in shown for word in ("all projects", "ana", "an incident", "drift", "its cooldown", "1,234 requests")
    )
    said = json.loads(millrace("training", "show", "--json").stdout)
    assert [(switch["project"], switch["switched_us"]) for switch in said["off"]] == [("*", 5)]
    assert ([w["waits_for"] for w in said["waiting"]], said["waiting_total"]) == (["its cooldown"], 1_234)
    rooms.on["Trainer.ListSwitches"] = lambda _: wire.ListSwitchesReply()
    rooms.on["Trainer.ListWaiting"] = lambda _: wire.ListWaitingReply()
    shown = millrace("training", "show").stdout
    assert "nothing is switched off" in shown
    assert "no request waits" in shown


def test_who_switches_on_is_told_what_is_still_off(rooms: FakeRooms, millrace: Run) -> None:
    still = [events.TrainingSwitch(project="*", off=True, reason="an incident")]
    rooms.on["Trainer.SwitchTraining"] = lambda request: request
    rooms.on["Trainer.ListSwitches"] = lambda _: wire.ListSwitchesReply(switches=still)
    assert "still off: all projects (an incident)" in millrace("training", "on", "pumps").stdout
