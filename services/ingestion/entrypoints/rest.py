"""The HTTP door: events as one JSON object, an array, NDJSON or CloudEvents, and files in bulk."""

from __future__ import annotations

import asyncio
import itertools
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from typing import IO, Annotated, Any

import msgspec
from fastapi import APIRouter, Query
from fastapi.requests import Request
from millrace.runtime import auth
from millrace.runtime.errors import RoomError

from services.ingestion.entrypoints.cloudevents import is_cloudevent, read_cloudevents
from services.ingestion.entrypoints.files import format_of, read_file, rows_aside
from services.ingestion.entrypoints.rpc import origin
from services.ingestion.errors import LaneFull, TooLarge
from services.ingestion.handlers.judge import Incoming
from services.ingestion.handlers.lanes import ACCEPTED, DUPLICATE, Outcome
from services.ingestion.handlers.plane import Ingestion

FILE_BATCH_EVENTS = 500
FULL_PATIENCE_S = 60.0  # that rows of a file wait behind other events
MAX_VERDICTS = 1_000  # in the answer to a file; the counts are always whole
SCHEMA_HEADER = "millrace-schema-version"  # the definition version that the request's events were written by
MEMORY_SPOOL_BYTES = 8 * 1024 * 1024


def router(plane: Ingestion, max_body_bytes: int, max_file_bytes: int) -> APIRouter:
    """POST /v1/{project}/{source}/events and /files."""
    routes = APIRouter(prefix="/v1/{project}/{source}")

    @routes.post("/events")
    async def publish(project: str, source: str, request: Request) -> dict[str, Any]:
        auth.require("producer")
        body = await _body(request, max_body_bytes)
        if is_cloudevent(request.headers):
            events = read_cloudevents(request.headers, body)
        else:
            event_id = request.headers.get("idempotency-key", "")
            events = split_events(body, request.headers.get("content-type", ""), event_id)
        events = _named(events, request.headers.get(SCHEMA_HEADER, ""))
        return summary(await plane.publish(project, source, events, origin()))

    @routes.post("/files")
    async def upload(
        project: str,
        source: str,
        request: Request,
        format: str = "",
        name: str = "",
        after: Annotated[int, Query(ge=0)] = 0,
    ) -> dict[str, Any]:
        """`after`: so many rows were taken by an earlier call, which said so when it failed."""
        auth.require("producer")
        kind = format_of(format, name, request.headers.get("content-type", ""))
        declared = plane.definition(project).project.sources
        types = {field.name: field.type.value for one in declared if one.name == source for field in one.fields}
        with tempfile.SpooledTemporaryFile(max_size=MEMORY_SPOOL_BYTES) as spool:
            await _spool(request, spool, max_file_bytes)
            spool.seek(0)
            total: dict[str, Any] = {"accepted": 0, "duplicates": 0, "quarantined": 0, "verdicts": []}
            taken = after
            try:
                rows = itertools.islice(read_file(kind, spool, types), after, None)
                async for batch in rows_aside(rows, FILE_BATCH_EVENTS):
                    named = _named(batch, request.headers.get(SCHEMA_HEADER, ""))
                    _add(total, summary(await _patiently(plane, project, source, named)))
                    taken += len(batch)
            except RoomError as error:
                if taken > after:
                    # Ids are remembered for a while only: the whole file again could double its first rows.
                    error.args = (f"{error}; {taken} rows of the file were taken: send it again with after={taken}",)
                raise
        return total

    return routes


async def _patiently(plane: Ingestion, project: str, source: str, events: Sequence[Incoming]) -> list[Outcome]:
    """Waits its turn where the lane is full: the rest of a file has already come."""
    deadline_s = asyncio.get_running_loop().time() + FULL_PATIENCE_S
    while True:
        try:
            return await plane.publish(project, source, events, origin())
        except LaneFull as error:
            if asyncio.get_running_loop().time() > deadline_s:
                raise
            await asyncio.sleep(error.retry_after_ms / 1000)


def split_events(body: bytes, content_type: str, event_id: str = "") -> list[Incoming]:
    """The events of a body. What is not JSON at all is one event, and its contract says so."""
    if "ndjson" in content_type or "jsonl" in content_type:
        return [Incoming(line) for line in body.splitlines() if line.strip()]
    if body.lstrip()[:1] == b"[":
        try:
            return [Incoming(bytes(raw)) for raw in msgspec.json.decode(body, type=list[msgspec.Raw])]
        except msgspec.DecodeError:
            return [Incoming(body, event_id)]
    return [Incoming(body, event_id)]


def _named(events: list[Incoming], schema: str) -> list[Incoming]:
    """Events that name no definition version get the request's."""
    return [replace(event, schema=event.schema or schema) for event in events] if schema else events


def summary(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Counts, and a verdict for each event that was not plainly accepted."""
    kinds = [outcome.kind for outcome in outcomes]
    accepted, duplicates = kinds.count(ACCEPTED), kinds.count(DUPLICATE)
    return {
        "accepted": accepted,
        "duplicates": duplicates,
        "quarantined": len(kinds) - accepted - duplicates,
        "verdicts": [_verdict(outcome) for outcome in outcomes if outcome.kind != ACCEPTED],
    }


def _verdict(outcome: Outcome) -> dict[str, str]:
    return {"id": outcome.id, "outcome": outcome.kind, "field": outcome.field, "reason": outcome.reason}


def _add(total: dict[str, Any], part: dict[str, Any]) -> None:
    for name in ("accepted", "duplicates", "quarantined"):
        total[name] += part[name]
    total["verdicts"].extend(part["verdicts"][: MAX_VERDICTS - len(total["verdicts"])])


async def _body(request: Request, max_bytes: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > max_bytes:
            raise TooLarge(f"the body is larger than {max_bytes} bytes; send files to /files")
        parts.append(part)
    return b"".join(parts)


async def _spool(request: Request, spool: IO[bytes], max_bytes: int) -> None:
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > max_bytes:
            raise TooLarge(f"the file is larger than {max_bytes} bytes")
        spool.write(part)
