"""The room's state over SQLite in memory."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from millrace.bus.events import Event
from millrace.bus.memory import MemoryBus
from millrace.bus.outbox import OutboxRelay
from millrace.stores.sql import Database

import services.labeling
from services.labeling.adapters.labels_sql import SqlLabelBook
from services.labeling.handlers.data import DataHandler
from tests.unit.labeling.world import Logs, OneProject, effects

MIGRATIONS = Path(services.labeling.__file__).parent / "entrypoints" / "migrations" / "sql"


async def open_database() -> Database:
    database = Database("sqlite://", room="labeling")
    await database.start(MIGRATIONS)
    return database


class Bench:
    """A DataHandler over a database of its own, and what it has published."""

    def __init__(self, database: Database, projects: OneProject, most_examples: int) -> None:
        self.database = database
        self.book = SqlLabelBook(database)
        self.projects = projects
        self.handler = DataHandler(self.book, projects, most_examples=most_examples)
        self.logs = Logs()
        self.bus = Collector()
        self.taken: dict[tuple[str, int], int] = {}

    async def feed(self, *messages) -> None:
        """Append, then hand over everything new, one batch per partition."""
        self.logs.append(messages)
        for place, log in self.logs.partitions.items():
            start = self.taken.get(place, 0)
            if len(log) > start:
                await self.handler.handle(self.logs.batch(place, start, len(log)), effects())
                self.taken[place] = len(log)

    async def published(self) -> list[Event]:
        """Everything published so far, in order."""
        await OutboxRelay(self.database, self.bus).drain()
        return self.bus.events


class Collector(MemoryBus):
    """A bus that remembers what was published, in the order of publishing."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[Event] = []

    async def publish(self, messages) -> None:
        self.events.extend(message.event for message in messages)


@pytest.fixture
async def make_bench() -> AsyncIterator:
    opened: list[Database] = []

    async def make(projects: OneProject | None = None, most_examples: int = 1000) -> Bench:
        opened.append(await open_database())
        return Bench(opened[-1], projects or OneProject(), most_examples)

    yield make
    for database in opened:
        await database.stop()


@pytest.fixture
async def bench(make_bench) -> Bench:
    return await make_bench()
