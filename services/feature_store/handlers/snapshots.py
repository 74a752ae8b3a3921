"""Snapshots without an entity: rows out, a new digest, the old one marked and its bytes deleted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import pyarrow as pa
import pyarrow.compute as pc
from millrace.stores.errors import ObjectMissing
from millrace.stores.objects import Objects
from millrace.wire.ingestion.v1.forgetting_pb2 import Forget, Superseded

from services.feature_store.domain.snapshot import Manifest
from services.feature_store.errors import SnapshotSuperseded
from services.feature_store.handlers.tables import to_stream
from services.feature_store.handlers.training import TrainingSets
from services.feature_store.ports import SnapshotBook


@dataclass(slots=True)
class Rewritten:
    """What became of the snapshots."""

    rows: int = 0
    objects: int = 0
    superseded: list[Superseded] = field(default_factory=list)


class SnapshotRewriter:
    """Reads every chunk of a project's snapshots, and those of no finished snapshot."""

    def __init__(self, objects: Objects, catalogue: SnapshotBook, training: TrainingSets) -> None:
        self._objects = objects
        self._catalogue = catalogue
        self._training = training

    async def rewrite(self, request: Forget) -> Rewritten:
        """Idempotent: what was superseded before is told again. Raises Unavailable, StoreUnavailable."""
        await self._training.finished()
        done = Rewritten()
        kept = await self._catalogue.kept()
        manifests = {one.digest: one.manifest for one in kept if one.manifest is not None}
        used = {chunk for manifest in manifests.values() for chunk in manifest.chunks}
        mine = {chunk for m in manifests.values() if m.project == request.project for chunk in m.chunks}
        orphans = {one.digest for one in kept if one.manifest is None and one.digest not in used}
        replaced: dict[str, str] = {}
        for chunk in sorted(mine | orphans):
            new = await self._chunk(chunk, request, done)
            if new is not None:
                replaced[chunk] = new
        for digest, manifest in sorted(manifests.items()):
            if any(chunk in replaced for chunk in manifest.chunks):
                by = await self._manifest(manifest, replaced)
                await self._catalogue.supersede(digest, by)
                done.objects += await self._objects.delete(digest)
                done.superseded.append(Superseded(digest=digest, by=by))
        for chunk, new in replaced.items():  # last: until then a repeat finds what was not finished
            await self._catalogue.supersede(chunk, new)
            done.objects += await self._objects.delete(chunk)
        return done

    async def _chunk(self, digest: str, request: Forget, done: Rewritten) -> str | None:
        """The chunk that takes its place, "" for none; None when it does not hold the entity."""
        try:
            with pa.ipc.open_stream(await self._objects.get(digest)) as stream:
                table = stream.read_all()
        except (ObjectMissing, SnapshotSuperseded):
            return None
        except pa.ArrowInvalid:  # an object that is no chunk of rows
            return None
        keep = pc.invert(_holds(table, request))
        rest = table.filter(keep)
        if rest.num_rows == table.num_rows:
            return None
        done.rows += table.num_rows - rest.num_rows
        return await self._objects.put(to_stream(rest)) if rest.num_rows else ""

    async def _manifest(self, manifest: Manifest, replaced: dict[str, str]) -> str:
        chunks = [replaced.get(chunk, chunk) for chunk in manifest.chunks]
        left = tuple(chunk for chunk in chunks if chunk)
        rows = 0
        for chunk in left:
            with pa.ipc.open_stream(await self._objects.get(chunk)) as stream:
                rows += stream.read_all().num_rows
        return await self._objects.put(replace(manifest, chunks=left, rows=rows).to_bytes()) if left else ""


def _holds(table: pa.Table, request: Forget) -> pa.ChunkedArray:
    """Which rows name the entity: as their example, or in a column that holds a field by which it is known."""
    size = table.num_rows
    found: pa.ChunkedArray = pa.chunked_array([pa.array([False] * size, type=pa.bool_())])
    for name, entity in _columns(table, request):
        found = pc.or_(found, pc.fill_null(pc.equal(table[name], entity), False))
    return found


def _columns(table: pa.Table, request: Forget) -> Sequence[tuple[str, str]]:
    wanted = [("entity", request.example.entity)] if request.HasField("example") else []
    texts = [f.name for f in table.schema if pa.types.is_string(f.type) or pa.types.is_large_string(f.type)]
    for one in request.identities:
        wanted += [(n, one.entity) for n in texts if n != "entity" and n.rpartition(".")[2] == one.field]
    return [(name, entity) for name, entity in wanted if name in texts]
