"""Events that wait on disk until the platform is back: in order, across restarts and a kill -9."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from millrace.client.batching import cut
from millrace.client.errors import SpoolFull, SpoolTaken
from millrace.wire.ingestion.v1 import service_pb2

MAX_BYTES = 1024**3
_SCHEMA = """
CREATE TABLE IF NOT EXISTS events (seq INTEGER PRIMARY KEY AUTOINCREMENT, source TEXT NOT NULL, event BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS events_by_source ON events (source, seq);
"""


@dataclass(frozen=True, slots=True)
class Waiting:
    """The oldest events of the source whose turn it is."""

    source: str
    events: list[service_pb2.DataEvent]
    last_seq: int


class Spool:
    """One SQLite file, owned by one producer at a time; an event that `add` took is on the disk when it returns.

    Calls block for the time of a small write. Raises SpoolTaken when another producer has the file.
    """

    def __init__(self, file: Path, max_bytes: int = MAX_BYTES) -> None:
        self._file = file
        self._max_bytes = max_bytes
        file.parent.mkdir(parents=True, exist_ok=True)
        self._database = sqlite3.connect(file, isolation_level=None, timeout=0, check_same_thread=False)
        try:
            self._database.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._database.execute("PRAGMA journal_mode = WAL")
            self._database.execute("PRAGMA synchronous = FULL")
            self._database.executescript(_SCHEMA)
            counts = self._database.execute("SELECT count(*), coalesce(sum(length(event)), 0) FROM events").fetchone()
        except sqlite3.OperationalError as error:
            self._database.close()
            raise SpoolTaken(f"{file}: another producer has it, give each its own folder ({error})") from error
        self.waiting: int = counts[0]
        self._bytes: int = counts[1]

    def add(self, source: str, events: Sequence[service_pb2.DataEvent]) -> None:
        """Takes all of them or, with SpoolFull, none."""
        rows = [(source, event.SerializeToString()) for event in events]
        size = sum(len(data) for _, data in rows)
        if self._bytes + size > self._max_bytes:
            raise SpoolFull(
                f"{self._file}: {self.waiting} events wait for the platform, and {len(rows)} more would make more than "
                f"{self._max_bytes} bytes: these are not taken"
            )
        try:
            with self._database:
                self._database.execute("BEGIN")
                self._database.executemany("INSERT INTO events (source, event) VALUES (?, ?)", rows)
        except sqlite3.OperationalError as error:
            raise SpoolFull(f"{self._file}: {len(rows)} events cannot be written and are not taken: {error}") from error
        self.waiting += len(rows)
        self._bytes += size

    def head(self, most: int, most_bytes: int) -> Waiting | None:
        """At most so many events and bytes, but one event at least, of the source whose event waits longest; None when
        nothing waits."""
        oldest = self._database.execute("SELECT source FROM events ORDER BY seq LIMIT 1").fetchone()
        if oldest is None:
            return None
        rows = self._database.execute(
            "SELECT seq, event FROM events WHERE source = ? ORDER BY seq LIMIT ?", (oldest[0], most)
        )
        batch = next(cut(rows, lambda row: len(row[1]), most, most_bytes))
        return Waiting(oldest[0], [service_pb2.DataEvent.FromString(data) for _, data in batch], batch[-1][0])

    def remove(self, done: Waiting) -> None:
        """Forgets what `head` gave."""
        with self._database:
            self._database.execute("BEGIN")
            where = "FROM events WHERE source = ? AND seq <= ?"
            place = (done.source, done.last_seq)
            rows, size = self._database.execute(f"SELECT count(*), sum(length(event)) {where}", place).fetchone()
            self._database.execute(f"DELETE {where}", place)
        self.waiting -= rows
        self._bytes -= size

    def close(self) -> None:
        """Gives the file free; what waits stays in it."""
        self._database.close()
