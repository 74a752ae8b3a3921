"""The gRPC door: decode, call the plane, encode."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any

from millrace.runtime import auth, trace
from millrace.runtime.errors import Invalid
from millrace.wire.common.v1 import common_pb2
from millrace.wire.ingestion.v1 import service_pb2, service_pb2_grpc

from services.ingestion.entrypoints.profiles import profile_reply
from services.ingestion.handlers.clocks import Origin
from services.ingestion.handlers.docs import DataDocs
from services.ingestion.handlers.judge import Incoming
from services.ingestion.handlers.lanes import ACCEPTED, DUPLICATE, QUARANTINED, Outcome
from services.ingestion.handlers.plane import Ingestion
from services.ingestion.ports import ClockRow

_OUTCOMES = {
    ACCEPTED: service_pb2.Verdict.ACCEPTED,
    DUPLICATE: service_pb2.Verdict.DUPLICATE,
    QUARANTINED: service_pb2.Verdict.QUARANTINED,
}


class IngestionService(service_pb2_grpc.IngestionServicer):
    """millrace.wire.ingestion.v1.Ingestion over the plane."""

    def __init__(self, plane: Ingestion, docs: DataDocs) -> None:
        self._plane = plane
        self._docs = docs

    async def Publish(self, request: service_pb2.PublishRequest, context: Any) -> service_pb2.PublishReply:
        """One bounded batch."""
        auth.require("producer")
        events = _incoming(request.events, request.schema_version)
        return to_reply(await self._plane.publish(request.project, request.source, events, origin()))

    async def PublishStream(
        self, request_iterator: AsyncIterator[service_pb2.PublishRequest], context: Any
    ) -> AsyncIterator[service_pb2.PublishReply]:
        """A reply per request, in order."""
        async for request in request_iterator:
            yield await self.Publish(request, context)

    async def AcquireClock(self, request: service_pb2.AcquireClockRequest, context: Any) -> service_pb2.ClockLease:
        """The lease."""
        auth.require("operator")
        return _lease(await self._plane.acquire_clock(request.project, request.holder, request.ttl_ms))

    async def AdvanceClock(self, request: service_pb2.AdvanceClockRequest, context: Any) -> service_pb2.ClockLease:
        """The clock, moved behind what arrived."""
        auth.require("operator")
        if request.arrivals:
            auth.require("producer")
        arrivals = {entry.source: _incoming(entry.events) for entry in request.arrivals}
        if len(arrivals) < len(request.arrivals):
            raise Invalid("a source comes twice in `arrivals`: give each one entry")
        row, outcomes = await self._plane.play(request.project, request.lease_id, request.now_us, arrivals, origin())
        lease = _lease(row)
        lease.published.extend(map(to_reply, outcomes))
        return lease

    async def ReleaseClock(self, request: service_pb2.ReleaseClockRequest, context: Any) -> common_pb2.Empty:
        """Nothing: the lease is free again."""
        auth.require("operator")
        await self._plane.clocks.release(request.project, request.lease_id)
        return common_pb2.Empty()

    async def GetProfile(self, request: service_pb2.ProfileRequest, context: Any) -> service_pb2.ProfileReply:
        """One day of a source's data docs."""
        found = await self._docs.source(request.project, request.source, request.day_us, request.days or 30)
        return profile_reply(found)


def origin() -> Origin:
    """(actor, traceparent) of the call being served; no actor where nobody had to say who they are."""
    identity = auth.current()
    return ("" if identity is auth.LOCAL else identity.name), trace.current()


def to_reply(outcomes: Sequence[Outcome]) -> service_pb2.PublishReply:
    """Counts, and a verdict for each event that was not plainly accepted."""
    reply = service_pb2.PublishReply()
    for outcome in outcomes:
        if outcome.kind == ACCEPTED:
            reply.accepted += 1
            continue
        if outcome.kind == DUPLICATE:
            reply.duplicates += 1
        else:
            reply.quarantined += 1
        reply.verdicts.add(id=outcome.id, outcome=_OUTCOMES[outcome.kind], field=outcome.field, reason=outcome.reason)
    return reply


def _incoming(events: Iterable[service_pb2.DataEvent], schema_version: int = 0) -> list[Incoming]:
    return [
        Incoming(event.json, event.id, event.available_us, schema=_named(event.schema_version or schema_version))
        for event in events
    ]


def _named(schema_version: int) -> str:
    return str(schema_version) if schema_version else ""


def _lease(row: ClockRow) -> service_pb2.ClockLease:
    return service_pb2.ClockLease(lease_id=row.lease_id, now_us=row.now_us)
