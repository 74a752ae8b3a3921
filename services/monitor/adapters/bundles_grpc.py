"""What each version was trained on, read from the registry by digest. Immutable, so a few are kept."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import grpc
from millrace.stores.objects import digest_of
from millrace.wire.registry.v1.service_pb2 import Artifact
from millrace.wire.registry.v1.service_pb2_grpc import RegistryStub

from services.monitor.errors import ReferenceMissing

KEPT = 16  # a bundle is below 1 MB; champion and target of a few models
DEADLINE_S = 20.0


class RegistryBundles:
    """Implements ports.Bundles."""

    def __init__(self, channel: grpc.aio.Channel | None) -> None:
        self._stub: Any = None
        if channel is not None:
            self._stub = RegistryStub(channel)  # type: ignore[no-untyped-call]  # generated
        self._kept: OrderedDict[str, Mapping[str, Any]] = OrderedDict()

    async def get(self, digest: str) -> Mapping[str, Any]:
        """The bundle, its digest verified."""
        if digest in self._kept:
            self._kept.move_to_end(digest)
            return self._kept[digest]
        data = await self._read(digest)
        if digest_of(data) != digest:
            raise ReferenceMissing(f"the registry's bytes are not {digest}")
        bundle: Mapping[str, Any] = json.loads(data)
        self._kept[digest] = bundle
        if len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        return bundle

    async def _read(self, digest: str) -> bytes:
        if self._stub is None:
            raise ReferenceMissing("no address of the registry: set MILLRACE_REGISTRY_ADDRESS")
        try:
            call = self._stub.GetArtifact(Artifact(digest=digest), timeout=DEADLINE_S)
            return b"".join([chunk.data async for chunk in call])
        except grpc.aio.AioRpcError as error:
            raise ReferenceMissing(f"bundle {digest}: {error.details()}") from error
