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

_BLANKED = "UPDATE texts = mapApply((input, text) -> (input, if(text = {name:String}, '', text)), texts)"


class LogErasing:
    """Obeys requests: about the project's examples their rows go; what else names the entity is taken out of the inputs
    of the predictions that were made with it."""

    def __init__(self, clickhouse: ClickHouse, now_us: Callable[[], int]) -> None:
        self._clickhouse = clickhouse
        self._now_us = now_us

    async def obey(self, request: Forget) -> Obeyed:
        """Idempotent. Raises StoreUnavailable: to be repeated."""
        done = Obeyed()
        if request.phase == Forget.DONE:
            return done
        if request.HasField("example"):
            await self._erase_example(request, done)
        await self._blank_inputs(request, done)
        return done

    async def _erase_example(self, request: Forget, done: Obeyed) -> None:
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

    async def _blank_inputs(self, request: Forget, done: Obeyed) -> None:
        cuts: dict[str, int] = {}
        for identity in request.identities:
            cuts[identity.entity] = max(identity.cut_us, cuts.get(identity.entity, 0))
        for name, cut_us in cuts.items():
            params = {"project": request.project, "name": name, "cut": cut_us, "sealed": request.sealed_us}
            where = f"project = {{project:String}} AND has(mapValues(texts), {{name:String}}) AND {_OLD['predictions']}"
            rows = await erase_rows(self._clickhouse, "predictions", where, params, instead=_BLANKED)
            if rows:
                how = "null among the inputs; parts of the table are rewritten"
                done.add("monitor: inputs of predictions", rows, self._now_us() + CLEANED_US, how)
