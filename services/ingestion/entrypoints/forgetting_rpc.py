"""The gRPC door of forgetting and revealing: decode, call, encode."""

from __future__ import annotations

from typing import Any

from millrace.runtime import auth
from millrace.wire.ingestion.v1 import forgetting_pb2 as wire
from millrace.wire.ingestion.v1 import forgetting_pb2_grpc

from services.ingestion.handlers.forgetting import ForgetDesk
from services.ingestion.handlers.revealing import RevealDesk


class ForgettingService(forgetting_pb2_grpc.ForgettingServicer):
    """millrace.wire.ingestion.v1.Forgetting."""

    def __init__(self, desk: ForgetDesk, reveals: RevealDesk) -> None:
        self._desk = desk
        self._reveals = reveals

    async def Forget(self, request: wire.ForgetRequest, context: Any) -> wire.ForgetStatus:
        """Begins."""
        auth.require("admin")
        actor = auth.actor_of(request.actor)
        return await self._desk.ask(request.project, request.entity, list(request.fields), request.reason, actor)

    async def Forgotten(self, request: wire.ForgottenRequest, context: Any) -> wire.ForgottenReply:
        """How far it is."""
        auth.require("admin")
        if request.id:
            return wire.ForgottenReply(requests=[await self._desk.status(request.id)])
        return wire.ForgottenReply(requests=await self._desk.all(request.project, request.entity))

    async def Reveal(self, request: wire.RevealRequest, context: Any) -> wire.RevealReply:
        """Values in the clear."""
        auth.require("admin")
        actor = auth.actor_of(request.actor)
        shown = await self._reveals.reveal(
            request.project, request.source, request.entity, dict(request.fields), request.reason, actor
        )
        return wire.RevealReply(fields=shown)

    async def Revealed(self, request: wire.RevealedRequest, context: Any) -> wire.RevealedReply:
        """Who saw what."""
        auth.require("admin")
        return wire.RevealedReply(
            revelations=[
                wire.Revelation(
                    project=one.project,
                    source=one.source,
                    entity_digest=one.entity_digest,
                    fields=one.fields,
                    reason=one.reason,
                    actor=one.actor,
                    revealed_us=one.revealed_us,
                )
                for one in await self._reveals.revealed(request.project)
            ]
        )
