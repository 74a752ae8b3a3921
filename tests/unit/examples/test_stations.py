"""The stations as events: order, ids, requests ahead of their hour, and contracts."""

from collections import Counter
from typing import Any

import msgspec
import pytest
from millrace.client.replay import ReplayEvent

from examples.stations import events as stations

DAYS = 3


@pytest.fixture(scope="module")
def made() -> list[ReplayEvent]:
    return stations.events(DAYS)


def test_each_hour_of_each_station_is_read_and_asked_about(made: list[ReplayEvent]) -> None:
    assert Counter(event.source for event in made) == {"requests": 2 * 24 * DAYS, "readings": 2 * 24 * DAYS}
    assert len({event.id for event in made}) == len(made)


def test_events_are_sorted_by_availability_and_alike_every_time(made: list[ReplayEvent]) -> None:
    assert [event.available_us for event in made] == sorted(event.available_us for event in made)
    assert stations.events(DAYS) == made


def test_a_request_is_about_a_reading_three_hours_after_its_moment(made: list[ReplayEvent]) -> None:
    bodies = [(event, msgspec.json.decode(event.json)) for event in made]
    read_at = {body["reading_id"]: body["observed_at"] for event, body in bodies if event.source == "readings"}
    asked = [(event, body) for event, body in bodies if event.source == "requests"]
    joined = [(event, body) for event, body in asked if body["forecast_id"] in read_at]
    assert len(asked) - len(joined) == 2 * 3  # the last three hours of each station have no reading here
    for event, body in joined:
        assert read_at[body["forecast_id"]] - body["asked_at"] == stations.FORECAST_AHEAD_US
        assert event.available_us == body["announced_at"] == body["asked_at"] - stations.HOUR_US
        assert body["target_hour"] == read_at[body["forecast_id"]] // stations.HOUR_US % 24


def test_a_reading_is_known_five_minutes_late(made: list[ReplayEvent]) -> None:
    readings = [event for event in made if event.source == "readings"]
    lags = {event.available_us - msgspec.json.decode(event.json)["observed_at"] for event in readings}
    assert lags == {stations.READING_LAG_US}


def test_every_event_keeps_its_contract(made: list[ReplayEvent], refusals: Any) -> None:
    assert refusals("stations", made) == []
