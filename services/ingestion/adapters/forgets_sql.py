"""Requests to forget, their receipts and their proofs, in this room's database."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from millrace.stores.sql import Database, Transaction
from millrace.wire.ingestion.v1.forgetting_pb2 import Forget, ForgetReceipt

from services.ingestion.ports import ForgetRow, Reveal

_NAMES = (
    *("id", "project", "entity_digest", "fields", "reason", "actor", "asked_us", "done_us", "phase", "published"),
    *("request", "seq", "proof", "signature"),
)
_COLUMNS = ", ".join(_NAMES)
_VALUES = ", ".join(f":{name}" for name in _NAMES)


class SqlForgets:
    """The ports' Forgets over SQLite or PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def save(self, row: ForgetRow) -> None:
        """As Forgets.save."""
        async with self._database.erasing() as transaction:
            await transaction.execute(
                f"INSERT INTO forgets ({_COLUMNS}) VALUES ({_VALUES})"
                " ON CONFLICT (id) DO UPDATE SET done_us = excluded.done_us, phase = excluded.phase,"
                " published = excluded.published, request = excluded.request, seq = excluded.seq,"
                " proof = excluded.proof, signature = excluded.signature",
                _params(row),
            )

    async def receive(self, receipt: ForgetReceipt) -> None:
        """As Forgets.receive."""
        place = {"id": receipt.id, "room": receipt.room, "replica": receipt.replica, "phase": receipt.phase}
        async with self._database.transaction() as transaction:
            known = await transaction.row(
                "SELECT receipt FROM forget_receipts"
                " WHERE id = :id AND room = :room AND replica = :replica AND phase = :phase",
                place,
            )
            if known is None:
                await transaction.execute(
                    "INSERT INTO forget_receipts (id, room, replica, phase, receipt)"
                    " VALUES (:id, :room, :replica, :phase, :receipt)",
                    {**place, "receipt": receipt.SerializeToString(deterministic=True)},
                )

    async def get(self, request_id: str) -> ForgetRow | None:
        """As Forgets.get."""
        found = await self._rows("WHERE id = :id", {"id": request_id})
        return found[0] if found else None

    async def newest(self, project: str = "", entity_digest: str = "") -> Sequence[ForgetRow]:
        """As Forgets.newest."""
        return await self._rows(
            "WHERE (:project = '' OR project = :project) AND (:digest = '' OR entity_digest = :digest)"
            " ORDER BY asked_us DESC",
            {"project": project, "digest": entity_digest},
        )

    async def last_proof(self) -> tuple[int, str]:
        """As Forgets.last_proof."""
        async with self._database.read() as transaction:
            row = await transaction.row("SELECT seq, proof FROM forgets ORDER BY seq DESC LIMIT 1")
        return (row["seq"], row["proof"]) if row else (0, "")

    async def proof_before(self, seq: int) -> str:
        """As Forgets.proof_before."""
        async with self._database.read() as transaction:
            row = await transaction.row("SELECT proof FROM forgets WHERE seq = :seq", {"seq": seq - 1})
        return str(row["proof"]) if row and seq > 1 else ""

    async def note(self, reveal: Reveal) -> None:
        """As Forgets.note."""
        async with self._database.transaction() as transaction:
            await transaction.execute(
                "INSERT INTO reveals (project, source, entity_digest, fields, reason, actor, revealed_us)"
                " VALUES (:project, :source, :entity_digest, :fields, :reason, :actor, :revealed_us)",
                {
                    "project": reveal.project,
                    "source": reveal.source,
                    "entity_digest": reveal.entity_digest,
                    "fields": json.dumps(reveal.fields),
                    "reason": reveal.reason,
                    "actor": reveal.actor,
                    "revealed_us": reveal.revealed_us,
                },
            )

    async def reveals(self, project: str) -> Sequence[Reveal]:
        """As Forgets.reveals."""
        async with self._database.read() as transaction:
            rows = await transaction.rows(
                "SELECT project, source, entity_digest, fields, reason, actor, revealed_us FROM reveals"
                " WHERE :project = '' OR project = :project ORDER BY seq DESC LIMIT 1000",
                {"project": project},
            )
        return [Reveal(**{**row, "fields": tuple(json.loads(row["fields"]))}) for row in rows]

    async def _rows(self, where: str, params: Mapping[str, Any]) -> list[ForgetRow]:
        async with self._database.read() as transaction:
            rows = await transaction.rows(f"SELECT {_COLUMNS} FROM forgets {where}", params)
            return [_row(row, await _receipts(transaction, row["id"])) for row in rows]


async def _receipts(transaction: Transaction, request_id: str) -> list[ForgetReceipt]:
    rows = await transaction.rows(
        "SELECT receipt FROM forget_receipts WHERE id = :id ORDER BY phase, room, replica", {"id": request_id}
    )
    return [ForgetReceipt.FromString(bytes(row["receipt"])) for row in rows]


def _row(row: Mapping[str, Any], receipts: list[ForgetReceipt]) -> ForgetRow:
    values = {name: row[name] for name in row if name not in ("fields", "phase", "request")}
    request = Forget.FromString(bytes(row["request"]))
    return ForgetRow(**values, fields=json.loads(row["fields"]), request=request, receipts=receipts)


def _params(row: ForgetRow) -> dict[str, Any]:
    names = ("id", "project", "entity_digest", "reason", "actor", "asked_us", "done_us", "published", "seq", "proof")
    return {name: getattr(row, name) for name in names} | {
        "signature": row.signature,
        "fields": json.dumps(row.fields),
        "phase": row.request.phase,
        "request": row.request.SerializeToString(deterministic=True),
    }
