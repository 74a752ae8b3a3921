"""Snapshots without an entity: rows and names out, a new digest, the old one marked and its bytes deleted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import pyarrow as pa
import pyarrow.compute as pc
from millrace.definitions.keys import key_number
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
        orphans = {one.digest for one in kept if one.manifest is None and one.digest not in used}
        own = {chunk: _own(m) for m in manifests.values() if m.project == request.project for chunk in m.chunks}
        replaced: dict[str, str] = {}
        for chunk in sorted(own.keys() | orphans):
            new = await self._chunk(chunk, own.get(chunk, ()), request, done)
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

    async def _chunk(self, digest: str, own: Sequence[str], request: Forget, done: Rewritten) -> str | None:
        """The chunk that takes its place, "" for none; None when it does not hold the entity. `own` are the columns in
        which a user may have called it something of his own."""
        try:
            with pa.ipc.open_stream(await self._objects.get(digest)) as stream:
                table = stream.read_all()
        except (ObjectMissing, SnapshotSuperseded):
            return None
        except pa.ArrowInvalid:  # an object that is no chunk of rows
            return None
        kept = table.filter(pc.invert(_holds(table, request)))
        rest, blanked = _without_name(kept, own, request)
        if rest.num_rows == table.num_rows and not blanked:
            return None
        done.rows += table.num_rows - rest.num_rows + blanked
        return await self._objects.put(to_stream(rest)) if rest.num_rows else ""

    async def _manifest(self, manifest: Manifest, replaced: dict[str, str]) -> str:
        chunks = [replaced.get(chunk, chunk) for chunk in manifest.chunks]
        left = tuple(chunk for chunk in chunks if chunk)
        rows = 0
        for chunk in left:
            with pa.ipc.open_stream(await self._objects.get(chunk)) as stream:
                rows += stream.read_all().num_rows
        return await self._objects.put(replace(manifest, chunks=left, rows=rows).to_bytes()) if left else ""


def _own(manifest: Manifest) -> tuple[str, ...]:
    """The columns that came with a user's spine."""
    others = {"entity", "moment_us", *(feature for feature, _ in manifest.present)}
    return tuple(name for name, _ in manifest.columns if name not in others) if manifest.spine else ()


def _holds(table: pa.Table, request: Forget) -> pa.ChunkedArray:
    """Which rows are the entity's: as their example, or by a column that holds a field by which it is known."""
    found = _none(table)
    if request.HasField("example"):
        found = _or_equal(found, table["entity"], request.example.entity)
    for one in request.identities:
        number = key_number(one.entity)
        for column in table.schema:
            if column.name == "entity" or column.name.rpartition(".")[2] != one.field:
                continue
            if _is_text(column.type) or pa.types.is_integer(column.type):
                found = _or_equal(found, pc.cast(table[column.name], pa.string()), one.entity)
            elif number is not None and pa.types.is_floating(column.type):
                found = _or_equal(found, table[column.name], number)
    return found


def _without_name(table: pa.Table, columns: Sequence[str], request: Forget) -> tuple[pa.Table, int]:
    """The rows with null where a text of these columns is the entity's name; and how many rows that changed. A feature
    that has the same text is a coincidence, as an equal number is."""
    names = pa.array(sorted({one.entity for one in request.identities}), pa.string())
    changed = _none(table)
    for name in columns:
        place, column = table.schema.get_field_index(name), table[name]
        if not _is_text(column.type):
            continue
        named = pc.is_in(column, value_set=names.cast(column.type))
        changed = pc.or_(changed, named)
        table = table.set_column(place, name, pc.if_else(named, pa.scalar(None, column.type), column))
    return table, pc.sum(changed).as_py() or 0


def _none(table: pa.Table) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array([False] * table.num_rows, type=pa.bool_())])


def _or_equal(found: pa.ChunkedArray, column: pa.ChunkedArray, value: str | float) -> pa.ChunkedArray:
    return pc.or_(found, pc.fill_null(pc.equal(column, value), False))


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))
