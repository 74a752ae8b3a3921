"""One entity out of the room's database: examples, truths, tasks, and what was about to be told of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from millrace.stores.sql import Database, Transaction
from millrace.wire.ingestion.v1.forgetting_pb2 import Forget
from millrace.wire.labeling.v1.events_pb2 import TaskChanged

_OF_ENTITY = "project = :project AND entity = :entity"
_UNPUBLISHED = "SELECT seq, topic, message_key, data FROM outbox WHERE topic IN ('labels', 'labels.tasks')"


class SqlForgetting:
    """Deletes in one transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def erase(self, request: Forget) -> dict[str, int]:
        """Rows deleted by table. What was visible later, about a later moment, stays. Raises StoreUnavailable."""
        example = request.example
        params = {
            "project": request.project,
            "entity": example.entity,
            "cut_us": example.cut_us,
            # A record stamped within time that was closed counts here as visible just after it.
            "until_us": example.cut_us + 1,
            "sealed_us": request.sealed_us,
        }
        old_example = f"{_OF_ENTITY} AND (moment_us <= :cut_us OR visible_us <= :until_us)"
        old_task = f"{_OF_ENTITY} AND (moment_us <= :cut_us OR created_us <= :sealed_us)"
        statements = {
            "given": f"DELETE FROM given WHERE task_id IN (SELECT task_id FROM tasks WHERE {old_task})",
            "tasks": f"DELETE FROM tasks WHERE {old_task}",
            "examples": f"DELETE FROM examples WHERE {old_example}",
            "truths": f"DELETE FROM truths WHERE {_OF_ENTITY} AND visible_us <= :until_us",
        }
        async with self._database.erasing() as transaction:
            erased = {table: await transaction.execute(sql, params) for table, sql in statements.items()}
            erased["outbox"] = await _unpublished(transaction, request)
        self._database.mark_published(erased["outbox"])
        return erased


async def _unpublished(transaction: Transaction, request: Forget) -> int:
    mine = [row["seq"] for row in await transaction.rows(_UNPUBLISHED) if _is_of(row, request)]
    for seq in mine:
        await transaction.execute("DELETE FROM outbox WHERE seq = :seq", {"seq": seq})
    return len(mine)


def _is_of(row: Mapping[str, Any], request: Forget) -> bool:
    project, entity = request.project, request.example.entity
    if row["topic"] == "labels":
        return bytes(row["message_key"] or b"").startswith(f"{project}/{entity}/".encode())
    key = TaskChanged.FromString(bytes(row["data"])).key
    return bool(key.project == project and key.entity == entity)
