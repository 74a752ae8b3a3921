"""The ClickHouse client against the real engine."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pyarrow as pa
import pytest
from clickhouse_connect.driver.exceptions import DatabaseError
from millrace.stores.clickhouse import ClickHouse
from millrace.stores.errors import StoreUnavailable

pytestmark = pytest.mark.stack


@pytest.fixture
async def clickhouse(stack, tmp_path: Path) -> AsyncIterator[ClickHouse]:
    (tmp_path / "0001_rows.sql").write_text(
        "-- a; comment\nCREATE TABLE rows (k String, v Float64) ENGINE = ReplacingMergeTree ORDER BY k;\n"
        "INSERT INTO rows VALUES ('migrated', 1);\n"
    )
    made = ClickHouse(stack.clickhouse, database=f"test_{uuid.uuid4().hex[:8]}")
    await made.start(tmp_path)
    await made.start(tmp_path)
    yield made
    await made.command(f"DROP DATABASE {made._database}")
    await made.close()


async def test_arrow_goes_in_and_comes_out(clickhouse: ClickHouse) -> None:
    table = pa.table({"k": ["a", "b"], "v": [1.5, 2.5]})
    for _ in range(2):
        await clickhouse.insert_arrow("rows", table, token="same")
    found = await clickhouse.query_arrow(
        "SELECT * FROM rows FINAL WHERE k != {no:String} ORDER BY k", {"no": "migrated"}
    )
    assert found.to_pylist() == table.to_pylist()


async def test_migrations_ran_once_and_rows_are_dictionaries(clickhouse: ClickHouse) -> None:
    assert await clickhouse.query_rows("SELECT k, v FROM rows WHERE k = {k:String}", {"k": "migrated"}) == [
        {"k": "migrated", "v": 1.0}
    ]


async def test_queries_of_one_client_run_side_by_side(clickhouse: ClickHouse) -> None:
    answers = await asyncio.gather(*[clickhouse.query_rows("SELECT {n:Int64} AS n", {"n": n}) for n in range(20)])
    assert [answer[0]["n"] for answer in answers] == list(range(20))


async def test_a_wrong_query_is_not_worth_a_retry_and_a_missing_server_is(clickhouse: ClickHouse) -> None:
    with pytest.raises(DatabaseError):
        await clickhouse.query_rows("SELECT no_such_column FROM rows")
    away = ClickHouse("http://127.0.0.1:1", database="x")
    with pytest.raises(StoreUnavailable):
        await away.start(deadline_s=0.1)
    with pytest.raises(StoreUnavailable):
        await away.query_rows("SELECT 1")
    await away.close()


def test_a_database_name_is_only_a_name() -> None:
    with pytest.raises(ValueError, match="not a database name"):
        ClickHouse("http://127.0.0.1:1", database="x; DROP DATABASE y")
