"""One entity out of the prediction log and its labels."""

from __future__ import annotations

from collections.abc import Callable

from millrace.runtime.forgetting import Obeyed
from millrace.stores.clickhouse import ClickHouse
from millrace.stores.erasing import CLEANED_US, erase_rows
from millrace.wire.ingestion.v1.forgetting_pb2 import Forget

# What is about a moment up to the cut, and what was told before the request was sealed; the rest is a new life.
_OLD = {
    "predictions": "(moment_us <= {cut:Int64} OR answered_us <= {sealed:Int64})",
    "labels": "(moment_us <= {cut:Int64} OR visible_us <= {cut:Int64} + 1)",
}


class LogErasing:
    """Obeys requests about the project's examples; other fields mean nothing to this room."""

    def __init__(self, clickhouse: ClickHouse, now_us: Callable[[], int]) -> None:
        self._clickhouse = clickhouse
        self._now_us = now_us

    async def obey(self, request: Forget) -> Obeyed:
        """Idempotent. Raises StoreUnavailable: to be repeated."""
        done = Obeyed()
        if request.phase == Forget.DONE or not request.HasField("example"):
            return done
        example = request.example
        params = {
            "project": request.project,
            "entity": example.entity,
            "cut": example.cut_us,
            "sealed": request.sealed_us,
        }
        for table, old in _OLD.items():
            where = f"project = {{project:String}} AND entity = {{entity:String}} AND {old}"
            rows = await erase_rows(self._clickhouse, table, where, params)
            done.add(f"monitor: {table}", rows, self._now_us() + CLEANED_US, "parts of the table are rewritten")
        return done
