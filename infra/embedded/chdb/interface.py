"""The HTTP side: an ASGI application that speaks ClickHouse's interface and hands statements to the engine."""

import asyncio
import json
import time
import uuid
import zlib
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from email.parser import BytesParser
from email.policy import HTTP
from typing import Any
from urllib.parse import parse_qsl

import lz4.frame
from backports import zstd

from infra.embedded.chdb.engine import Engine, EngineError, Result
from infra.embedded.chdb.statement import BadRequest, Statement, parse

MAX_BODY_BYTES = 1024 * 1024 * 1024
"""One insert; clients are told to send blocks of some ten thousand rows, so this is far away."""
MAX_FORM_BYTES = 64 * 1024 * 1024

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

# HTTP statuses that ClickHouse gives to some of its codes; 500 is the rule.
STATUS_OF_CODE = {60: 404, 81: 404, 62: 400, 202: 503, 241: 500, 457: 400, 516: 401}


class TooLarge(Exception):
    """The body is beyond its limit."""


def decompress(body: bytes, encoding: str) -> bytes:
    """Undoes Content-Encoding, never beyond MAX_BODY_BYTES. BadRequest for an unknown or broken encoding."""
    try:
        if encoding in ("", "identity"):
            return body
        if encoding == "lz4":
            reader = lz4.frame.LZ4FrameDecompressor()
            data = reader.decompress(body, max_length=MAX_BODY_BYTES)
        elif encoding == "zstd":
            data = zstd.ZstdDecompressor().decompress(body, max_length=MAX_BODY_BYTES)
        elif encoding in ("gzip", "deflate"):
            data = zlib.decompressobj(wbits=47).decompress(body, MAX_BODY_BYTES)
        else:
            raise BadRequest(f"Unknown Content-Encoding {encoding!r}")
    except (RuntimeError, zlib.error, zstd.ZstdError) as error:
        raise BadRequest(f"Broken {encoding} body: {error}") from error
    if len(data) >= MAX_BODY_BYTES:
        raise TooLarge
    return bytes(data)


def form_fields(content_type: str, body: bytes) -> dict[str, str]:
    """Plain fields of a form body. BadRequest for files: external tables are not served here."""
    if content_type.startswith("application/x-www-form-urlencoded"):
        return dict(parse_qsl(body.decode(), keep_blank_values=True))
    message = BytesParser(policy=HTTP).parsebytes(b"Content-Type: " + content_type.encode() + b"\r\n\r\n" + body)
    fields: dict[str, str] = {}
    for part in message.iter_parts():
        name = part.get_param("name", header="content-disposition")
        if part.get_filename():
            raise BadRequest("External tables are not supported by the embedded engine")
        payload = part.get_payload(decode=True)
        fields[str(name)] = payload.decode() if isinstance(payload, bytes) else ""
    return fields


class Interface:
    """The ASGI application."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        """Answers one HTTP request (uvicorn runs with lifespan and websockets off)."""
        if scope["path"] in ("/ping", "/replicas_status"):
            await _respond(send, 200, b"Ok.\n", {})
            return
        started = time.perf_counter()
        try:
            statement, query_id = await self._read(scope, receive)
            result = await self._run(statement)
        except TooLarge:
            await _respond(send, 413, b"The request is beyond the limit of the embedded engine\n", {})
        except BadRequest as error:
            await _respond_error(send, f"Code: 62. DB::Exception: {error}. (SYNTAX_ERROR)", 62)
        except EngineError as error:
            await _respond_error(send, str(error), error.code)
        else:
            await _respond_result(send, result, query_id, time.perf_counter() - started)

    async def _run(self, statement: Statement) -> Result:
        self._engine.admit()
        try:
            return await asyncio.get_running_loop().run_in_executor(self._engine.pool, self._engine.run, statement)
        finally:
            self._engine.leave()

    async def _read(self, scope: Mapping[str, Any], receive: Receive) -> tuple[Statement, str]:
        headers = {name.decode().lower(): value.decode("latin-1") for name, value in scope["headers"]}
        query = dict(parse_qsl(scope["query_string"].decode(), keep_blank_values=True))
        content_type = headers.get("content-type", "")
        is_form = content_type.startswith(("multipart/form-data", "application/x-www-form-urlencoded"))
        body = await _body(receive, MAX_FORM_BYTES if is_form else MAX_BODY_BYTES)
        body = decompress(body, headers.get("content-encoding", ""))
        if is_form:
            query.update(form_fields(content_type, body))
            body = b""
        if scope["method"] == "GET":
            query.setdefault("readonly", "2")
        if "x-clickhouse-database" in headers:
            query.setdefault("database", headers["x-clickhouse-database"])
        statement = parse(query, body, default_format=headers.get("x-clickhouse-format", "TabSeparated"))
        return statement, query.get("query_id") or str(uuid.uuid4())


async def _body(receive: Receive, limit_bytes: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise BadRequest("The client went away")
        part = message.get("body", b"")
        size += len(part)
        if size > limit_bytes:
            raise TooLarge
        parts.append(part)
        if not message.get("more_body", False):
            return b"".join(parts)


async def _respond_result(send: Send, result: Result, query_id: str, elapsed_s: float) -> None:
    summary = {
        "read_rows": str(result.rows_read),
        "written_rows": str(result.rows_written),
        "elapsed_ns": str(int(elapsed_s * 1e9)),
    }
    headers = {
        "X-ClickHouse-Query-Id": query_id,
        "X-ClickHouse-Summary": json.dumps(summary),
        "X-ClickHouse-Timezone": "UTC",
        "X-ClickHouse-Server-Display-Name": "millrace-embedded",
    }
    if result.format:
        headers["X-ClickHouse-Format"] = result.format
    await _respond(send, 200, result.data, headers)


async def _respond_error(send: Send, message: str, code: int) -> None:
    headers = {"X-ClickHouse-Exception-Code": str(code)} if code else {}
    await _respond(send, STATUS_OF_CODE.get(code, 500), message.encode() + b"\n", headers)


async def _respond(send: Send, status: int, body: bytes, headers: Mapping[str, str]) -> None:
    head = [(b"content-type", b"text/plain; charset=UTF-8"), (b"content-length", str(len(body)).encode())]
    head += [(name.lower().encode(), value.encode("latin-1", "replace")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": head})
    await send({"type": "http.response.body", "body": body})
