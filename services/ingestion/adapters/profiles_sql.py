"""The days of the data docs in this room's database."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from millrace.stores.sql import Database

from services.ingestion.ports import DayRow

_NEWEST = " FROM day_profiles WHERE project = :project AND source = :source ORDER BY start_us DESC LIMIT :days"


class SqlProfiles:
    """The ports' Profiles over SQLite or PostgreSQL; of each source `kept_days` days stay."""

    def __init__(self, database: Database, kept_days: int) -> None:
        self._database = database
        self._kept_days = kept_days

    async def save(self, project: str, source: str, days: Mapping[int, Mapping[str, Any]]) -> None:
        """As Profiles.save."""
        if not days:
            return
        place = {"project": project, "source": source}
        async with self._database.transaction() as transaction:
            await transaction.execute(
                "INSERT INTO day_profiles (project, source, start_us, events, quarantined, null_share, broken, state)"
                " VALUES (:project, :source, :start_us, :events, :quarantined, :null_share, :broken, :state)"
                " ON CONFLICT (project, source, start_us) DO UPDATE SET events = excluded.events, state ="
                " excluded.state, quarantined = excluded.quarantined, null_share = excluded.null_share,"
                " broken = excluded.broken",
                [{**place, **_row(state)} for state in days.values()],
            )
            oldest = await transaction.row(
                "SELECT start_us FROM day_profiles WHERE project = :project AND source = :source"
                " ORDER BY start_us DESC LIMIT 1 OFFSET :kept",
                {**place, "kept": self._kept_days},
            )
            if oldest:
                await transaction.execute(
                    "DELETE FROM day_profiles WHERE project = :project AND source = :source AND start_us <= :start_us",
                    {**place, "start_us": oldest["start_us"]},
                )

    async def load(self, project: str, source: str, start_us: int) -> Mapping[str, Any] | None:
        """As Profiles.load."""
        async with self._database.read() as transaction:
            row = await transaction.row(
                "SELECT state FROM day_profiles WHERE project = :project AND source = :source AND start_us = :start_us",
                {"project": project, "source": source, "start_us": start_us},
            )
        return _state(row["state"]) if row else None

    async def newest(self, project: str, source: str, days: int) -> list[Mapping[str, Any]]:
        """As Profiles.newest."""
        async with self._database.read() as transaction:
            rows = await transaction.rows(
                f"SELECT state{_NEWEST}", {"project": project, "source": source, "days": days}
            )
        return [_state(row["state"]) for row in reversed(rows)]

    async def summaries(self, project: str, source: str, days: int) -> list[DayRow]:
        """As Profiles.summaries."""
        async with self._database.read() as transaction:
            rows = await transaction.rows(
                f"SELECT start_us, events, quarantined, null_share, broken{_NEWEST}",
                {"project": project, "source": source, "days": days},
            )
        return [DayRow(**row) for row in reversed(rows)]


def _row(state: Mapping[str, Any]) -> dict[str, Any]:
    plain = {name: state[name] for name in ("start_us", "events", "quarantined", "null_share")}
    broken = sum(line[-1] for line in state["windows"])
    return plain | {"broken": broken, "state": msgspec.json.encode(state).decode()}


def _state(text: str) -> Mapping[str, Any]:
    state: Mapping[str, Any] = msgspec.json.decode(text)
    return state
