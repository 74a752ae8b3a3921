"""`millrace features`: what is declared, and both kinds of values, from rooms that answer what the test says."""

import json
from pathlib import Path
from typing import Any

import grpc
import pytest
from millrace.definitions import load_text, to_canonical_json
from millrace.wire.feature_store.v1 import service_pb2 as store_wire
from millrace.wire.registry.v1 import events_pb2 as registry_events

from tests.support.columns import columns
from tests.unit.cli.conftest import FakeRooms, Refused
from tests.unit.cli.test_replay import Run, one_line

PRESENT = store_wire.PRESENT
T0 = 1_372_636_800_000_000
MEAN = "origin_dispatches.delay_mean_1h"


@pytest.fixture
def parcels(rooms: FakeRooms) -> FakeRooms:
    definition = load_text(Path("tests/unit/definitions/parcels.yaml").read_text())
    known = registry_events.DefinitionPublished(project="parcels", canonical_json=to_canonical_json(definition))
    rooms.on["Registry.GetDefinition"] = lambda _: known
    return rooms


def test_every_column_of_every_view_is_listed_with_what_it_is_made_of(parcels: FakeRooms, millrace: Run) -> None:
    found = {fact["feature"]: fact for fact in json.loads(millrace("features", "list", "parcels", "--json").stdout)}
    mean = found[MEAN]
    assert (mean["entity"], mean["source"], mean["made_of"]) == ("origin", "dispatches", "mean(dispatch_delay) over 1h")
    assert (mean["hop"], mean["input"], mean["event_type"]) == ("10m", True, "parcels.dispatch.happened")
    assert mean["through"] == "plan.origin" and mean["model"]
    assert found["plan.origin"]["made_of"] == "newest origin" and found["plan.origin"]["type"] == "string"
    assert found["plan.weekday"]["made_of"] == "weekday(scheduled_dispatch)"
    listed = millrace("features", "list", "parcels").stdout
    assert all(name in listed for name in found)


def test_one_feature_is_shown_and_an_unknown_one_is_answered_with_its_neighbours(
    parcels: FakeRooms, millrace: Run
) -> None:
    assert json.loads(millrace("features", "show", "parcels", MEAN, "--json").stdout)["view"] == "origin_dispatches@1"
    assert "mean(dispatch_delay) over 1h" in millrace("features", "show", "parcels", MEAN).stdout
    told = one_line(millrace("features", "show", "parcels", "origin_dispatches.delay_mean_2h"))
    assert told.startswith("error: parcels has no feature origin_dispatches.delay_mean_2h; near: ")
    assert MEAN in told


def test_values_online_come_with_status_and_age(parcels: FakeRooms, millrace: Run) -> None:
    hours = 3 * 3_600_000_000
    parcels.on["FeatureStore.GetOnline"] = lambda request: store_wire.GetOnlineReply(
        features=["plan.origin", MEAN, "weather.wind"],
        columns=columns([[("EAST", PRESENT, hours)], [(12.5, PRESENT, 90_000_000)], [(None, store_wire.MISSING, -1)]]),
    )
    told = json.loads(millrace("features", "read", "parcels", "p1", "--feature", MEAN, "--json").stdout)
    assert [(r["value"], r["status"], r["age_us"]) for r in told] == [
        ("EAST", "PRESENT", hours),
        (12.5, "PRESENT", 90_000_000),
        (None, "MISSING", None),
    ]
    (asked,) = parcels.asked("FeatureStore.GetOnline")
    assert (asked.project, list(asked.entities), list(asked.features)) == ("parcels", ["p1"], [MEAN])
    shown = millrace("features", "read", "parcels", "p1").stdout
    assert "3 h" in shown and "90 s" in shown and "12.5" in shown


def test_values_of_a_moment_come_from_history(parcels: FakeRooms, millrace: Run) -> None:
    parcels.on["FeatureStore.GetHistorical"] = lambda request: store_wire.GetHistoricalReply(
        features=[MEAN], columns=columns([[(4.0, PRESENT, 1_000_000)]])
    )
    parcels.status["ingestion"].watermarks_us["parcels"] = T0
    for words, moment_us in (([], T0), (["--at", "2013-07-01T05:00:00", "--as-happened"], T0 + 5 * 3_600_000_000)):
        result = millrace("features", "history", "parcels", "p1", *words, "--json")
        assert result.exit_code == 0, result.stderr
        asked = parcels.asked("FeatureStore.GetHistorical")[-1]
        assert [(k.project, k.entity, k.moment_us) for k in asked.keys] == [("parcels", "p1", moment_us)]
        assert asked.as_happened == bool(words)
    assert one_line(millrace("features", "history", "parcels", "p1", "--at", "noon")).startswith("error: --at noon: ")


def test_a_refusal_is_the_rooms_own_words(parcels: FakeRooms, millrace: Run) -> None:
    def refuse(_: Any) -> Any:
        raise Refused(grpc.StatusCode.NOT_FOUND, "no feature x in parcels")

    parcels.on["FeatureStore.GetOnline"] = refuse
    assert one_line(millrace("features", "read", "parcels", "p1")) == "error: feature_store: no feature x in parcels"
