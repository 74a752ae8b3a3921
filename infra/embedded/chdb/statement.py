"""Reads one HTTP request of ClickHouse's interface into a statement: pure, no engine, no socket."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

# Request parameters that ClickHouse's HTTP interface takes for itself; every other one is a setting or `param_<name>`.
# Sessions are not kept: a session id is accepted and ignored, as each request stands alone here.
RESERVED = frozenset(
    {
        *("query", "database", "default_format", "user", "password", "role", "quota_key", "query_id"),
        *("session_id", "session_timeout", "session_check", "close_session", "stacktrace", "buffer_size"),
        *("compress", "decompress", "enable_http_compression", "client_protocol_version", "add_http_cors_header"),
        *("wait_end_of_query", "send_progress_in_http_headers", "http_headers_progress_interval_ms"),
        "cancel_http_readonly_queries_on_client_close",
    }
)
SETTING_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# INSERT ... FORMAT X: what follows the format's name (one line break at most) is data, not SQL. The table's columns and
# SETTINGS may stand between; a VALUES list or a SELECT may not, so a string inside them cannot be taken for a FORMAT.
INSERT_DATA = re.compile(
    rb"(?P<head>\s*(?:--[^\n]*\n\s*|/\*.*?\*/\s*)*INSERT\s+INTO\s+(?:TABLE\s+)?"
    rb"(?:FUNCTION\s+\w+\s*\([^)]*\)|(?:`[^`]*`|\"[^\"]*\"|[^\s(`\"])+)"
    rb"\s*(?:\([^)]*\))?\s*(?:SETTINGS\s+(?:(?!\bFORMAT\b|\bVALUES\b|\bSELECT\b).)*?)?)"
    rb"\s*\bFORMAT\s+(?P<format>\w+)[ \t\r;]*\n?",
    re.IGNORECASE | re.DOTALL,
)
OUTPUT_FORMAT = re.compile(r"\bFORMAT\s+(\w+)\s*(?:SETTINGS\b[^']*)?;?\s*$", re.IGNORECASE)
READS = re.compile(
    r"\s*(?:--[^\n]*\n\s*|/\*.*?\*/\s*|\(\s*)*(SELECT|WITH|SHOW|DESCRIBE|DESC|EXISTS|EXPLAIN|CHECK)\b", re.I | re.S
)
MAX_HEAD_BYTES = 256 * 1024
"""The longest INSERT head searched for its FORMAT: tens of thousands of columns."""


@dataclass(frozen=True)
class Statement:
    """What the engine is asked. `data` is set for INSERT ... FORMAT, with `input_format`; else the SQL stands alone."""

    sql: str
    database: str = ""
    settings: Mapping[str, str] = field(default_factory=dict)
    parameters: Mapping[str, str] = field(default_factory=dict)
    output_format: str = "TabSeparated"
    input_format: str = ""
    data: bytes = b""
    reads: bool = False


class BadRequest(Exception):
    """The request is not one of ClickHouse's HTTP interface; the text says why."""


def parse(query: Mapping[str, str], body: bytes, *, default_format: str = "TabSeparated") -> Statement:
    """Builds the statement from URL (and form) parameters and the body, as ClickHouse does: query, line break, body."""
    prefix = query.get("query", "").rstrip()
    text = prefix.encode() + b"\n" + body if prefix and body else prefix.encode() or body
    if not text.strip():
        raise BadRequest("Empty query")
    settings, parameters = _split(query)
    database = query.get("database", "")
    found = INSERT_DATA.match(text[:MAX_HEAD_BYTES])
    if found:
        return Statement(
            sql=found["head"].decode().strip(),
            database=database,
            settings=settings,
            parameters=parameters,
            input_format=found["format"].decode(),
            data=text[found.end() :],
        )
    try:
        sql = text.decode()
    except UnicodeDecodeError as error:
        raise BadRequest(f"The query is not UTF-8 text: {error}") from error
    fallback = query.get("default_format") or default_format
    named = OUTPUT_FORMAT.search(sql)
    return Statement(
        sql=sql,
        database=database,
        settings=settings,
        parameters=parameters,
        output_format=named.group(1) if named else fallback,
        reads=READS.match(sql) is not None,
    )


def _split(query: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    settings: dict[str, str] = {}
    parameters: dict[str, str] = {}
    for name, value in query.items():
        if name.startswith("param_"):
            parameters[name.removeprefix("param_")] = value
        elif name not in RESERVED:
            if not SETTING_NAME.fullmatch(name):
                raise BadRequest(f"{name!r} is no setting")
            settings[name] = value
    return settings, parameters


def settings_sql(settings: Mapping[str, str]) -> str:
    """`SET a = 'x', b = 'y'`; values are always quoted, which the engine casts."""
    quoted = (f"{name} = '{_escape(value)}'" for name, value in settings.items())
    return "SET " + ", ".join(quoted)


def use_sql(database: str) -> str:
    """`USE` with the name quoted."""
    return "USE `" + database.replace("\\", "\\\\").replace("`", "\\`") + "`"


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace("'", "\\'")
