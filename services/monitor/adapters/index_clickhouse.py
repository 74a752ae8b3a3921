"""The index of platform events in ClickHouse."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
from millrace.stores.clickhouse import ClickHouse

from services.monitor.domain.causes import Link
from services.monitor.ports import Columns

_TEXTS_BEFORE = ("event_id", "event_type", "topic", "source", "subject", "project")
SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in _TEXTS_BEFORE),
        *((name, pa.int64()) for name in ("time_us", "clock_us")),
        *((name, pa.string()) for name in ("causation_id", "actor", "summary", "model")),
        *((name, pa.int64()) for name in ("version", "other_version")),
        *((name, pa.string()) for name in ("kind", "run_id", "snapshot_digest", "evidence", "place")),
        ("received_us", pa.int64()),
        ("payload", pa.string()),
    ]
)
_LINK = (
    "event_id, event_type, topic, source, subject, time_us, summary, causation_id, actor, project, model, version,"
    " other_version, kind, run_id, snapshot_digest, evidence"
)
_SHOWN = f"{_LINK}, clock_us, received_us"


class ClickHouseIndex:
    """Implements ports.Index."""

    def __init__(self, store: ClickHouse) -> None:
        self._store = store

    async def add(self, columns: Columns, token: str) -> None:
        """Append; the engine folds repeats of an id."""
        await self._store.insert_arrow("platform_events", pa.table(dict(columns), schema=SCHEMA), token)

    async def by_id(self, event_id: str) -> Link | None:
        """One look-up by the table's key."""
        return await self._one("event_id = {event_id:String}", {"event_id": event_id})

    async def by_run(self, run_id: str) -> Link | None:
        """The event with the candidate's snapshot, else the newest of the run."""
        return await self._one(
            "topic = 'training.runs' AND run_id = {run_id:String}",
            {"run_id": run_id},
            "snapshot_digest != '' DESC, received_us DESC",
        )

    async def by_version(self, project: str, model: str, version: int) -> Link | None:
        """The first release, else the first event of the version."""
        return await self._one(
            "topic = 'models.events' AND project = {project:String} AND model = {model:String}"
            " AND version = {version:Int64}",
            {"project": project, "model": model, "version": version},
            "kind IN ('released', 'promoted', 'forced') DESC, received_us",
        )

    async def recent(
        self, *, project: str = "", topics: Sequence[str] = (), before_us: int = 0, limit: int = 100
    ) -> list[Mapping[str, Any]]:
        """Without payloads."""
        wanted = ["1"]
        if project:
            wanted.append("project = {project:String}")
        if topics:
            wanted.append("has({topics:Array(String)}, topic)")
        if before_us:
            wanted.append("received_us < {before_us:Int64}")
        params = {"project": project, "topics": list(topics), "before_us": before_us, "rows": limit}
        sql = f"SELECT {_SHOWN} FROM platform_events FINAL WHERE {' AND '.join(wanted)}"
        found: list[Mapping[str, Any]] = []
        found.extend(await self._store.query_rows(f"{sql} ORDER BY received_us DESC LIMIT {{rows:Int64}}", params))
        return found

    async def _one(self, where: str, params: Mapping[str, Any], order: str = "received_us") -> Link | None:
        rows = await self._store.query_rows(
            f"SELECT {_LINK} FROM platform_events WHERE {where} ORDER BY {order} LIMIT 1", params
        )
        return Link(**rows[0]) if rows else None
