"""One room's SQL database: SQLite (WAL) or PostgreSQL, with an outbox and an inbox in the room's own transactions.

SQL is written once, portable, with `:named` parameters. Migrations and statements say TEXT, INTEGER (64 bit),
DOUBLE PRECISION, BLOB and BOOLEAN as INTEGER 0/1; for PostgreSQL INTEGER becomes BIGINT and BLOB becomes BYTEA.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import msgspec
from sqlalchemy import TextClause, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, IntegrityError, InterfaceError, OperationalError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from millrace.bus.events import Message
from millrace.stores.errors import StoreConflict, StoreUnavailable
from millrace.stores.migrations import read_migrations, statements
from millrace.stores.sqlite import SqliteFile

POOL_CONNECTIONS = 5
ROWS_PER_STATEMENT = 10_000  # of one executemany: bounds what is bound at once

Params = Mapping[str, Any] | Sequence[Mapping[str, Any]]

_OWN_TABLES = """
CREATE TABLE IF NOT EXISTS migrations (name TEXT PRIMARY KEY);
CREATE TABLE IF NOT EXISTS inbox (
  consumer TEXT NOT NULL, topic TEXT NOT NULL, part INTEGER NOT NULL, next_offset INTEGER NOT NULL,
  PRIMARY KEY (consumer, topic, part));
CREATE TABLE IF NOT EXISTS outbox (
  seq INTEGER PRIMARY KEY AUTOINCREMENT, topic TEXT NOT NULL, part INTEGER, message_key BLOB,
  event_id TEXT NOT NULL, headers BLOB NOT NULL, data BLOB NOT NULL);
"""


class Session(Protocol):
    """What a driver does inside one transaction."""

    async def execute(self, sql: str, params: Mapping[str, Any]) -> int:
        """Runs one statement; rows touched."""
        ...

    async def execute_many(self, sql: str, params: Sequence[Mapping[str, Any]]) -> int:
        """Runs one statement for each set of parameters; rows touched, or -1."""
        ...

    async def rows(self, sql: str, params: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        """All rows of a query."""
        ...


class Transaction:
    """Statements inside one transaction; committed when its block ends, rolled back when it raises."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.published = 0

    async def execute(self, sql: str, params: Params | None = None) -> int:
        """Run a statement, once or for each of a sequence of parameter sets (none: nothing is done); rows touched.

        The count of a statement run for many sets is what the driver says: on PostgreSQL it may be -1.
        """
        if params is None or isinstance(params, Mapping):
            return await self._session.execute(sql, params or {})
        touched = 0
        for start in range(0, len(params), ROWS_PER_STATEMENT):
            touched += await self._session.execute_many(sql, params[start : start + ROWS_PER_STATEMENT])
        return touched

    async def rows(self, sql: str, params: Mapping[str, Any] | None = None) -> list[Mapping[str, Any]]:
        """All rows of a query, as mappings of column to value."""
        return await self._session.rows(sql, params or {})

    async def row(self, sql: str, params: Mapping[str, Any] | None = None) -> Mapping[str, Any] | None:
        """The first row of a query, or None."""
        found = await self.rows(sql, params)
        return found[0] if found else None

    async def publish(self, message: Message) -> None:
        """Publish `message` if, and only if, this transaction commits."""
        await self.publish_many([message])

    async def publish_many(self, messages: Sequence[Message]) -> None:
        """As `publish`, in the order given."""
        if messages:
            await self.execute(
                "INSERT INTO outbox (topic, part, message_key, event_id, headers, data)"
                " VALUES (:topic, :part, :message_key, :event_id, :headers, :data)",
                [_outbox_row(message) for message in messages],
            )
            self.published += len(messages)

    async def seen(self, consumer: str, topic: str, partition: int, offset: int) -> bool:
        """Whether `consumer` has marked this offset, or a later one, of the partition."""
        row = await self.row(
            "SELECT next_offset FROM inbox WHERE consumer = :consumer AND topic = :topic AND part = :part",
            {"consumer": consumer, "topic": topic, "part": partition},
        )
        return row is not None and offset < row["next_offset"]

    async def mark(self, consumer: str, topic: str, partition: int, offset: int) -> None:
        """Remember that everything up to and including `offset` has taken effect. Never moves back."""
        await self.execute(
            "INSERT INTO inbox (consumer, topic, part, next_offset) VALUES (:consumer, :topic, :part, :next)"
            " ON CONFLICT (consumer, topic, part) DO UPDATE SET next_offset = excluded.next_offset"
            " WHERE excluded.next_offset > inbox.next_offset",
            {"consumer": consumer, "topic": topic, "part": partition, "next": offset + 1},
        )


class _EngineSession:
    """A Session over SQLAlchemy."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def execute(self, sql: str, params: Mapping[str, Any]) -> int:
        return int((await self._run(sql, dict(params))).rowcount)

    async def execute_many(self, sql: str, params: Sequence[Mapping[str, Any]]) -> int:
        return int((await self._run(sql, list(params))).rowcount)

    async def rows(self, sql: str, params: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        return list((await self._run(sql, dict(params))).mappings())

    async def _run(self, sql: str, params: Any) -> Any:
        with store_errors():
            return await self._connection.execute(_statement(sql), params)


class Database:
    """The database of one room. On SQLite writers queue up in this process and take the write lock at BEGIN."""

    def __init__(self, url: str, *, room: str) -> None:
        self._room = room
        self._url = make_url(url)
        self.is_sqlite = self._url.get_backend_name() == "sqlite"
        self._in_memory = self.is_sqlite and not self._url.database
        self._file: SqliteFile | None = None
        self._engine: AsyncEngine | None = None
        self._write_lock = asyncio.Lock()
        self.outbox_changed = asyncio.Event()
        self.unpublished_records = 0

    async def start(self, migrations: Path | None = None) -> None:
        """Open, create what the bus needs, run each of `migrations/NNNN_name.sql` that has not run yet, in order."""
        if self.is_sqlite:
            self._file = SqliteFile(self._url.database or "")
        else:
            self._engine = self._create_engine()
            await self._create_schema()
        async with self.transaction() as transaction:
            for statement in statements(_OWN_TABLES):
                await transaction.execute(self._portable(statement))
        for name, script in await read_migrations(migrations):
            await self._migrate(name, script)
        async with self.read() as transaction:
            row = await transaction.row("SELECT count(*) AS waiting FROM outbox")
        self.unpublished_records = int(row["waiting"]) if row else 0
        if self.unpublished_records:
            self.outbox_changed.set()

    async def stop(self) -> None:
        """Close all connections."""
        engine, self._engine = self._engine, None
        if engine is not None:
            await engine.dispose()
        file, self._file = self._file, None
        if file is not None:
            file.close()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        """A read and write transaction. Raises StoreUnavailable, StoreConflict."""
        if not self.is_sqlite:
            async with self._begin(write=True) as transaction:
                yield transaction
        else:
            async with self._write_lock, self._begin(write=True) as transaction:
                yield transaction
        if transaction.published:
            self.unpublished_records += transaction.published
            self.outbox_changed.set()

    @asynccontextmanager
    async def read(self) -> AsyncIterator[Transaction]:
        """A transaction that only reads. On SQLite it does not wait for writers, but in memory: one connection."""
        if self._in_memory:
            async with self._write_lock, self._begin(write=False) as transaction:
                yield transaction
        else:
            async with self._begin(write=False) as transaction:
                yield transaction

    @asynccontextmanager
    async def erasing(self) -> AsyncIterator[Transaction]:
        """A transaction after which SQLite holds no byte of what it deleted or replaced, in its file or its log.
        PostgreSQL uses the space again after its own VACUUM."""
        async with self.transaction() as transaction:
            if self.is_sqlite:
                await transaction.execute("PRAGMA secure_delete = ON")
            yield transaction
        if self._file is not None:
            async with self._write_lock:
                await self._file.empty_log()

    def mark_published(self, count: int) -> None:
        """The relay has published and deleted `count` rows."""
        self.unpublished_records = max(0, self.unpublished_records - count)

    @asynccontextmanager
    async def _begin(self, *, write: bool) -> AsyncIterator[Transaction]:
        if self._file is not None:
            async with self._file.begin(write=write) as session:
                yield Transaction(session)
        elif self._engine is not None:
            async with self._begin_on(self._engine) as transaction:
                yield transaction
        else:
            raise StoreUnavailable(f"the database of {self._room} is not open")

    @asynccontextmanager
    async def _begin_on(self, engine: AsyncEngine) -> AsyncIterator[Transaction]:
        with store_errors():
            connection = await engine.connect()
        try:
            with store_errors():
                begun = await connection.begin()
            try:
                yield Transaction(_EngineSession(connection))
            except BaseException:
                await asyncio.shield(begun.rollback())
                raise
            with store_errors():
                await begun.commit()
        finally:
            await asyncio.shield(connection.close())

    def _create_engine(self) -> AsyncEngine:
        search_path = {"server_settings": {"search_path": self._room}}
        return create_async_engine(self._url, pool_size=POOL_CONNECTIONS, pool_pre_ping=True, connect_args=search_path)

    async def _create_schema(self) -> None:
        async with self._begin(write=True) as transaction:
            # Two replicas may start at once: CREATE SCHEMA IF NOT EXISTS alone can fail in that race.
            await transaction.execute("SELECT pg_advisory_xact_lock(hashtext(:room))", {"room": self._room})
            await transaction.execute(f'CREATE SCHEMA IF NOT EXISTS "{self._room}"')

    async def _migrate(self, name: str, script: Sequence[str]) -> None:
        async with self.transaction() as transaction:
            if await transaction.row("SELECT name FROM migrations WHERE name = :name", {"name": name}):
                return
            for statement in script:
                await transaction.execute(self._portable(statement))
            await transaction.execute("INSERT INTO migrations (name) VALUES (:name)", {"name": name})

    def _portable(self, statement: str) -> str:
        if self.is_sqlite:
            return statement
        statement = re.sub(r"\bINTEGER PRIMARY KEY AUTOINCREMENT\b", "BIGSERIAL PRIMARY KEY", statement)
        return re.sub(r"\bBLOB\b", "BYTEA", re.sub(r"\bINTEGER\b", "BIGINT", statement))


@contextmanager
def store_errors() -> Iterator[None]:
    """Turn the drivers' failures into ours; what is a mistake in the SQL stays as it is."""
    try:
        yield
    except IntegrityError as error:
        raise StoreConflict(str(error.orig)) from error
    except (InterfaceError, OperationalError, DBAPIError) as error:
        if _is_transient(error):
            raise StoreUnavailable(str(error.orig)) from error
        raise
    except OSError as error:
        raise StoreUnavailable(f"{type(error).__name__}: {error}") from error


# PostgreSQL: connection failures, insufficient resources, operator intervention, serialization and deadlock.
_TRANSIENT_SQLSTATES = ("08", "53", "57", "40")


def _is_transient(error: DBAPIError) -> bool:
    if error.connection_invalidated:
        return True
    state = getattr(error.orig, "sqlstate", None) or getattr(error.orig, "pgcode", None)
    if state:
        return str(state).startswith(_TRANSIENT_SQLSTATES)
    return "connection" in str(error.orig).lower()


@lru_cache(maxsize=1024)
def _statement(sql: str) -> TextClause:
    return text(sql)


def _outbox_row(message: Message) -> dict[str, Any]:
    return {
        "topic": message.topic,
        "part": message.partition,
        "message_key": message.key,
        "event_id": message.event.id,
        "headers": msgspec.msgpack.encode(message.event.to_headers()),
        "data": message.event.data,
    }
