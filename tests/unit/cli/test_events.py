"""events why, alerts; payloads by the table of topics."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from millrace.bus.topics import load_topics
from millrace.cli.errors import CliError
from millrace.cli.events import chain_tree
from millrace.cli.topics import decode, message_class, payload_of
from millrace.wire.common.v1 import common_pb2
from millrace.wire.labeling.v1 import events_pb2 as labeling_events
from millrace.wire.monitor.v1 import service_pb2 as monitor_wire
from rich.console import Console

from tests.unit.cli.conftest import FakeRooms

Run = Callable[..., Any]


def link(event_id: str, cause: str, event_type: str = "t", **fields: Any) -> monitor_wire.ChainLink:
    return monitor_wire.ChainLink(event_id=event_id, causation_id=cause, event_type=event_type, **fields)


def test_why_is_a_tree_from_the_event_to_its_first_cause(rooms: FakeRooms, millrace: Run) -> None:
    links = [
        link("c", "b", "rolled_back", summary="3 → 2"),
        link("b", "a", "alert"),
        link("a", "", "released", actor="ada"),
    ]
    rooms.on["Monitor.Why"] = lambda _: monitor_wire.WhyReply(links=links, complete=True)
    lines = millrace("events", "why", "c").stdout.splitlines()
    indents = [line.index(word) for word in ("rolled_back", "alert", "released") for line in lines if word in line]
    assert indents == sorted(set(indents))
    assert any("by ada" in line for line in lines)
    assert json.loads(millrace("events", "why", "c", "--json").stdout)["links"][1]["event_id"] == "b"


def test_a_chain_with_a_gap_says_so() -> None:
    console = Console(width=100)
    with console.capture() as captured:
        console.print(chain_tree(monitor_wire.WhyReply(links=[link("c", "lost")], complete=False)))
    assert "an earlier cause is not known here" in captured.get()


def test_alerts_are_the_open_ones_unless_all(rooms: FakeRooms, millrace: Run) -> None:
    alert = monitor_wire.Alert(
        project="pumps", rule="drift", subject="speed", state="firing", reason="[red]shift[/red]"
    )
    rooms.on["Monitor.ListAlerts"] = lambda _: monitor_wire.ListAlertsReply(alerts=[alert])
    assert "[red]shift[/red]" in millrace("alerts").stdout
    millrace("alerts", "pumps", "--all")
    assert [r.open_only for r in rooms.asked("Monitor.ListAlerts")] == [True, False]


def test_every_payload_of_the_table_can_be_decoded() -> None:
    for row in load_topics().rows:
        if row.payload.startswith("millrace."):
            assert message_class(row.payload).DESCRIPTOR.full_name == row.payload
    with pytest.raises(CliError, match="does not know"):
        message_class("millrace.wire.common.v1.Nonsense")


def test_topics_with_names_in_them_find_their_row() -> None:
    assert payload_of("deadletter.trainer") == "millrace.wire.common.v1.DeadLetter"
    assert payload_of("data.pumps.readings") == "json"
    assert payload_of("data.violations") == "millrace.wire.ingestion.v1.ViolationWindow"
    assert payload_of("somebody.else") == "unknown"


def test_payloads_decode_or_say_why_not() -> None:
    tick = common_pb2.ClockTick(project="p", now_us=2**60)
    assert decode("clocks", "", tick.SerializeToString()) == {"project": "p", "now_us": 2**60, "lease_id": ""}
    beat = labeling_events.LabelHeartbeat(project="p", visible_us=7)
    heartbeat = "millrace.labeling.clock.advanced.v1"
    assert decode("labels", heartbeat, beat.SerializeToString()) == {"project": "p", "visible_us": 7}
    assert decode("data.p.s", "", b'{"a": 1}') == {"a": 1}
    assert decode("clocks", "", b"") is None
    assert "not millrace.wire.common.v1.ClockTick" in decode("clocks", "", b"\xff\xff")
    assert decode("data.p.s", "", b"\xff") == "1 bytes that are not JSON"
