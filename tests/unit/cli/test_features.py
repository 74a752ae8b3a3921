"""`millrace features`: what is declared, and both kinds of values, from rooms that answer what the test says."""

import json
from pathlib import Path
from typing import Any

import grpc
import pytest
from millrace.definitions import load_text, to_canonical_json
from millrace.wire.feature_store.v1 import service_pb2 as store_wire
from millrace.wire.registry.v1 import events_pb2 as registry_events
from millrace.wire.registry.v1 import service_pb2 as registry_wire

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
    versions = [registry_wire.ModelVersion(model="late-delivery", version=4, state="champion", definition_version=1)]
    rooms.on["Registry.ListVersions"] = lambda _: registry_wire.ListVersionsReply(versions=versions)
    return rooms


@pytest.fixture
def served(parcels: FakeRooms) -> FakeRooms:
    """The same with a service, and words about a view."""
    text = Path("tests/unit/definitions/parcels.yaml").read_text()
    text = text.replace(
        "  origin_weather@1:\n", "  origin_weather@1:\n    description: The sky above a depot\n    tags: [outdoors]\n"
    )
    text += "\nservices:\n  board@1: {features: [plan.origin, {view: origin_weather, through: plan.origin}]}\n"
    known = registry_events.DefinitionPublished(project="parcels", canonical_json=to_canonical_json(load_text(text)))
    parcels.on["Registry.GetDefinition"] = lambda _: known
    return parcels


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


def test_features_are_searched_by_name_entity_source_and_what_is_said(served: FakeRooms, millrace: Run) -> None:
    def found(text: str) -> list[str]:
        told = json.loads(millrace("features", "list", "parcels", "--search", text, "--json").stdout)
        return [fact["feature"] for fact in told]

    assert "origin_weather.pressure" in found("above DEPOT")
    assert found("outdoors pressure") == ["origin_weather.pressure"]
    assert all(name.startswith("courier_deliveries.") for name in found("courier mean"))
    assert found("board@1 origin plan")[0] == "plan.origin"
    assert found("nothing-like-it") == []
    assert (
        "no feature has 'nothing-like-it' in it"
        in millrace("features", "list", "parcels", "-s", "nothing-like-it").stdout
    )


def test_a_feature_is_followed_up_to_its_fields_and_down_to_services_and_versions(
    served: FakeRooms, millrace: Run
) -> None:
    told = json.loads(millrace("features", "show", "parcels", "plan.origin", "--json").stdout)
    assert {"field": "origin", "type": "string", "personal": "keep", "role": "value"} in told["upstream"]
    assert {row["field"]: row["role"] for row in told["upstream"]}["parcel_id"] == "selects events"
    goes = [(row["kind"], row["name"], row["as"], row["through"]) for row in told["downstream"]]
    assert ("model", "late-delivery", "plan.origin", "") in goes
    assert ("service", "board@1", "origin_weather.pressure", "plan.origin") in goes
    (version,) = told["model_versions"]
    assert version == {"model": "late-delivery", "version": 4, "state": "champion", "definition": 1}
    shown = millrace("features", "show", "parcels", "plan.origin").stdout
    assert "board@1" in shown and "champion" in shown and "selects events" in shown

    def never(_: Any) -> Any:
        raise Refused(grpc.StatusCode.NOT_FOUND, "there is no model late-delivery")

    served.on["Registry.ListVersions"] = never
    assert json.loads(millrace("features", "show", "parcels", "plan.origin", "--json").stdout)["model_versions"] == []


def test_services_are_listed_with_the_models_own(served: FakeRooms, millrace: Run) -> None:
    model, board = json.loads(millrace("features", "services", "parcels", "--json").stdout)
    assert (model["service"], len(model["features"])) == ("late-delivery", 20)
    assert (board["service"], board["entity"]) == ("board@1", "parcel_id")
    assert board["views"] == ["origin_weather@1", "plan@1"]
    assert "board@1" in millrace("features", "services", "parcels").stdout


def test_a_service_and_another_entitys_key_are_passed_on(served: FakeRooms, millrace: Run) -> None:
    served.on["FeatureStore.GetOnline"] = lambda request: store_wire.GetOnlineReply()
    served.on["FeatureStore.GetHistorical"] = lambda request: store_wire.GetHistoricalReply()
    millrace("features", "read", "parcels", "p1", "--service", "board@1")
    millrace("features", "read", "parcels", "EAST", "--by", "origin")
    millrace("features", "history", "parcels", "p1", "--at", "5", "--service", "board")
    asked = [(r.service, r.by) for r in served.asked("FeatureStore.GetOnline")]
    assert asked == [("board@1", ""), ("", "origin")]
    assert served.asked("FeatureStore.GetHistorical")[0].service == "board"


def test_statistics_are_shown_with_freshness_and_cost(served: FakeRooms, millrace: Run) -> None:
    number = store_wire.ColumnStats(
        name="pressure", type="number", present=90, missing=10, mean=1012.5, std=3.25, min=990, max=1030,
        quantiles=[1, 2, 3, 1011, 5, 6, 7], distinct=40, age_quantiles_us=[0, 0, 0, 3 * 3_600_000_000, 0, 0, 0],
    )  # fmt: skip
    text = store_wire.ColumnStats(
        name="origin", type="string", present=3, top=[store_wire.ValueCount(value="EAST", count=2)]
    )
    views = [
        store_wire.ViewStats(
            view="origin_weather@1", entities=1_000, rows=2_000, sampled=100, memory_bytes=300, total_bytes=600_000,
            read_us=12, events_per_hour=-1, columns=[number, text], lag_us=7_200_000_000,
        )
    ]  # fmt: skip
    served.on["FeatureStore.FeatureStats"] = lambda _: store_wire.FeatureStatsReply(
        views=views, left=[store_wire.LeftView(view="plan@7", keys=1_200)]
    )
    shown = millrace("features", "stats", "parcels", "origin_weather", "--fresh").stdout
    for part in ("1012.5", "1011", "EAST (2)", "about 1,000", "0.6 MB", "12 µs", "3 h", "2 h"):
        assert part in shown, part
    assert "plan@7 is declared no more, and 1,200 keys of it are kept: millrace features drop parcels plan@7" in shown
    (asked,) = served.asked("FeatureStore.FeatureStats")
    assert (list(asked.features), asked.max_age_ms) == (["origin_weather"], 1)
    told = json.loads(millrace("features", "stats", "parcels", "--json").stdout)
    assert told["views"][0]["columns"][0]["mean"] == 1012.5 and told["views"][0]["rows"] == 2_000


def test_a_view_is_dropped_and_a_refusal_is_told(served: FakeRooms, millrace: Run) -> None:
    steps = [store_wire.DropViewProgress(scanned=n, total=3, deleted=n * 10, done=n == 3) for n in (1, 2, 3)]
    served.on["FeatureStore.DropView"] = lambda _: iter(steps)
    told = millrace("features", "drop", "parcels", "plan@1", "--actor", "eve").stdout
    assert told == "plan@1 of parcels is dropped: 30 keys deleted\n"
    assert (
        json.loads(millrace("features", "drop", "parcels", "plan@1", "--force", "--json").stdout)["deleted_keys"] == 30
    )
    first, second = served.asked("FeatureStore.DropView")
    assert (first.view, first.force, first.actor, second.force) == ("plan@1", False, "eve", True)

    def refuse(_: Any) -> Any:
        raise Refused(grpc.StatusCode.FAILED_PRECONDITION, "plan@1 is declared by parcels: take it out")

    served.on["FeatureStore.DropView"] = refuse
    refused = millrace("features", "drop", "parcels", "plan@1")
    assert one_line(refused) == "error: feature_store: plan@1 is declared by parcels: take it out"
