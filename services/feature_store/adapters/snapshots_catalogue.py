"""The catalogue of snapshots: an object store cannot say what it holds, so what is written is noted beside it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
from millrace.runtime.clock import wall_us
from millrace.stores.clickhouse import ClickHouse
from millrace.stores.errors import ObjectMissing
from millrace.stores.objects import Objects, Writer, digest_of

from services.feature_store.domain.snapshot import Manifest
from services.feature_store.errors import SnapshotSuperseded
from services.feature_store.ports import KeptObject, SnapshotBook

_SCHEMA = pa.schema(
    [
        ("digest", pa.string()),
        ("project", pa.string()),
        ("manifest", pa.string()),
        ("superseded", pa.uint8()),
        ("superseded_by", pa.string()),
        ("version", pa.int64()),
    ]
)


class ClickHouseSnapshots:
    """A SnapshotBook in the room's ClickHouse database."""

    def __init__(self, clickhouse: ClickHouse) -> None:
        self._clickhouse = clickhouse

    async def note(self, digest: str, manifest: Manifest | None) -> None:
        """As SnapshotBook.note."""
        text = manifest.to_bytes().decode() if manifest else ""
        await self._put([(digest, manifest.project if manifest else "", text, 0, "", wall_us())])

    async def kept(self) -> Sequence[KeptObject]:
        """As SnapshotBook.kept."""
        rows = await self._clickhouse.query_rows(
            "SELECT digest, manifest FROM snapshot_objects FINAL WHERE NOT superseded ORDER BY digest"
        )
        return [
            KeptObject(r["digest"], Manifest.from_bytes(r["manifest"].encode()) if r["manifest"] else None)
            for r in rows
        ]

    async def supersede(self, digest: str, by: str) -> None:
        """As SnapshotBook.supersede."""
        await self._put([(digest, "", "", 1, by, wall_us())])

    async def superseded_by(self, digest: str) -> str | None:
        """As SnapshotBook.superseded_by."""
        rows = await self._clickhouse.query_rows(
            "SELECT superseded_by FROM snapshot_objects FINAL WHERE digest = {digest:String} AND superseded",
            {"digest": digest},
        )
        return str(rows[0]["superseded_by"]) if rows else None

    async def _put(self, rows: Sequence[tuple[object, ...]]) -> None:
        columns = [pa.array(c, f.type) for c, f in zip(zip(*rows, strict=True), _SCHEMA, strict=True)]
        await self._clickhouse.insert_arrow("snapshot_objects", pa.Table.from_arrays(columns, schema=_SCHEMA))


class CataloguedObjects:
    """Objects that are noted before they are written; what was superseded says by what."""

    def __init__(self, inner: Objects, catalogue: SnapshotBook) -> None:
        self._inner = inner
        self._catalogue = catalogue

    async def put(self, data: bytes) -> str:
        """As Objects.put."""
        await self._catalogue.note(digest_of(data), _manifest(data))
        return await self._inner.put(data)

    async def get(self, digest: str) -> bytes:
        """As Objects.get. Raises SnapshotSuperseded."""
        try:
            return await self._inner.get(digest)
        except ObjectMissing:
            by = await self._catalogue.superseded_by(digest)
            if by is None:
                raise
            place = f"{by} took its place" if by else "nothing was left of it"
            raise SnapshotSuperseded(f"{digest} held an entity that was forgotten: {place}") from None

    async def has(self, digest: str) -> bool:
        """As Objects.has."""
        return await self._inner.has(digest)

    async def delete(self, digest: str) -> bool:
        """As Objects.delete."""
        return await self._inner.delete(digest)

    def open_write(self) -> Writer:
        """As Objects.open_write; noted when it is committed."""
        return _NotingWriter(self._inner.open_write(), self._catalogue)

    async def path(self, digest: str) -> Path | None:
        """As Objects.path."""
        return await self._inner.path(digest)


class _NotingWriter:
    def __init__(self, inner: Writer, catalogue: SnapshotBook) -> None:
        self._inner = inner
        self._catalogue = catalogue

    async def write(self, data: bytes) -> None:
        await self._inner.write(data)

    async def commit(self) -> str:
        digest = await self._inner.commit()
        await self._catalogue.note(digest, None)
        return digest

    async def abort(self) -> None:
        await self._inner.abort()


def _manifest(data: bytes) -> Manifest | None:
    if not data.startswith(b"{"):
        return None
    try:
        return Manifest.from_bytes(data)
    except ValueError:
        return None
