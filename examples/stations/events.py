"""Hourly temperatures of two stations in 2010 as timed events, from the data files of the package `vega_datasets`."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pandas as pd
from millrace.client.recording import write_line
from millrace.client.replay import ReplayEvent

HOUR_US = 3_600_000_000
FORECAST_AHEAD_US = 3 * HOUR_US
READING_LAG_US = 5 * 60_000_000
STATIONS = {"seattle": "seattle-temps.csv", "sanfrancisco": "sf-temps.csv"}


def events(days: int, first_day: str = "2010-04-01") -> list[ReplayEvent]:
    """`days` days of readings and forecast requests from `first_day` on, ordered by availability."""
    made = [event for station, file in STATIONS.items() for event in _station(station, file, first_day, days)]
    made.sort(key=lambda event: (event.available_us, event.source, event.id))
    return made


def _station(station: str, file: str, first_day: str, days: int) -> Iterator[ReplayEvent]:
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


def _hour(station: str, at_us: int, temperature: float) -> Iterator[ReplayEvent]:
    reading, forecast = f"{station}-{at_us}", f"{station}-{at_us + FORECAST_AHEAD_US}"
    announced = at_us - HOUR_US
    yield ReplayEvent(announced, "requests", msgspec.json.encode({
        "forecast_id": forecast, "announced_at": announced, "asked_at": at_us, "station": station,
        "target_hour": float((at_us + FORECAST_AHEAD_US) // HOUR_US % 24),
    }), f"request:{forecast}")  # fmt: skip
    yield ReplayEvent(at_us + READING_LAG_US, "readings", msgspec.json.encode({
        "reading_id": reading, "observed_at": at_us, "station": station, "temperature": temperature,
    }), f"reading:{reading}")  # fmt: skip


def main(days: int) -> None:
    """Writes the events as NDJSON for `millrace replay stations`."""
    for event in events(days):
        sys.stdout.buffer.write(write_line(event))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 60)
