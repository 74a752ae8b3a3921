"""What a room's database promises, on SQLite and on PostgreSQL."""

import asyncio
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from millrace.stores.errors import StoreConflict, StoreUnavailable
from millrace.stores.sql import Database
from millrace.stores.sqlite import SqliteFile
from sqlalchemy.exc import DBAPIError

from tests.contract.bus.conftest import message


async def test_values_come_back_as_they_went_in(database: Database) -> None:
    row = {"name": "ä;':x", "size": 0.1, "body": b"\x00\xff", "big": 2**62}
    async with database.transaction() as transaction:
        await transaction.execute("INSERT INTO things (name, size, body, big) VALUES (:name, :size, :body, :big)", row)
    async with database.read() as transaction:
        found = await transaction.row(
            "SELECT name, size, body, big FROM things WHERE name = :name", {"name": row["name"]}
        )
        missing = await transaction.row("SELECT * FROM things WHERE name = 'no such'")
        migrated = await transaction.row("SELECT size, big FROM things WHERE name = 'from;migration'")
    assert {**found, "body": bytes(found["body"])} == row
    assert missing is None
    assert dict(migrated) == {"size": None, "big": 0}


async def test_what_raises_leaves_nothing_behind(database: Database) -> None:
    with pytest.raises(ZeroDivisionError):
        async with database.transaction() as transaction:
            await transaction.execute("INSERT INTO things (name) VALUES ('gone')")
            await transaction.publish(message("topic", "ghost"))
            raise ZeroDivisionError
    async with database.read() as transaction:
        assert await transaction.rows("SELECT * FROM things WHERE name = 'gone'") == []
        assert await transaction.rows("SELECT * FROM outbox") == []
    assert database.unpublished_records == 0


async def test_many_rows_go_in_by_one_call_and_none_by_an_empty_one(database: Database) -> None:
    async with database.transaction() as transaction:
        rows = [{"name": f"n{i}", "size": i / 7} for i in range(25_000)]
        await transaction.execute("INSERT INTO things (name, size) VALUES (:name, :size)", rows)
        assert await transaction.execute("INSERT INTO things (name, size) VALUES (:name, :size)", []) == 0
    async with database.read() as transaction:
        row = await transaction.row("SELECT count(*) AS n, max(size) AS top FROM things WHERE name LIKE 'n%'")
    assert dict(row) == {"n": 25_000, "top": 24_999 / 7}


async def test_a_single_statement_says_how_many_rows_it_touched(database: Database) -> None:
    async with database.transaction() as transaction:
        await transaction.execute("INSERT INTO things (name) VALUES (:n)", [{"n": "a"}, {"n": "b"}])
        assert await transaction.execute("UPDATE things SET big = 1 WHERE name IN ('a', 'b')") == 2
        assert await transaction.execute("DELETE FROM things WHERE name = :n", {"n": "nobody"}) == 0


async def test_a_broken_constraint_is_a_conflict_and_a_wrong_statement_is_not_worth_a_retry(database: Database) -> None:
    with pytest.raises(StoreConflict):
        async with database.transaction() as transaction:
            await transaction.execute("INSERT INTO things (name) VALUES ('from;migration')")
    with pytest.raises((DBAPIError, sqlite3.OperationalError)):
        async with database.transaction() as transaction:
            await transaction.execute("SELECT * FROM no_such_table")


async def test_writers_do_not_overtake_each_other(database: Database) -> None:
    async with database.transaction() as transaction:
        await transaction.execute("INSERT INTO things (name) VALUES ('counter')")

    async def add_one() -> None:
        async with database.transaction() as transaction:
            await transaction.execute("UPDATE things SET big = big WHERE name = 'counter'")  # PostgreSQL: take the row
            row = await transaction.row("SELECT big FROM things WHERE name = 'counter'")
            await transaction.execute("UPDATE things SET big = :n WHERE name = 'counter'", {"n": row["big"] + 1})

    await asyncio.gather(*[add_one() for _ in range(30)])
    async with database.read() as transaction:
        assert (await transaction.row("SELECT big FROM things WHERE name = 'counter'"))["big"] == 30


async def test_positions_move_forward_only_and_a_repeat_is_seen(database: Database) -> None:
    async with database.transaction() as transaction:
        assert not await transaction.seen("c", "t", 0, 0)
        await transaction.mark("c", "t", 0, 7)
        await transaction.mark("c", "t", 0, 3)
        assert [await transaction.seen("c", "t", 0, offset) for offset in (3, 7, 8)] == [True, True, False]
        assert not await transaction.seen("other", "t", 0, 0)
        assert not await transaction.seen("c", "t", 1, 0)


async def test_migrations_run_once_and_waiting_messages_are_counted_after_a_restart(open_database: Callable) -> None:
    if open_database.kind == "memory":
        pytest.skip("a database in memory has no restart")
    first = await open_database()
    async with first.transaction() as transaction:
        await transaction.publish_many([message("t", "1"), message("t", "2")])
    await first.stop()
    again = await open_database()
    assert again.unpublished_records == 2
    assert again.outbox_changed.is_set()
    async with again.read() as transaction:
        assert (await transaction.row("SELECT count(*) AS n FROM things"))["n"] == 1


async def test_two_processes_may_write_at_once(open_database: Callable) -> None:
    if open_database.kind == "memory":
        pytest.skip("a database in memory has one process")
    one, two = await open_database(), await open_database()

    async def write(database: Database, start: int) -> None:
        for i in range(start, start + 20):
            async with database.transaction() as transaction:
                await transaction.execute("INSERT INTO things (name) VALUES (:n)", {"n": f"w{i}"})

    await asyncio.gather(write(one, 0), write(two, 100))
    async with one.read() as transaction:
        assert (await transaction.row("SELECT count(*) AS n FROM things WHERE name LIKE 'w%'"))["n"] == 40


async def test_a_closed_database_says_that_it_is_unavailable(database: Database) -> None:
    await database.stop()
    with pytest.raises(StoreUnavailable):
        async with database.read():
            pass


async def test_a_cancelled_transaction_leaves_nothing_and_the_next_one_goes_on(database: Database) -> None:
    begun = asyncio.Event()

    async def hang() -> None:
        async with database.transaction() as transaction:
            await transaction.execute("INSERT INTO things (name) VALUES ('half')")
            begun.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(hang())
    await asyncio.wait_for(begun.wait(), 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with database.transaction() as transaction:
        assert await transaction.rows("SELECT * FROM things WHERE name = 'half'") == []
        await transaction.execute("INSERT INTO things (name) VALUES ('half')")


async def test_a_full_disk_is_said_and_the_next_transaction_goes_on(tmp_path: Path) -> None:
    """SQLite rolls back by itself then: a ROLLBACK of ours would fail and hide what happened."""
    file = SqliteFile(str(tmp_path / "room.db"))
    try:
        async with file.begin(write=True) as session:
            await session.execute("CREATE TABLE things (body BLOB)", {})
        with pytest.raises(StoreUnavailable, match="full"):
            async with file.begin(write=True) as session:
                await session.execute("PRAGMA max_page_count = 4", {})
                await session.execute("INSERT INTO things VALUES (zeroblob(:size))", {"size": 1 << 20})
        async with file.begin(write=True) as session:
            await session.execute("INSERT INTO things VALUES (zeroblob(8))", {})
            assert len(await session.rows("SELECT * FROM things", {})) == 1
    finally:
        file.close()
