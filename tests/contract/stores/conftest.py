"""One suite, three databases: SQLite in memory (the twin), in a file, and PostgreSQL; and every object store."""

import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from millrace.stores.objects import FolderObjects, MemoryObjects, Objects, S3Objects, open_objects
from millrace.stores.sql import Database

from tests.support.postgres import postgres
from tests.support.s3 import s3, use_s3

__all__ = ["postgres", "s3"]

MIGRATION = """
-- a table; with a comment that has a semicolon; in it
CREATE TABLE things (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  name TEXT NOT NULL UNIQUE,  -- trailing; comment
  size DOUBLE PRECISION,
  body BLOB,
  big INTEGER NOT NULL DEFAULT 0
);
INSERT INTO things (name) VALUES ('from;migration');
"""


@pytest.fixture(params=["memory", "file", "postgres"])
async def open_database(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Callable]:
    """Opens the same database at each call (a new one for `memory`, which has no other process)."""
    room = f"room_{uuid.uuid4().hex[:8]}"
    url = {"memory": "sqlite://", "file": f"sqlite:///{tmp_path}/deep/room.db"}.get(request.param)
    url = url or request.getfixturevalue("postgres")
    migrations = tmp_path / "migrations"
    migrations.mkdir()
    (migrations / "0001_things.sql").write_text(MIGRATION)
    opened: list[Database] = []

    async def open_one() -> Database:
        opened.append(Database(url, room=room))
        await opened[-1].start(migrations)
        return opened[-1]

    open_one.kind = request.param
    yield open_one
    for database in opened:
        await database.stop()


@pytest.fixture
async def database(open_database: Callable) -> Database:
    return await open_database()


@pytest.fixture(params=["memory", "folder", "remote", "s3"])
def objects(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Objects:
    """`remote` is fsspec's memory file system; `s3` a server, reached by the settings of the compose file."""

    def in_a_bucket() -> Objects:
        environment = request.getfixturevalue("s3")
        use_s3(environment, monkeypatch)
        return open_objects(f"{environment['MILLRACE_OBJECTS_URL']}/{uuid.uuid4().hex}")

    return {
        "memory": MemoryObjects,
        "folder": lambda: FolderObjects(tmp_path / "objects"),
        "remote": lambda: S3Objects(f"memory://bucket-{uuid.uuid4().hex}/prefix"),
        "s3": in_a_bucket,
    }[request.param]()
