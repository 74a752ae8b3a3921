"""Handlers and runners that the bus suite shares."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from millrace.bus.effects import Effects
from millrace.bus.errors import UnknownTopic
from millrace.bus.events import Batch, Record
from millrace.bus.ports import Bus
from millrace.runtime.errors import Policy, RoomError

from tests.support.poll import until


class Killed(RoomError):
    """Stands for kill -9: the worker stops where it is."""

    policy = Policy.CRASH


class Poison(RoomError):
    """A record that can never be handled."""


class Away(RoomError):
    """A store that is gone for now."""

    policy = Policy.RETRY


class Sink:
    """Remembers what was handled; `fail` may raise first."""

    def __init__(self, fail: Callable[[Batch], None] = lambda batch: None) -> None:
        self.batches: list[Batch] = []
        self.fail = fail

    async def handle(self, batch: Batch, effects: Effects) -> None:
        self.fail(batch)
        self.batches.append(batch)

    @property
    def records(self) -> list[Record]:
        return [record for batch in self.batches for record in batch.records]

    @property
    def texts(self) -> list[str]:
        return [record.data.decode() for record in self.records]


@asynccontextmanager
async def running(run: Callable[[], Awaitable[None]]) -> AsyncIterator[asyncio.Task[None]]:
    """`run` as a task, cancelled and awaited at the end; what it raised by itself is raised here."""
    task = asyncio.ensure_future(run())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait([task])
    if not task.cancelled() and task.exception() is not None:
        raise task.exception()


async def everything(bus: Bus, topic: str, count: int, deadline_s: float = 15.0) -> list[Record]:
    """The first `count` records of a topic, read without a group."""
    reader = bus.reader([topic])
    found: list[Record] = []

    async def there() -> bool:
        try:
            await reader.start()
        except UnknownTopic:
            return False
        return True

    async def enough() -> bool:
        for batch in await reader.poll(1000, 50):
            found.extend(batch.records)
        return len(found) >= count

    await until(there, deadline_s, what=f"topic {topic}")
    try:
        await until(enough, deadline_s, what=f"{count} records in {topic}")
    finally:
        await reader.stop()
    return found
