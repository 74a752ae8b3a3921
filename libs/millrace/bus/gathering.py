"""Records that come together: fewer, larger batches for sinks that nobody waits for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Set
from contextlib import suppress

from aiokafka import AIOKafkaConsumer, TopicPartition


class Gatherer:
    """Lets records come together: partitions that gave some rest for `gather_ms`, and then give at once what came
    meanwhile. Unlike the broker's own way (`fetch.min.bytes`) it can be cut short, and the first record after a pause
    comes without delay."""

    def __init__(self, gather_ms: int) -> None:
        self._gather_s = gather_ms / 1000
        self._until_s = 0.0
        self._hurried = asyncio.Event()
        self._assigned: frozenset[TopicPartition] = frozenset()
        self._read: dict[TopicPartition, int] = {}

    def hurry(self) -> None:
        """Let the rest that is going on, or else the next one, end at once."""
        self._hurried.set()

    def begin(
        self,
        consumer: AIOKafkaConsumer,
        read: Mapping[TopicPartition, int],
        end_of: Callable[[TopicPartition], int | None],
        *,
        full: bool,
        held: Set[TopicPartition] = frozenset(),
    ) -> None:
        """Lets the partitions rest from now on, unless one of them is known to hold more than was polled, or nothing is
        known of it yet. `read`: the next offset of those that gave some; `full`: there may be more of them. Those that
        are `held` are not asked."""
        if not self._gather_s or not read:
            return
        if self._assigned != consumer.assignment():
            self._assigned, self._read = consumer.assignment(), {}
        self._read |= read
        if not full and all(self._is_read(place, end_of(place)) for place in self._assigned - held):
            self._until_s = time.monotonic() + self._gather_s
            consumer.pause(*self._assigned)

    def _is_read(self, place: TopicPartition, end: int | None) -> bool:
        return end is not None and self._read.get(place, end) >= end

    async def end(self, consumer: AIOKafkaConsumer) -> None:
        """Returns when the rest is over, with the partitions awake."""
        left_s = self._until_s - time.monotonic()
        if left_s > 0:
            with suppress(TimeoutError):
                async with asyncio.timeout(left_s):
                    await self._hurried.wait()
        self._until_s = 0.0
        self._hurried.clear()
        consumer.resume(*consumer.paused())
