"""The feature store over gRPC."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import grpc
import pyarrow as pa
from millrace.wire.common.v1.common_pb2 import DescribeRequest
from millrace.wire.common.v1.common_pb2_grpc import RoomStub
from millrace.wire.feature_store.v1.service_pb2 import ReadSnapshotRequest, Snapshot, TrainingSetRequest
from millrace.wire.feature_store.v1.service_pb2_grpc import FeatureStoreStub

from services.trainer.adapters.neighbours_grpc import neighbour, status_of
from services.trainer.errors import NeighbourRefused, NeighbourUnavailable, SnapshotUnusable
from services.trainer.ports import SnapshotFacts

ROOM = "feature_store"
MANIFEST = b"millrace.manifest"  # schema metadata of a snapshot's stream: the manifest that its digest names
LOOK_AGAIN_S = 0.1


class GrpcFeatures:
    """One channel to the feature store. `deadline_s` bounds one call, wall time."""

    def __init__(self, channel: grpc.aio.Channel, *, deadline_s: float) -> None:
        self._features: Any = FeatureStoreStub(channel)  # type: ignore[no-untyped-call]
        self._room: Any = RoomStub(channel)  # type: ignore[no-untyped-call]
        self._deadline_s = deadline_s

    async def wait_until(self, project: str, as_of_us: int) -> None:
        """Returns when everything visible by `as_of_us` has taken effect there; NeighbourUnavailable past the
        deadline."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._deadline_s
        while True:
            with neighbour(ROOM):
                status = await self._room.Describe(DescribeRequest(), timeout=self._deadline_s)
            if project not in status.watermarks_us or status.watermarks_us[project] >= as_of_us:
                return
            if loop.time() > deadline:
                known_us = status.watermarks_us[project]
                raise NeighbourUnavailable(f"feature_store knows {project} up to {known_us}, wanted {as_of_us}")
            await asyncio.sleep(LOOK_AGAIN_S)

    async def create_snapshot(self, project: str, from_us: int, as_of_us: int) -> SnapshotFacts:
        """Builds the training set of moments in [from, as_of), as known at as_of; no rows where there is no label."""
        request = TrainingSetRequest(project=project, from_us=from_us, to_us=as_of_us, as_of_us=as_of_us)
        snapshot: Snapshot | None = None
        try:
            with neighbour(ROOM):
                async for progress in self._features.CreateTrainingSet(request, timeout=self._deadline_s):
                    if progress.HasField("snapshot"):
                        snapshot = progress.snapshot
        except NeighbourRefused as error:
            code = status_of(error)
            if code is grpc.StatusCode.FAILED_PRECONDITION:
                return SnapshotFacts("", 0, 0)
            if code is grpc.StatusCode.NOT_FOUND:  # we know the project, so it will soon
                raise NeighbourUnavailable(str(error)) from error
            raise
        if snapshot is None:
            raise NeighbourRefused("feature_store ended the training set without a snapshot")
        return SnapshotFacts(snapshot.digest, snapshot.rows, snapshot.definition_version)

    async def read_snapshot(self, digest: str, path: Path) -> None:
        """Writes the rows to `path`, whole or not at all."""
        aside = path.with_name(path.name + ".part")
        with neighbour(ROOM), aside.open("wb") as file:
            async for chunk in self._features.ReadSnapshot(
                ReadSnapshotRequest(digest=digest), timeout=self._deadline_s
            ):
                await asyncio.to_thread(file.write, chunk.data)
            file.flush()
            os.fsync(file.fileno())
        await asyncio.to_thread(verify_snapshot, aside, digest)
        aside.replace(path)


def verify_snapshot(path: Path, digest: str) -> None:
    """SnapshotUnusable when the stream at `path` is cut off or is not what `digest` names."""
    try:
        with pa.memory_map(str(path)) as source, pa.ipc.open_stream(source) as stream:
            manifest = (stream.schema.metadata or {}).get(MANIFEST, b"")
            rows = sum(batch.num_rows for batch in stream)
    except (pa.ArrowInvalid, OSError) as error:
        raise SnapshotUnusable(f"snapshot {digest} is no whole Arrow stream: {error}") from error
    if not manifest:
        return  # the feature store has compared bytes and digest itself before it sent them
    if f"sha256:{hashlib.sha256(manifest).hexdigest()}" != digest:
        raise SnapshotUnusable(f"the rows carry the manifest of another snapshot than {digest}")
    facts: dict[str, Any] = json.loads(manifest)
    if facts.get("rows", rows) != rows:
        raise SnapshotUnusable(f"snapshot {digest} names {facts['rows']} rows, {rows} came")
