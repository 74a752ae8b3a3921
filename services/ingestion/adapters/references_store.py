"""Fingerprints of values that are referred to: kept in this room's database, read back from the data topic."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from typing import Any

import msgspec
from millrace.bus.ports import Bus
from millrace.bus.topics import data_topic
from millrace.stores.sql import Database

from services.ingestion.adapters.tails_bus import POLL_RECORDS, POLL_WAIT_MS
from services.ingestion.handlers.messages import HEARTBEAT
from services.ingestion.ports import Place

_SIGN = 1 << 63
_decode = msgspec.json.Decoder(dict[str, Any]).decode
_WHERE = "project = :project AND source = :source AND field = :field"


class ReferenceStore:
    """The ports' References over SQL and the bus."""

    def __init__(self, database: Database, bus: Bus) -> None:
        self._database = database
        self._bus = bus

    async def load(self, place: Place) -> tuple[list[int], bool]:
        """As References.load."""
        async with self._database.read() as transaction:
            rows = await transaction.rows(f"SELECT value FROM reference_values WHERE {_WHERE}", _params(place))
            book = await transaction.row(f"SELECT is_whole FROM reference_books WHERE {_WHERE}", _params(place))
        return [row["value"] + _SIGN for row in rows], bool(book and book["is_whole"])

    async def add(self, place: Place, values: Sequence[int], is_whole: bool) -> None:
        """As References.add."""
        async with self._database.transaction() as transaction:
            if values:
                await transaction.execute(
                    "INSERT INTO reference_values (project, source, field, value)"
                    " VALUES (:project, :source, :field, :value) ON CONFLICT DO NOTHING",
                    [{**_params(place), "value": value - _SIGN} for value in values],
                )
            await transaction.execute(
                "INSERT INTO reference_books (project, source, field, is_whole)"
                " VALUES (:project, :source, :field, :is_whole)"
                " ON CONFLICT (project, source, field) DO UPDATE SET is_whole = excluded.is_whole",
                {**_params(place), "is_whole": int(is_whole)},
            )

    async def forget(self, project: str, kept: Collection[Place]) -> None:
        """As References.forget."""
        async with self._database.transaction() as transaction:
            rows = await transaction.rows(
                "SELECT source, field FROM reference_books WHERE project = :project", {"project": project}
            )
            for row in rows:
                place = (project, row["source"], row["field"])
                if place not in kept:
                    await transaction.execute(f"DELETE FROM reference_values WHERE {_WHERE}", _params(place))
                    await transaction.execute(f"DELETE FROM reference_books WHERE {_WHERE}", _params(place))

    async def column(self, place: Place, records: int) -> AsyncIterator[list[Any]]:
        """As References.column."""
        project, source, field = place
        topic = data_topic(project, source)
        partitions = len(await self._bus.partitions(topic))
        reader = self._bus.reader([topic])
        try:
            await reader.start()
            if records:
                await reader.go_to_tail(max(1, records // max(1, partitions)))
            left = await reader.behind()  # what comes later is the lane's to tell
            while left > 0:
                for batch in await reader.poll(POLL_RECORDS, POLL_WAIT_MS):
                    left -= len(batch.records)
                    yield [_value(record.headers, record.data, field) for record in batch.records]
                if left > 0 and not await reader.behind():
                    return  # offsets without records: compaction, transactions
        finally:
            await reader.stop()


def _value(headers: Sequence[tuple[str, bytes]], data: bytes, field: str) -> Any:
    """The field's value; None for a heartbeat and for what is no row of ours."""
    if ("ce_type", HEARTBEAT.encode()) in headers:
        return None
    try:
        return _decode(data).get(field)
    except msgspec.DecodeError:
        return None


def _params(place: Place) -> dict[str, Any]:
    return dict(zip(("project", "source", "field"), place, strict=True))
