"""ClickHouse's ordinary client against the embedded engine: what it needs to find no difference."""

import datetime
import math
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlparse

import clickhouse_connect
import httpx
import pyarrow as pa
import pytest
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError

from tests.support.stack import RunningStack

pytestmark = pytest.mark.stack


def connect(stack: RunningStack, database: str = "default", compress: bool | str = True) -> Client:
    place = urlparse(stack.clickhouse)
    return clickhouse_connect.get_client(
        host=str(place.hostname),
        port=place.port or 0,
        database=database,
        compress=compress,
        autogenerate_session_id=False,
    )


@pytest.fixture
def client(stack: RunningStack) -> Iterator[Client]:
    """A client in a database of its own."""
    name = f"t_{uuid.uuid4().hex[:8]}"
    with connect(stack) as first:
        first.command(f"CREATE DATABASE {name}")
    with connect(stack, name) as own:
        yield own
        own.command(f"DROP DATABASE {name}")


COLUMNS = "id UInt64, name LowCardinality(String), at DateTime64(6, 'UTC'), value Nullable(Float64), tags Array(String)"
NOON = datetime.datetime(2013, 7, 1, 12, 0, 0, 123456)


def make(client: Client, name: str = "t") -> None:
    client.command(f"CREATE TABLE {name} ({COLUMNS}) ENGINE = MergeTree ORDER BY id")


@pytest.mark.parametrize("compress", [False, "lz4", "zstd", "gzip"])
def test_rows_go_in_and_come_out(client: Client, stack: RunningStack, compress: bool | str) -> None:
    make(client)
    rows = [[1, "it's\t\\", NOON, None, ["a", "b"]], [2, "ü", NOON, -0.5, []]]
    with connect(stack, str(client.database), compress) as writer:
        assert writer.insert("t", rows).written_rows == 2
        assert [list(row) for row in writer.query("SELECT * FROM t ORDER BY id").result_rows] == rows


def test_arrow_both_ways(client: Client) -> None:
    make(client)
    table = pa.table(
        {
            "id": pa.array(range(50_000), pa.uint64()),
            "name": [f"n{n % 7}" for n in range(50_000)],
            "value": pa.array([None if n % 3 else n / 7 for n in range(50_000)], pa.float64()),
        }
    )
    client.insert_arrow("t", table)
    back = client.query_arrow("SELECT id, name, value FROM t ORDER BY id")
    assert back.column("id").to_pylist() == table.column("id").to_pylist()
    assert back.column("value").to_pylist() == table.column("value").to_pylist()
    assert client.query("SELECT uniqExact(name) FROM t").first_row == (7,)


def test_bound_parameters_keep_every_character(client: Client) -> None:
    nasty = "a'b\\c\t\nd`e\"{x:UInt8} ü"
    asked = "SELECT {s:String}, {n:Nullable(Int64)}, {l:Array(String)}, {d:DateTime64(6)}, {f:Float64}"
    found = client.query(asked, {"s": nasty, "n": None, "l": [nasty, ""], "d": NOON, "f": math.pi}).first_row
    assert found is not None
    assert found[:3] == (nasty, None, [nasty, ""])
    assert found[4] == math.pi


def test_parameters_too_long_for_a_url_come_as_a_form(client: Client) -> None:
    keys = [f"key-{n}-ü" for n in range(20_000)]
    found = client.query("SELECT length({keys:Array(String)}), {keys:Array(String)}[20000]", {"keys": keys}).first_row
    assert found == (20_000, keys[-1])


def test_settings_reach_the_statement_and_only_it(client: Client) -> None:
    asked = "SELECT value FROM system.settings WHERE name = 'max_block_size'"
    assert client.query(asked, settings={"max_block_size": 1234}).first_row == ("1234",)
    assert client.query(asked).first_row != ("1234",)


def test_join_use_nulls_works_per_query(client: Client) -> None:
    joined = "SELECT r.x FROM (SELECT 1 AS k) AS l LEFT JOIN (SELECT 2 AS k, 3 AS x) AS r USING (k)"
    assert client.query(joined, settings={"join_use_nulls": 1}).first_row == (None,)
    assert client.query(joined, settings={"join_use_nulls": 0}).first_row == (0,)


@pytest.mark.parametrize(
    ("sql", "code"),
    [("SELECT nothing", 47), ("SELECT * FROM gone.t", 81), ("SELECT * FROM gone", 60), ("SELEC 1", 62)],
)
def test_errors_carry_clickhouses_code(client: Client, sql: str, code: int) -> None:
    with pytest.raises(DatabaseError, match=f"code: {code}"):
        client.query(sql)


def test_a_broken_insert_is_refused_whole_and_the_next_works(client: Client) -> None:
    make(client)
    with pytest.raises(DatabaseError):
        client.raw_insert("t", ["id", "name"], insert_block=b"\x02\x05garbage", fmt="Native")
    client.raw_insert(
        "t", ["id", "name"], insert_block='{"id": 1, "name": "x"}\n{"id": 2, "name": "y"}', fmt="JSONEachRow"
    )
    assert client.query("SELECT count() FROM t").first_row == (2,)


def test_commands_answer_as_the_server_does(client: Client) -> None:
    assert client.command("SELECT 1") == 1
    assert client.command("SELECT 'a' WHERE 0") == ""
    assert client.command("EXISTS TABLE t") == 0
    make(client)
    client.command("INSERT INTO t (id, name) VALUES (1, 'FORMAT Native')")
    client.command("INSERT INTO t (id) SELECT number FROM numbers(5)")
    assert client.command("SELECT count() FROM t") == 6
    assert client.query("SELECT * FROM t LIMIT 0").column_names == ("id", "name", "at", "value", "tags")


def test_statements_run_side_by_side(client: Client, stack: RunningStack) -> None:
    """Four sleeps of half a second on one connection would take two."""

    def sleep(_: int) -> float:
        with connect(stack) as own:
            started = datetime.datetime.now()
            own.query("SELECT sleep(0.5)")
            return (datetime.datetime.now() - started).total_seconds()

    with ThreadPoolExecutor(4) as pool:
        assert max(pool.map(sleep, range(4))) < 1.6


def test_inserts_side_by_side_all_count(client: Client) -> None:
    client.command("CREATE TABLE n (id UInt64) ENGINE = ReplacingMergeTree ORDER BY id")
    blocks = [pa.table({"id": pa.array(range(k * 1000, k * 1000 + 1000), pa.uint64())}) for k in range(16)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda block: client.insert_arrow("n", block), blocks))
        list(pool.map(lambda block: client.insert_arrow("n", block), blocks))
    assert client.query("SELECT count() FROM n FINAL").first_row == (16_000,)


def test_a_get_may_only_read(client: Client, stack: RunningStack) -> None:
    refused = httpx.get(stack.clickhouse, params={"query": "CREATE TABLE default.x (a UInt8) ENGINE = Memory"})
    assert refused.headers["X-ClickHouse-Exception-Code"] == "164"
    assert httpx.get(stack.clickhouse, params={"query": "SELECT 7"}).text == "7\n"


def test_other_formats_and_bad_requests(stack: RunningStack) -> None:
    answer = httpx.post(stack.clickhouse, params={"default_format": "JSONEachRow"}, content="SELECT 1 AS a")
    assert answer.json() == {"a": 1}
    assert httpx.post(stack.clickhouse, content=b"").status_code == 400
    broken = httpx.post(stack.clickhouse, content=b"no", headers={"Content-Encoding": "gzip"})
    assert broken.status_code == 400
    assert "Broken gzip body" in broken.text
    assert httpx.get(f"{stack.clickhouse}/ping").text == "Ok.\n"


def test_what_was_committed_outlives_a_crash(stack: RunningStack) -> None:
    name = f"crash_{uuid.uuid4().hex[:8]}"
    with connect(stack) as before:
        before.command(f"CREATE TABLE {name} (id UInt64) ENGINE = MergeTree ORDER BY id")
        before.insert(name, [[n] for n in range(1000)], column_names=["id"])
    stack.control.kill_part("clickhouse")
    stack.control.start_part("clickhouse")
    with connect(stack) as after:
        assert after.query(f"SELECT count() FROM {name}").first_row == (1000,)
