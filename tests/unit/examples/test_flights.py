"""The flights as events: where the data bites, and that every event keeps its contract."""

from typing import Any

import msgspec
import pandas as pd
import pytest
from millrace.client.replay import ReplayEvent

from examples.flights import events as flights

YEAR = tuple(range(1, 13))
SAMPLED = 12_000


@pytest.fixture(scope="module")
def year() -> pd.DataFrame:
    return flights.read_flights(YEAR)


@pytest.fixture(scope="module")
def february() -> list[ReplayEvent]:
    return flights.events((2,))


@pytest.fixture(scope="module")
def bodies(february: list[ReplayEvent]) -> dict[str, dict[str, Any]]:
    return {event.id: msgspec.json.decode(event.json) for event in february}


def one(year: pd.DataFrame, flight_id: str) -> Any:
    (row,) = year[year["flight_id"] == flight_id].itertuples(index=False)
    return row


def instant(text: str) -> int:
    return int(pd.Timestamp(text, tz="UTC").timestamp()) * 1_000_000


def test_the_year_has_its_known_size(year: pd.DataFrame) -> None:
    assert len(year) == 336_776
    assert year["flight_id"].is_unique
    assert year["departed_us"].isna().sum() == 8_255
    assert year["arr_delay"].isna().sum() == 9_430
    assert year["tailnum"].isna().sum() == 2_512


def test_a_cancelled_flight_neither_departs_nor_arrives(year: pd.DataFrame) -> None:
    cancelled = year[year["dep_time"].isna()]
    assert len(cancelled) == 8_255
    assert cancelled[["departed_us", "arrived_us"]].isna().all(axis=None)


def test_an_arrival_is_an_instant_after_the_departure_by_air_time_and_some_taxi(year: pd.DataFrame) -> None:
    on_ground_min = ((year["arrived_us"] - year["departed_us"]) / flights.MINUTE_US - year["air_time"]).dropna()
    assert len(on_ground_min) == 327_346
    assert on_ground_min.between(5, 235).all()
    assert on_ground_min.median() == 28


def test_arrival_times_are_local_to_the_destination(year: pd.DataFrame) -> None:
    west = one(year, "UA194-JFK-20130101T1100Z")  # leaves 5:58 in New York, lands 9:24 in Los Angeles
    assert (west.dest, west.dep_time, west.arr_time) == ("LAX", 558, 924)
    assert west.departed_us == instant("2013-01-01 10:58")
    assert west.arrived_us == instant("2013-01-01 17:24")


def test_2400_is_the_midnight_that_ends_the_day(year: pd.DataFrame) -> None:
    late = one(year, "B61109-JFK-20130102T0255Z")
    assert (late.day, late.arr_time) == (1, 2400)
    assert late.arrived_us == instant("2013-01-02 05:00")
    at_midnight = year[year["arr_time"] == 2400]
    assert len(at_midnight) == 150
    assert (at_midnight["arrived_us"] > at_midnight["departed_us"]).all()
    leaves = year[year["dep_time"] == 2400]
    assert len(leaves) == 29
    clock = pd.to_datetime(leaves["departed_us"], unit="us", utc=True).dt.tz_convert("America/New_York")
    assert (clock.dt.hour * 60 + clock.dt.minute == 0).all()


def test_events_are_sorted_by_availability_with_unique_ids_and_alike_every_time(february: list[ReplayEvent]) -> None:
    assert [event.available_us for event in february] == sorted(event.available_us for event in february)
    assert len({event.id for event in february}) == len(february)
    assert {event.source for event in february} == {"schedule", "departures", "arrivals", "weather"}


def test_a_departure_is_announced_a_day_ahead(february: list[ReplayEvent], bodies: dict[str, dict[str, Any]]) -> None:
    for event in (event for event in february if event.source == "schedule"):
        body = bodies[event.id]
        assert body["scheduled_departure"] - body["announced_at"] == flights.DAY_US
        assert event.available_us == body["announced_at"]


def test_nothing_is_known_before_it_happened(february: list[ReplayEvent], bodies: dict[str, dict[str, Any]]) -> None:
    happened = {"departures": "departed_at", "arrivals": "arrived_at", "weather": "observed_at"}
    lags = {
        (event.source, event.available_us - bodies[event.id][happened[event.source]])
        for event in february
        if event.source in happened
    }
    assert lags == {
        ("departures", flights.DEPARTURE_LAG_US),
        ("arrivals", flights.ARRIVAL_LAG_US),
        ("weather", flights.WEATHER_LAG_US),
    }


def test_what_is_not_recorded_stays_null(bodies: dict[str, dict[str, Any]]) -> None:
    table = flights.read_flights((2,))
    arrived = table[table["arrived_us"].notna()]
    unknown = set("arrivals:" + arrived[arrived["arr_delay"].isna()]["flight_id"])
    assert unknown
    assert unknown == {key for key, body in bodies.items() if "arrival_delay" in body and body["arrival_delay"] is None}
    nameless = set("schedule:" + table[table["tailnum"].isna()]["flight_id"])
    assert nameless
    assert nameless == {
        key for key, body in bodies.items() if key.startswith("schedule:") and body["tail_number"] is None
    }


def test_every_event_keeps_its_contract(february: list[ReplayEvent], refusals: Any) -> None:
    assert refusals("flights", february[:SAMPLED]) == []
