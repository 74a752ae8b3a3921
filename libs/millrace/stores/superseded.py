"""Which snapshots hold what was forgotten since, in a room's own database (table `superseded_snapshots`)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from millrace.stores.sql import Database, Transaction
from millrace.wire.ingestion.v1.forgetting_pb2 import Forget


async def note_superseded(database: Database, request: Forget, now_us: int) -> None:
    """Remembers what a request says of snapshots; a repeat changes nothing. Raises StoreUnavailable."""
    rows = [
        {"digest": one.digest, "superseded_by": one.by, "request": request.id, "heard_us": now_us}
        for one in request.snapshots
    ]
    async with database.transaction() as transaction:
        await transaction.execute(
            "INSERT INTO superseded_snapshots (digest, superseded_by, request, heard_us)"
            " VALUES (:digest, :superseded_by, :request, :heard_us) ON CONFLICT (digest) DO NOTHING",
            rows,
        )


async def superseded_words(transaction: Transaction, digests: Iterable[str]) -> Mapping[str, str]:
    """Digest to one sentence for people, for those of the digests that were superseded."""
    found: dict[str, str] = {}
    for digest in {digest for digest in digests if digest}:
        row = await transaction.row(
            "SELECT superseded_by, request FROM superseded_snapshots WHERE digest = :digest", {"digest": digest}
        )
        if row is not None:
            place = row["superseded_by"] or "nothing"
            found[digest] = (
                f"trained on data that was forgotten since (request {row['request']}): {place} took its place"
            )
    return found
