"""Rows of superseded snapshots out of the runs' folders; the runs are marked."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from millrace.runtime.forgetting import Obeyed
from millrace.stores.sql import Database
from millrace.stores.superseded import note_superseded
from millrace.wire.ingestion.v1.forgetting_pb2 import Forget

ROWS = ("rows.arrow", "rows.arrow.part")


class RowsForgetting:
    """Obeys requests. A run that is under way ends as it would, and is marked; one that begins again over a snapshot
    that is gone fails with the name of the one that took its place."""

    def __init__(self, database: Database, folder: Path, now_us: Callable[[], int]) -> None:
        self._database = database
        self._folder = folder
        self._now_us = now_us

    async def obey(self, request: Forget) -> Obeyed:
        """Idempotent. Raises StoreUnavailable: to be repeated."""
        done = Obeyed()
        await note_superseded(self._database, request, self._now_us())
        runs: list[str] = []
        async with self._database.read() as transaction:
            for one in request.snapshots:
                found = await transaction.rows(
                    "SELECT run_id FROM runs WHERE snapshot_digest = :digest ORDER BY run_id", {"digest": one.digest}
                )
                runs += [row["run_id"] for row in found]
        files = await asyncio.to_thread(self._delete, runs)
        now_us = self._now_us()
        done.add("trainer: cached rows", files, now_us, "files in the folders of runs")
        done.add("trainer: runs marked", len(runs), now_us, ", ".join(runs) or "no run used a snapshot that held it")
        return done

    def _delete(self, runs: list[str]) -> int:
        deleted = 0
        for path in (self._folder / run / name for run in runs for name in ROWS):
            if path.exists():
                path.unlink()
                deleted += 1
        return deleted
