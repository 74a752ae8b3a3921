"""SQLite for `Database`: the standard library's driver, called on the event loop's own thread.

A statement of a room takes tens of microseconds; handing each to a thread and back costs ten times that, most of it in
waiting for the interpreter's lock. What could block for long, another process's write lock, is waited for without
blocking.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from millrace.stores.errors import StoreConflict, StoreUnavailable

BUSY_TIMEOUT_S = 15.0
IDLE_CONNECTIONS = 5
_FIRST_PAUSE_S = 0.002
_LONGEST_PAUSE_S = 0.05
_TRANSIENT = ("locked", "busy", "disk i/o", "unable to open", "disk is full", "readonly")


class SqliteFile:
    """Connections to one database file; an empty path is one private database in memory, on one connection."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._idle: list[sqlite3.Connection] = []

    @asynccontextmanager
    async def begin(self, *, write: bool) -> AsyncIterator[SqliteSession]:
        """One transaction: committed at the end of the block, rolled back when it raises.

        Raises StoreUnavailable, also when another process keeps the write lock for `BUSY_TIMEOUT_S`.
        """
        connection = self._take()
        try:
            await _begin(connection, write=write)
            try:
                yield SqliteSession(connection)
            except BaseException:
                if connection.in_transaction:  # on a full disk SQLite has rolled back by itself
                    connection.execute("ROLLBACK")
                raise
            with sqlite_errors():
                connection.execute("COMMIT")
        finally:
            self._give_back(connection)

    async def empty_log(self) -> None:
        """Writes the write-ahead log into the file and cuts it off. Raises StoreUnavailable while readers keep it."""
        connection = self._take()
        try:
            deadline_s = asyncio.get_running_loop().time() + BUSY_TIMEOUT_S
            while True:
                with sqlite_errors():
                    (is_busy, _, _) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
                if not is_busy:
                    return
                if asyncio.get_running_loop().time() > deadline_s:
                    raise StoreUnavailable(f"{self._path}: somebody keeps reading; its log still holds what was erased")
                await asyncio.sleep(_FIRST_PAUSE_S)
        finally:
            self._give_back(connection)

    def close(self) -> None:
        """Closes the idle connections; for a database in memory, forgets it."""
        while self._idle:
            self._idle.pop().close()

    def _take(self) -> sqlite3.Connection:
        return self._idle.pop() if self._idle else self._open()

    def _give_back(self, connection: sqlite3.Connection) -> None:
        if connection.in_transaction:  # a COMMIT that failed: the connection is not to be trusted
            connection.close()
        elif len(self._idle) < IDLE_CONNECTIONS:
            self._idle.append(connection)
        else:
            connection.close()

    def _open(self) -> sqlite3.Connection:
        with sqlite_errors():
            if self._path:
                Path(self._path).parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(self._path or ":memory:", isolation_level=None, timeout=0)
            for pragma in (
                "journal_mode=WAL",
                "synchronous=NORMAL",  # survives a kill; a power cut is one node's weak spot anyway
                "foreign_keys=ON",
                "cache_size=-16384",
            ):
                connection.execute(f"PRAGMA {pragma}")
        return connection


class SqliteSession:
    """Statements inside one transaction."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    async def execute(self, sql: str, params: Mapping[str, Any]) -> int:
        """Runs one statement; rows touched."""
        with sqlite_errors():
            return self._connection.execute(sql, params).rowcount

    async def execute_many(self, sql: str, params: Sequence[Mapping[str, Any]]) -> int:
        """Runs one statement for each set of parameters; rows touched."""
        with sqlite_errors():
            return self._connection.executemany(sql, params).rowcount

    async def rows(self, sql: str, params: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        """All rows of a query."""
        with sqlite_errors():
            cursor = self._connection.execute(sql, params)
            names = [column[0] for column in cursor.description or ()]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


@contextmanager
def sqlite_errors() -> Iterator[None]:
    """Turn the driver's failures into ours; what is a mistake in the SQL stays as it is."""
    try:
        yield
    except sqlite3.IntegrityError as error:
        raise StoreConflict(str(error)) from error
    except sqlite3.DatabaseError as error:
        if any(word in str(error).lower() for word in _TRANSIENT):
            raise StoreUnavailable(str(error)) from error
        raise
    except OSError as error:
        raise StoreUnavailable(f"{type(error).__name__}: {error}") from error


async def _begin(connection: sqlite3.Connection, *, write: bool) -> None:
    loop = asyncio.get_running_loop()
    deadline_s, pause_s = loop.time() + BUSY_TIMEOUT_S, _FIRST_PAUSE_S
    while True:
        try:
            with sqlite_errors():
                # IMMEDIATE: the write lock is waited for here, not refused in the middle of the transaction.
                connection.execute("BEGIN IMMEDIATE" if write else "BEGIN")
            return
        except StoreUnavailable:
            if loop.time() > deadline_s:
                raise
        await asyncio.sleep(pause_s)
        pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)
