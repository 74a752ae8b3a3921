"""Artifacts by sha256: bytes first, digest verified, metadata second."""

from __future__ import annotations

from collections.abc import AsyncIterator

from millrace.wire.registry.v1.service_pb2 import Artifact, ArtifactChunk

from services.registry.errors import TooLarge
from services.registry.handlers.desk import Desk

CHUNK_BYTES = 1024 * 1024


async def put(desk: Desk, chunks: AsyncIterator[ArtifactChunk]) -> Artifact:
    """Stores a stream of bytes; nothing of it is visible before it is whole. Raises TooLarge."""
    writer = desk.objects.open_write()
    size = 0
    try:
        async for chunk in chunks:
            size += len(chunk.data)
            if size > desk.artifact_max_bytes:
                raise TooLarge(f"an artifact has at most {desk.artifact_max_bytes // 1024**2} MiB")
            await writer.write(chunk.data)
        digest = await writer.commit()
    finally:
        await writer.abort()
    async with desk.database.transaction() as transaction:
        await transaction.execute(
            "INSERT INTO artifacts (digest, size_bytes, stored_us) VALUES (:digest, :size, :now)"
            " ON CONFLICT (digest) DO NOTHING",
            {"digest": digest, "size": size, "now": desk.wall_us()},
        )
    return Artifact(digest=digest, size_bytes=size)


async def get(desk: Desk, digest: str) -> AsyncIterator[ArtifactChunk]:
    """The bytes, verified before the first leaves. Raises ObjectMissing, ObjectCorrupt (data loss)."""
    data = await desk.objects.get(digest)
    for start in range(0, len(data), CHUNK_BYTES):
        yield ArtifactChunk(data=data[start : start + CHUNK_BYTES])
