"""One HTTP request of ClickHouse's interface, read into a statement."""

import pytest

from infra.embedded.chdb.statement import BadRequest, parse, settings_sql, use_sql


def test_an_insert_splits_into_head_format_and_data() -> None:
    found = parse({}, b"INSERT INTO db.t (`a`, `b`) FORMAT Native\n\x02\x01 \n")
    assert (found.sql, found.input_format, found.data) == ("INSERT INTO db.t (`a`, `b`)", "Native", b"\x02\x01 \n")


@pytest.mark.parametrize("first_byte", [b"\n", b" ", b"\t", b"\r"])
def test_data_that_begins_like_white_space_is_kept_whole(first_byte: bytes) -> None:
    in_body = parse({}, b"INSERT INTO t FORMAT Native\n" + first_byte + b"rest")
    in_url = parse({"query": "INSERT INTO t FORMAT Native\n"}, first_byte + b"rest")
    assert in_body.data == in_url.data == first_byte + b"rest"


@pytest.mark.parametrize(
    "head",
    [
        "insert into t format JSONEachRow",
        "INSERT INTO TABLE `a b`.t FORMAT JSONEachRow",
        "-- why\nINSERT INTO t SETTINGS async_insert=1, x='y' FORMAT JSONEachRow",
        "/* FORMAT */ INSERT INTO t (a) FORMAT JSONEachRow;",
    ],
)
def test_heads_in_many_shapes(head: str) -> None:
    found = parse({"query": head}, b'{"a": 1}')
    assert (found.input_format, found.data) == ("JSONEachRow", b'{"a": 1}')


@pytest.mark.parametrize(
    "sql",
    ["INSERT INTO t VALUES ('x FORMAT Native')", "INSERT INTO t SELECT a FROM u", "INSERT INTO t (a) VALUES (1)"],
)
def test_inserts_without_data_stay_sql(sql: str) -> None:
    found = parse({}, sql.encode())
    assert (found.sql, found.input_format, found.data) == (sql, "", b"")


def test_parameters_and_settings_are_told_apart_from_the_interface() -> None:
    found = parse(
        {"database": "room", "param_x": "5", "max_threads": "1", "session_id": "s", "query_id": "q"},
        b"SELECT {x:UInt8}",
    )
    assert found.database == "room"
    assert found.parameters == {"x": "5"}
    assert found.settings == {"max_threads": "1"}


def test_the_output_format_is_the_one_named_last() -> None:
    assert parse({}, b"SELECT 1\n FORMAT Native").output_format == "Native"
    assert parse({}, b"SELECT 1 FORMAT Arrow SETTINGS max_threads = 1;").output_format == "Arrow"
    assert parse({"default_format": "JSON"}, b"SELECT 1").output_format == "JSON"
    assert parse({}, b"SELECT 1").output_format == "TabSeparated"


def test_only_statements_with_a_result_read() -> None:
    assert parse({}, b"-- c\nWITH 1 AS x SELECT x").reads
    assert parse({}, b"SHOW TABLES").reads
    assert not parse({}, b"CREATE TABLE t (a UInt8) ENGINE = Memory").reads


@pytest.mark.parametrize(("query", "body"), [({}, b""), ({"a-b": "1"}, b"SELECT 1"), ({}, b"SELECT '\xff'")])
def test_what_is_no_request_is_refused(query: dict[str, str], body: bytes) -> None:
    with pytest.raises(BadRequest):
        parse(query, body)


def test_names_and_values_are_quoted() -> None:
    assert use_sql("a`b\\") == "USE `a\\`b\\\\`"
    assert settings_sql({"x": "it's \\"}) == "SET x = 'it\\'s \\\\'"
