"""A room's database in ClickHouse, over its HTTP interface."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import clickhouse_connect
import pyarrow as pa
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import Error as ClickHouseError
from clickhouse_connect.driver.exceptions import OperationalError

from millrace.bus.backoff import Backoff
from millrace.stores.errors import StoreUnavailable
from millrace.stores.migrations import read_migrations

T = TypeVar("T")

THREADS = 8  # concurrent queries of one process; more wait their turn
READY_DEADLINE_S = 60.0
CALL_TIMEOUT_S = 120.0


class ClickHouse:
    """The client's blocking calls run in a bounded pool of threads.

    Parameters are bound by the server: `{name:Type}` in the SQL.
    """

    def __init__(self, url: str, *, database: str) -> None:
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", database):
            raise ValueError(f"{database!r} is not a database name")
        self._url = url
        self._database = database
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix=f"clickhouse-{database}")
        self._client: Client | None = None

    async def start(self, migrations: Path | None = None, deadline_s: float = READY_DEADLINE_S) -> None:
        """Wait until reachable, create the database, run each of `migrations/*.sql` once, in order of name.

        Raises StoreUnavailable after `deadline_s`.
        """
        await self._connect(deadline_s)
        await self.command(
            "CREATE TABLE IF NOT EXISTS migrations (name String) ENGINE = ReplacingMergeTree ORDER BY name"
        )
        done = {row["name"] for row in await self.query_rows("SELECT name FROM migrations")}
        for name, script in await read_migrations(migrations):
            if name not in done:
                for statement in script:
                    await self.command(statement)
                await self.command("INSERT INTO migrations VALUES ({name:String})", {"name": name})

    async def insert_arrow(self, table: str, batch: pa.Table, token: str = "") -> None:
        """Insert all rows of `batch`; `token` lets ClickHouse drop a repeat of the same insert (a fast path only)."""
        settings = {"insert_deduplication_token": token} if token else {}
        await self._call(lambda client: client.insert_arrow(table, batch, settings=settings))

    async def query_arrow(
        self, sql: str, params: Mapping[str, Any] | None = None, settings: Mapping[str, Any] | None = None
    ) -> pa.Table:
        """The answer as an Arrow table, strings as Arrow strings."""
        return await self._call(
            lambda client: client.query_arrow(
                sql, parameters=dict(params or {}), settings=dict(settings or {}), use_strings=True
            )
        )

    async def query_rows(self, sql: str, params: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        """The answer as dictionaries of column to value."""
        result = await self._call(lambda client: client.query(sql, parameters=dict(params or {})))
        return [dict(zip(result.column_names, row, strict=True)) for row in result.result_rows]

    async def command(self, sql: str, params: Mapping[str, Any] | None = None) -> None:
        """A statement without an answer."""
        await self._call(lambda client: client.command(sql, parameters=dict(params or {})))

    async def close(self) -> None:
        """Close the connections; running queries are waited for."""
        client, self._client = self._client, None
        if client is not None:
            await asyncio.to_thread(client.close)
        await asyncio.to_thread(self._pool.shutdown)

    async def _connect(self, deadline_s: float) -> None:
        backoff = Backoff(cap_s=1.0)
        deadline = asyncio.get_running_loop().time() + deadline_s
        while self._client is None:
            try:
                self._client = await self._on_pool(self._open)
            except StoreUnavailable:
                if asyncio.get_running_loop().time() > deadline:
                    raise
                await backoff.wait()

    def _open(self) -> Client:
        """Create the database with a client of the default one, then open ours."""
        # Without sessions one client may serve several threads.
        options: dict[str, Any] = {
            "dsn": self._url,
            "autogenerate_session_id": False,
            "connect_timeout": 5,
            "send_receive_timeout": CALL_TIMEOUT_S,
        }
        first = clickhouse_connect.get_client(**options)
        try:
            first.command(f"CREATE DATABASE IF NOT EXISTS {self._database}")
        finally:
            first.close()
        return clickhouse_connect.get_client(**options, database=self._database)

    async def _call(self, call: Callable[[Client], T]) -> T:
        client = self._client
        if client is None:
            raise StoreUnavailable(f"the ClickHouse database {self._database} is not open")
        return await self._on_pool(lambda: call(client))

    async def _on_pool(self, call: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, call)
        except (OperationalError, OSError) as error:
            raise StoreUnavailable(f"ClickHouse: {error}") from error
        except ClickHouseError as error:
            if _is_connection_failure(error):
                raise StoreUnavailable(f"ClickHouse: {error}") from error
            raise


def _is_connection_failure(error: ClickHouseError) -> bool:
    text = str(error)
    return any(
        sign in text for sign in ("Connection", "refused", "timed out", "Max retries", "TOO_MANY", "MEMORY_LIMIT")
    )
