"""chDB as a bounded service: one connection per statement, at most `workers` at a time."""

import re
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chdb.state.sqlitelike import Connection

from infra.embedded.chdb.statement import Statement, settings_sql, use_sql

CODE = re.compile(r"Code: (\d+)")
TOO_MANY_SIMULTANEOUS_QUERIES = 202


@dataclass(frozen=True)
class Result:
    """Bytes in the asked format, and the counters of ClickHouse's summary header."""

    data: bytes
    format: str
    rows_read: int = 0
    rows_written: int = 0


class EngineError(Exception):
    """What the engine said, with ClickHouse's numeric code (0: none)."""

    def __init__(self, message: str, code: int = 0) -> None:
        super().__init__(message)
        found = CODE.search(message)
        self.code = code or (int(found.group(1)) if found else 0)


class Engine:
    """One chDB server on one folder. Statements on one connection run one after the other, so each gets its own."""

    def __init__(self, path: Path, *, workers: int, queue: int) -> None:
        self._path = str(path)
        # The engine lives as long as some connection: this one keeps it open between requests.
        self._anchor = Connection(self._path)
        self._pool = ThreadPoolExecutor(max_workers=workers, thread_name_prefix="engine")
        self._places = threading.BoundedSemaphore(workers + queue)

    @property
    def pool(self) -> ThreadPoolExecutor:
        """Where `run` belongs: it blocks."""
        return self._pool

    def admit(self) -> None:
        """Takes a place for one statement; EngineError 202, as ClickHouse says it, when all are taken."""
        if not self._places.acquire(blocking=False):
            raise EngineError(
                "Code: 202. DB::Exception: Too many simultaneous queries. (TOO_MANY_SIMULTANEOUS_QUERIES)",
                TOO_MANY_SIMULTANEOUS_QUERIES,
            )

    def leave(self) -> None:
        """Gives the place back."""
        self._places.release()

    def run(self, statement: Statement) -> Result:
        """Runs one statement to its end. EngineError for whatever the engine refuses."""
        connection = Connection(self._path)
        try:
            if statement.database:
                self._execute(connection, use_sql(statement.database))
            if statement.settings:
                self._execute(connection, settings_sql(statement.settings))
            if statement.input_format:
                return self._insert(connection, statement)
            answer = self._execute(connection, statement.sql, statement.output_format, dict(statement.parameters))
            return Result(
                answer.bytes() or b"",
                statement.output_format if statement.reads else "",
                rows_read=answer.rows_read(),
                rows_written=answer.rows_written(),
            )
        finally:
            connection.close()

    @staticmethod
    def _execute(
        connection: Connection, sql: str, output: str = "TabSeparated", parameters: dict[str, str] | None = None
    ) -> Any:
        try:
            # The wrapper's own query() turns some formats into Python objects; clients want the bytes.
            return connection._conn.query(sql, output, params=parameters or {})
        except RuntimeError as error:
            raise EngineError(str(error)) from error

    @staticmethod
    def _insert(connection: Connection, statement: Statement) -> Result:
        try:
            inserter = connection.send_insert(statement.sql, statement.input_format)
            with inserter:
                if statement.data:
                    inserter.append(statement.data)  # type: ignore[no-untyped-call]
                written = inserter.finish().rows_written
        except RuntimeError as error:
            raise EngineError(str(error)) from error
        return Result(b"", "", rows_written=written)

    def close(self) -> None:
        """Waits for running statements, then closes the engine: everything is on disk."""
        self._pool.shutdown(wait=True)
        self._anchor.close()
