"""Hourly temperatures of two stations in 2010, read from the data files of the package `vega_datasets`, as timed events."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec
import pandas as pd

HOUR_US = 3_600_000_000
FORECAST_AHEAD_US = 3 * HOUR_US
READING_LAG_US = 5 * 60_000_000
STATIONS = {"seattle": "seattle-temps.csv", "sanfrancisco": "sf-temps.csv"}


class TimedEvent(NamedTuple):
    """One event of the stream. Times in microseconds since the epoch, UTC; `json` is the payload."""

    available_us: int
    source: str
    id: str
    json: bytes


def events(days: int, first_day: str = "2010-04-01") -> list[TimedEvent]:
    """`days` days of readings and forecast requests from `first_day` on, ordered by availability."""
    made = [event for station, file in STATIONS.items() for event in _station(station, file, first_day, days)]
    made.sort()
    return made


def _station(station: str, file: str, first_day: str, days: int) -> Iterator[TimedEvent]:
    spec = importlib.util.find_spec("vega_datasets")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("vega_datasets is not installed; run `make setup`")
    table = pd.read_csv(Path(spec.origin).parent / "_data" / file)
    # The files' local times carry no zone; they are taken as UTC, which shifts nothing that the model can see.
    table["at"] = pd.to_datetime(table["date"], format="mixed")
    first = pd.Timestamp(first_day)
    table = table[(table["at"] >= first) & (table["at"] < first + pd.Timedelta(days=days))].drop_duplicates("at")
    instants = table["at"].astype("datetime64[us]").astype("int64")
    for at_us, temperature in zip(instants, table["temp"], strict=True):
        yield from _hour(station, int(at_us), float(temperature))


def _hour(station: str, at_us: int, temperature: float) -> Iterator[TimedEvent]:
    reading, forecast = f"{station}-{at_us}", f"{station}-{at_us + FORECAST_AHEAD_US}"
    announced = at_us - HOUR_US
    yield TimedEvent(announced, "requests", f"request:{forecast}", msgspec.json.encode({
        "forecast_id": forecast, "announced_at": announced, "asked_at": at_us, "station": station,
        "target_hour": float((at_us + FORECAST_AHEAD_US) // HOUR_US % 24),
    }))  # fmt: skip
    yield TimedEvent(at_us + READING_LAG_US, "readings", f"reading:{reading}", msgspec.json.encode({
        "reading_id": reading, "observed_at": at_us, "station": station, "temperature": temperature,
    }))  # fmt: skip
