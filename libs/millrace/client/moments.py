"""Asks for a prediction of every example of a replayed project when its moment comes."""

from __future__ import annotations

import asyncio
import heapq
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from millrace.definitions.keys import entity_key
from millrace.definitions.model import FieldType, Project
from millrace.expressions import parse

Due = tuple[int, str]  # moment_us, entity
Ask = Callable[[Sequence[Due]], Awaitable[list[str]]]
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Moments:
    """Remembers the events that ask for a prediction and asks when the project's clock reaches their moments.

    `ask` makes one request for at most `items_per_request` examples and returns one text for each: empty, or why it
    failed. At most `concurrency` requests are under way. Whatever is announced only after its moment has passed is
    asked at the next opportunity, and never before it is available. What is due at `after_us` or before is left out.
    """

    def __init__(
        self,
        project: Project,
        ask: Ask,
        *,
        after_us: int | None = None,
        items_per_request: int = 16,
        concurrency: int = 4,
    ) -> None:
        self._after_us = after_us
        self._source = project.predict.source
        self._entity = project.predict.entity
        self._moment = parse(project.predict.moment)
        fields = project.source(self._source).fields
        self._times = [f.name for f in fields if f.type is FieldType.TIMESTAMP and f.name in self._moment.names]
        self._ask = ask
        self._items_per_request = items_per_request
        self._concurrency = concurrency
        self._waiting: list[tuple[int, Due]] = []  # due_us, what to ask then
        self.latencies_s: list[float] = []
        self.failures: list[str] = []
        self.asked = 0

    def see(self, source: str, payload: bytes, available_us: int = 0) -> None:
        """Take note of an event; of no effect when it asks for no prediction or does not name entity and moment.

        What breaks its contract so far that neither can be read is ingestion's to refuse, and asks for nothing.
        """
        if source != self._source:
            return
        try:
            entity, moment_us = self._read(payload)
        except (ValueError, OverflowError):
            return
        if entity and moment_us is not None:
            due_us = max(moment_us, available_us)
            if self._after_us is None or due_us > self._after_us:
                heapq.heappush(self._waiting, (due_us, (moment_us, entity)))

    def _read(self, payload: bytes) -> tuple[str, int | None]:
        """(entity, moment); raises ValueError or OverflowError where they cannot be read."""
        row: Any = msgspec.json.decode(payload)
        if not isinstance(row, dict):
            raise ValueError("an event is one JSON object")
        for name in self._times:
            if isinstance(row.get(name), str):
                row[name] = _time_us(row[name])
        moment = self._moment.evaluate(row)
        return entity_key(row.get(self._entity)) or "", None if moment is None else int(moment)

    def next_us(self) -> int | None:
        """When the next example is due: its moment, or when it is announced if that is later; None: nothing waits."""
        return self._waiting[0][0] if self._waiting else None

    def forget(self, now_us: int) -> int:
        """Drops what is due without asking, as long as there is nobody to ask; returns how many."""
        return len(self._due(now_us))

    async def ask_due(self, now_us: int) -> int:
        """Asks for every example whose moment is at or before `now_us`; returns how many were asked."""
        due = self._due(now_us)
        size = self._items_per_request
        requests = iter([due[start : start + size] for start in range(0, len(due), size)])
        await asyncio.gather(*(self._drain(requests) for _ in range(self._concurrency)))
        self.asked += len(due)
        return len(due)

    def _due(self, now_us: int) -> list[Due]:
        due: list[Due] = []
        while self._waiting and self._waiting[0][0] <= now_us:
            due.append(heapq.heappop(self._waiting)[1])
        return due

    async def _drain(self, requests: Iterator[list[Due]]) -> None:
        for request in requests:
            started = time.perf_counter()
            failures = await self._ask(request)
            self.latencies_s.append(time.perf_counter() - started)
            named = zip(request, failures, strict=True)
            self.failures += [f"{entity}: {failure}" for (_, entity), failure in named if failure]


def _time_us(text: str) -> int:
    """Microseconds of an ISO 8601 text with offset, as ingestion reads it; ValueError."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text} has no offset")
    return (moment - _EPOCH) // timedelta(microseconds=1)
