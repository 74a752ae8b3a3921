"""What serving replicas say of the versions they load, in SQL."""

from __future__ import annotations

from dataclasses import dataclass

from millrace.stores.sql import Transaction
from millrace.wire.inference.v1 import events_pb2

FAILED = "failed"
READY = "ready"


@dataclass(frozen=True, slots=True)
class Loading:
    """How a version fares over all replicas that run the current plan."""

    ready: int
    failed: int
    pending: int
    reason: str


class Replicas:
    """The repository of one transaction."""

    def __init__(self, transaction: Transaction) -> None:
        self._sql = transaction

    async def report(self, status: events_pb2.ServingStatus) -> list[int]:
        """Keeps a replica's words, an older epoch never over a newer one; the versions whose state changed."""
        params = {"model": status.model, "replica": status.replica}
        rows = await self._sql.rows(
            "SELECT version, epoch, state, reason FROM replicas WHERE model = :model AND replica = :replica", params
        )
        known = {row["version"]: row for row in rows}
        if any(row["epoch"] > status.epoch for row in rows):
            return []
        changed = []
        for variant in status.variants:
            before = known.get(variant.version)
            if before is None or (before["state"], before["epoch"]) != (variant.state, status.epoch):
                changed.append(variant.version)
                await self._keep(status, variant)
        gone = known.keys() - {variant.version for variant in status.variants}
        await self._sql.execute(
            "DELETE FROM replicas WHERE model = :model AND replica = :replica AND version = :version",
            [{**params, "version": version} for version in gone],
        )
        return changed

    async def loading(self, model: str, version: int, epoch: int) -> Loading:
        """How a version fares on the replicas that run this epoch."""
        rows = await self._sql.rows(
            "SELECT state, reason FROM replicas WHERE model = :model AND version = :version AND epoch = :epoch",
            {"model": model, "version": version, "epoch": epoch},
        )
        failures = [row["reason"] for row in rows if row["state"] == FAILED]
        ready = sum(row["state"] == READY for row in rows)
        pending = len(rows) - ready - len(failures)
        return Loading(ready, len(failures), pending, failures[0] if failures else "")

    async def _keep(self, status: events_pb2.ServingStatus, variant: events_pb2.VariantStatus) -> None:
        await self._sql.execute(
            "INSERT INTO replicas (model, replica, version, epoch, state, reason, reported_us)"
            " VALUES (:model, :replica, :version, :epoch, :state, :reason, :reported_us)"
            " ON CONFLICT (model, replica, version) DO UPDATE SET epoch = excluded.epoch, state = excluded.state,"
            " reason = excluded.reason, reported_us = excluded.reported_us",
            {
                "model": status.model,
                "replica": status.replica,
                "version": variant.version,
                "epoch": status.epoch,
                "state": variant.state,
                "reason": variant.reason,
                "reported_us": status.reported_us,
            },
        )
