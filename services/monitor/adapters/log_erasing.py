"""One entity out of the prediction log and its labels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from millrace.definitions.keys import key_number
from millrace.runtime.forgetting import Obeyed
from millrace.stores.clickhouse import ClickHouse
from millrace.stores.erasing import CLEANED_US, erase_rows
from millrace.wire.ingestion.v1.forgetting_pb2 import Forget

# What is about a moment up to the cut, and what was told before the request was sealed; the rest is a new life.
_OLD = {
    "predictions": "(moment_us <= {cut:Int64} OR answered_us <= {sealed:Int64})",
    "labels": "(moment_us <= {cut:Int64} OR visible_us <= {cut:Int64} + 1)",
}

_NAMED_TEXTS = "has(mapValues(texts), {name:String})"
_BLANKED_TEXTS = "UPDATE texts = mapApply((input, text) -> (input, if(text = {name:String}, '', text)), texts)"
# Elsewhere an equal number is a coincidence.
_IS_NUMBER = "value = {number:Float64} AND splitByChar('.', input)[-1] = {field:String}"
_NAMED_NUMBERS = f"arrayExists((input, value) -> {_IS_NUMBER}, mapKeys(numbers), mapValues(numbers))"
_BLANKED_NUMBERS = f"UPDATE numbers = mapApply((input, value) -> (input, if({_IS_NUMBER}, nan, value)), numbers)"


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
        """Equal texts, and equal numbers where the input is the field by which the entity is known."""
        texts: dict[str, int] = {}
        numbers: dict[tuple[float, str], int] = {}
        for one in request.identities:
            texts[one.entity] = max(one.cut_us, texts.get(one.entity, 0))
            if (number := key_number(one.entity)) is not None:
                numbers[number, one.field] = max(one.cut_us, numbers.get((number, one.field), 0))
        blanked = 0
        for name, cut_us in texts.items():
            blanked += await self._blank(request, cut_us, _NAMED_TEXTS, _BLANKED_TEXTS, {"name": name})
        for (number, field), cut_us in numbers.items():
            params = {"number": number, "field": field}
            blanked += await self._blank(request, cut_us, _NAMED_NUMBERS, _BLANKED_NUMBERS, params)
        if blanked:
            how = "null among the inputs; parts of the table are rewritten"
            done.add("monitor: inputs of predictions", blanked, self._now_us() + CLEANED_US, how)

    async def _blank(self, request: Forget, cut_us: int, named: str, instead: str, params: Mapping[str, Any]) -> int:
        where = f"project = {{project:String}} AND {named} AND {_OLD['predictions']}"
        found = {"project": request.project, "cut": cut_us, "sealed": request.sealed_us, **params}
        return await erase_rows(self._clickhouse, "predictions", where, found, instead=instead)
