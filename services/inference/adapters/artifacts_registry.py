"""Artifacts of the registry, kept in this room's own folder; the bytes are verified at every load."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

import grpc
from millrace.stores.errors import ObjectCorrupt, ObjectMissing, StoreUnavailable
from millrace.stores.objects import FolderObjects, checked, digest_of
from millrace.wire.registry.v1 import service_pb2, service_pb2_grpc

from services.inference.errors import ArtifactCorrupt, ArtifactMissing, ArtifactUnavailable

log = logging.getLogger(__name__)


class RegistryArtifacts:
    """Artifacts from `folder`, else from the registry."""

    def __init__(self, channel: grpc.aio.Channel, folder: Path, *, max_bytes: int, deadline_s: float) -> None:
        self._stub = service_pb2_grpc.RegistryStub(channel)  # type: ignore[no-untyped-call]
        self._folder = folder
        self._kept = FolderObjects(folder)
        self._max_bytes = max_bytes
        self._deadline_s = deadline_s
        self._folder_in_use = asyncio.Lock()  # pruning must not meet a file that is being written

    async def get(self, digest: str) -> bytes:
        """The verified bytes. A damaged file here is fetched again; damaged bytes of the registry are refused."""
        try:
            checked(digest)
        except ObjectMissing as error:
            raise ArtifactMissing(str(error)) from None
        try:
            return await self._kept.get(digest)
        except ObjectCorrupt:
            log.error("artifact %s is damaged on disk; it is fetched again", digest)
        except ObjectMissing:
            log.info("artifact %s is not here yet; it is fetched", digest)
        data = await self._fetch(digest)
        seen = digest_of(data)
        if seen != digest:
            raise ArtifactCorrupt(f"artifact {digest} arrived as {seen}: {len(data)} bytes refused")
        try:
            async with self._folder_in_use:
                await self._kept.put(data)
        except StoreUnavailable as error:
            log.error("artifact %s is served but not kept: %s", digest, error)
        return data

    async def keep_only(self, wanted: Callable[[], frozenset[str]]) -> None:
        """Delete every other artifact, and what a crash left half written."""
        async with self._folder_in_use:
            await asyncio.to_thread(self._prune, wanted())

    async def _fetch(self, digest: str) -> bytes:
        pieces: list[bytes] = []
        size_bytes = 0
        try:
            stream = self._stub.GetArtifact(service_pb2.Artifact(digest=digest), timeout=self._deadline_s)
            async for chunk in stream:
                size_bytes += len(chunk.data)
                if size_bytes > self._max_bytes:
                    stream.cancel()
                    raise ArtifactCorrupt(f"artifact {digest} is larger than {self._max_bytes} bytes")
                pieces.append(chunk.data)
        except grpc.aio.AioRpcError as error:
            said = f"artifact {digest}: registry: {error.code().name}: {error.details()}"
            if error.code() in (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.INVALID_ARGUMENT):
                raise ArtifactMissing(said) from error
            if error.code() is grpc.StatusCode.DATA_LOSS:
                raise ArtifactCorrupt(said) from error
            raise ArtifactUnavailable(said) from error
        return b"".join(pieces)

    def _prune(self, wanted: frozenset[str]) -> None:
        names = {digest.partition(":")[2] for digest in wanted}
        for path in self._folder.glob("*/*"):
            if path.name not in names:
                path.unlink(missing_ok=True)
