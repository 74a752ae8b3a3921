"""The registry over gRPC."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from typing import Any

import grpc
from millrace.wire.registry.v1.events_pb2 import Variant
from millrace.wire.registry.v1.service_pb2 import Artifact, ArtifactChunk, GetPlanRequest
from millrace.wire.registry.v1.service_pb2_grpc import RegistryStub

from services.trainer.adapters.neighbours_grpc import neighbour, status_of
from services.trainer.domain.job import ChampionSpec
from services.trainer.errors import NeighbourRefused

ROOM = "registry"
CHUNK_BYTES = 1 << 20


class GrpcRegistry:
    """One channel to the registry. `deadline_s` bounds one call, wall time."""

    def __init__(self, channel: grpc.aio.Channel, *, deadline_s: float) -> None:
        self._registry: Any = RegistryStub(channel)  # type: ignore[no-untyped-call]
        self._deadline_s = deadline_s

    async def champion(self, project: str, model: str) -> ChampionSpec:
        """The version that serves; version 0 when none does."""
        request = GetPlanRequest(project=project, model=model)
        try:
            with neighbour(ROOM):
                plan = await self._registry.GetPlan(request, timeout=self._deadline_s)
        except NeighbourRefused as error:
            if status_of(error) is grpc.StatusCode.NOT_FOUND:
                return ChampionSpec()
            raise
        champions = [v for v in plan.variants if v.role == Variant.CHAMPION]
        return ChampionSpec(champions[0].version, champions[0].model_digest) if champions else ChampionSpec()

    async def get_artifact(self, digest: str) -> bytes:
        """Bytes by digest, verified."""
        data = bytearray()
        with neighbour(ROOM):
            async for chunk in self._registry.GetArtifact(Artifact(digest=digest), timeout=self._deadline_s):
                data += chunk.data
        if _digest(bytes(data)) != digest:
            raise NeighbourRefused(f"registry sent other bytes than {digest} names")
        return bytes(data)

    async def put_artifact(self, data: bytes) -> str:
        """Keeps bytes; their digest."""
        with neighbour(ROOM):
            artifact = await self._registry.PutArtifact(_chunks(data), timeout=self._deadline_s)
        if artifact.digest != _digest(data):
            raise NeighbourRefused(f"registry kept {artifact.digest}, {_digest(data)} was sent")
        return str(artifact.digest)


async def _chunks(data: bytes) -> AsyncIterator[ArtifactChunk]:
    for start in range(0, max(len(data), 1), CHUNK_BYTES):
        yield ArtifactChunk(data=data[start : start + CHUNK_BYTES])


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
