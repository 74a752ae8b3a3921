"""The gRPC door: decode, call, encode."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from millrace.runtime import trace
from millrace.runtime.auth import actor_of, require
from millrace.wire.common.v1 import common_pb2
from millrace.wire.registry.v1 import events_pb2, service_pb2, service_pb2_grpc

from services.registry.errors import UnknownThing
from services.registry.handlers import artifacts, definitions, models, release
from services.registry.handlers.desk import Desk


class RegistryDoor(service_pb2_grpc.RegistryServicer):
    """millrace.wire.registry.v1.Registry."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def Apply(self, request: service_pb2.ApplyRequest, context: Any) -> service_pb2.ApplyReply:
        """INVALID_ARGUMENT: one line per error; ABORTED: somebody changed the project since."""
        require("scientist")
        return await definitions.apply(self._desk, request, actor_of(request.actor), trace.current())

    async def GetDefinition(
        self, request: service_pb2.GetDefinitionRequest, context: Any
    ) -> events_pb2.DefinitionPublished:
        """The current version when none is named."""
        return await definitions.get(self._desk, request.project, request.version)

    async def ListProjects(self, request: common_pb2.Empty, context: Any) -> service_pb2.ListProjectsReply:
        """Current definitions, by name."""
        return service_pb2.ListProjectsReply(projects=await definitions.projects(self._desk))

    async def PutArtifact(
        self, request_iterator: AsyncIterator[service_pb2.ArtifactChunk], context: Any
    ) -> service_pb2.Artifact:
        """Bytes in, digest out."""
        require("scientist")
        return await artifacts.put(self._desk, request_iterator)

    async def GetArtifact(
        self, request: service_pb2.Artifact, context: Any
    ) -> AsyncIterator[service_pb2.ArtifactChunk]:
        """DATA_LOSS when bytes and digest disagree."""
        async for chunk in artifacts.get(self._desk, request.digest):
            yield chunk

    async def RegisterVersion(
        self, request: service_pb2.RegisterVersionRequest, context: Any
    ) -> service_pb2.ModelVersion:
        """A forced release asks for the operator's role."""
        require("operator" if request.force else "scientist")
        return await models.register(self._desk, request, actor_of(request.actor), trace.current())

    async def GetVersion(self, request: service_pb2.GetVersionRequest, context: Any) -> service_pb2.ModelVersion:
        """The champion when no version is named."""
        return await models.version(self._desk, request)

    async def ListVersions(
        self, request: service_pb2.ListVersionsRequest, context: Any
    ) -> service_pb2.ListVersionsReply:
        """Newest first, paged by key."""
        return service_pb2.ListVersionsReply(versions=await models.versions(self._desk, request))

    async def GetPlan(self, request: service_pb2.GetPlanRequest, context: Any) -> events_pb2.ServingPlan:
        """NOT_FOUND before the first release."""
        async with self._desk.database.read() as transaction:
            plan = await self._desk.releases(transaction).plan(request.model)
        if plan is None or request.project not in ("", plan.project):
            raise UnknownThing(f"model {request.model} has no release yet")
        return plan

    async def Command(self, request: events_pb2.ModelCommand, context: Any) -> service_pb2.CommandReply:
        """A refused command is an answer, not an error."""
        require("operator")
        return await release.command(self._desk, request, actor_of(request.actor), trace.current())

    async def Lineage(self, request: service_pb2.GetVersionRequest, context: Any) -> service_pb2.LineageReply:
        """A version and what happened to it."""
        return await models.lineage(self._desk, request)
