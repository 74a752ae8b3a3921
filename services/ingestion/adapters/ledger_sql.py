"""Clocks, leases, open windows and the hashing secret in this room's database."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import msgspec
from millrace.stores.sql import Database

from services.ingestion.errors import ClockHeld, NoSuchLease
from services.ingestion.ports import ClockRow

_COLUMNS = "project, now_us, lease_id, holder, expires_us"
_SAVE_WINDOW = (
    "INSERT INTO windows (project, source, state) VALUES (:project, :source, :state)"
    " ON CONFLICT (project, source) DO UPDATE SET state = excluded.state"
)


class SqlLedger:
    """The ports' Ledger over SQLite or PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def clocks(self) -> list[ClockRow]:
        """As Ledger.clocks."""
        async with self._database.read() as transaction:
            return [ClockRow(**row) for row in await transaction.rows(f"SELECT {_COLUMNS} FROM project_clocks")]

    async def lease(self, wanted: ClockRow, wall_us: int) -> ClockRow:
        """As Ledger.lease."""
        async with self._database.transaction() as transaction:
            await transaction.execute(
                "INSERT INTO project_clocks (project, now_us, lease_id, holder, expires_us)"
                " VALUES (:project, 0, '', '', 0) ON CONFLICT (project) DO NOTHING",
                {"project": wanted.project},
            )
            taken = await transaction.execute(
                "UPDATE project_clocks SET lease_id = :lease_id, holder = :holder, expires_us = :expires_us"
                " WHERE project = :project AND (lease_id = '' OR expires_us <= :wall_us)",
                {**_params(wanted), "wall_us": wall_us},
            )
            row = await transaction.row(
                f"SELECT {_COLUMNS} FROM project_clocks WHERE project = :project", {"project": wanted.project}
            )
        current = ClockRow(**row) if row else wanted
        if taken == 0:
            left_s = max(0, current.expires_us - wall_us) / 1e6
            raise ClockHeld(f"the clock of {wanted.project} is held by {current.holder!r} for {left_s:.0f} s more")
        return replace(wanted, now_us=current.now_us)

    async def move(self, row: ClockRow, windows: Mapping[tuple[str, str], Mapping[str, Any]]) -> None:
        """As Ledger.move."""
        async with self._database.transaction() as transaction:
            moved = await transaction.execute(
                "UPDATE project_clocks SET now_us = :now_us, expires_us = :expires_us"
                " WHERE project = :project AND lease_id = :lease_id",
                {k: v for k, v in _params(row).items() if k != "holder"},
            )
            if moved == 0:
                raise NoSuchLease(f"the lease on the clock of {row.project} went to somebody else")
            await transaction.execute(_SAVE_WINDOW, _window_rows(windows))

    async def release(self, project: str, lease_id: str) -> None:
        """As Ledger.release."""
        async with self._database.transaction() as transaction:
            released = await transaction.execute(
                "UPDATE project_clocks SET lease_id = '', holder = '', expires_us = 0"
                " WHERE project = :project AND lease_id = :lease_id",
                {"project": project, "lease_id": lease_id},
            )
        if released == 0:
            raise NoSuchLease(f"the lease on the clock of {project} went to somebody else")

    async def windows(self) -> dict[tuple[str, str], Mapping[str, Any]]:
        """As Ledger.windows."""
        async with self._database.read() as transaction:
            rows = await transaction.rows("SELECT project, source, state FROM windows")
        return {(row["project"], row["source"]): msgspec.json.decode(row["state"]) for row in rows}

    async def save_windows(self, windows: Mapping[tuple[str, str], Mapping[str, Any]]) -> None:
        """As Ledger.save_windows."""
        if windows:
            async with self._database.transaction() as transaction:
                await transaction.execute(_SAVE_WINDOW, _window_rows(windows))

    async def secret(self, fresh: bytes) -> bytes:
        """As Ledger.secret."""
        async with self._database.transaction() as transaction:
            await transaction.execute(
                "INSERT INTO secrets (name, value) VALUES ('pii', :value) ON CONFLICT (name) DO NOTHING",
                {"value": fresh.hex()},
            )
            row = await transaction.row("SELECT value FROM secrets WHERE name = 'pii'")
        return bytes.fromhex(row["value"]) if row else fresh


def _params(row: ClockRow) -> dict[str, Any]:
    return {
        "project": row.project,
        "now_us": row.now_us,
        "lease_id": row.lease_id,
        "holder": row.holder,
        "expires_us": row.expires_us,
    }


def _window_rows(windows: Mapping[tuple[str, str], Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [
        {"project": project, "source": source, "state": msgspec.json.encode(state).decode()}
        for (project, source), state in windows.items()
    ]
