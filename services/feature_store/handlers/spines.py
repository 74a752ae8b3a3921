"""The rows of a training set: labelled examples from labeling, or a table of the user's own.

A user's table is checked once, kept in the object store under its digest, and may serve any number of training sets.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
from millrace.stores.objects import Objects

from services.feature_store.errors import BadSpine, SnapshotCorrupt
from services.feature_store.handlers.tables import key_texts, ordered, plain, to_stream
from services.feature_store.ports import SpineSource, Spool, Spools

FORMAT = "millrace.spine/1"
LABEL_COLUMNS = ("entity", "moment_us", "label", "outcome", "origin", "confidence")
ENTITY, MOMENT, MOMENT_US = "entity", "moment", "moment_us"
CHUNK_ROWS = 50_000
MICROSECONDS = pa.timestamp("us", tz="UTC")


@dataclass(frozen=True, slots=True)
class Receipt:
    """An uploaded spine."""

    digest: str
    rows: int
    columns: tuple[str, ...]


class Spines:
    """Gives spines as tables that lie in a file, whatever their size. `upload_mib` bounds one upload."""

    def __init__(self, labels: SpineSource, objects: Objects, spools: Spools, upload_mib: int) -> None:
        self._labels = labels
        self._objects = objects
        self._spools = spools
        self._upload_mib = upload_mib

    async def labelled(self, project: str, from_us: int, to_us: int, as_of_us: int) -> pa.Table:
        """The labelled examples, by (moment, entity). Raises Unavailable."""
        spine = await self._labels.spine(project, from_us, to_us, as_of_us)
        spine = spine.select(LABEL_COLUMNS)
        if not ordered(spine[MOMENT_US].to_numpy(), spine[ENTITY]):
            spine = spine.sort_by([(MOMENT_US, "ascending"), (ENTITY, "ascending")])
        return spine

    async def take(self, pieces: AsyncIterator[bytes]) -> Receipt:
        """An upload: one Arrow IPC stream or file, or one Parquet file, in pieces. Raises BadSpine."""
        spool = self._spools.open()
        try:
            await _fill(spool, pieces, self._upload_mib)
            try:
                table = await spool.table()
            except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
                raise BadSpine(f"the upload is neither an Arrow stream nor a Parquet file: {error}") from error
            return await self._keep(table)
        finally:
            await spool.close()

    async def uploaded(self, digest: str) -> pa.Table:
        """An uploaded spine, its rows in the order in which they came. Raises ObjectMissing, BadSpine."""
        try:
            manifest = json.loads(await self._objects.get(digest))
            if manifest["format"] != FORMAT:
                raise ValueError("not a spine")
            chunks, rows = list(manifest["chunks"]), int(manifest["rows"])
        except (ValueError, KeyError, TypeError) as error:
            raise BadSpine(f"{digest} names no uploaded spine: UploadSpine says the digest of one") from error
        spool = self._spools.open()
        try:
            table = await self._copied(spool, chunks)
        finally:
            await spool.close()
        if table.num_rows != rows:
            raise SnapshotCorrupt(f"{digest}: {table.num_rows} rows, the manifest says {rows}")
        return table

    async def _copied(self, spool: Spool, chunks: list[str]) -> pa.Table:
        """All chunks as one table in a file."""
        for chunk in chunks:
            with pa.ipc.open_stream(await self._objects.get(chunk)) as stream:
                for batch in stream:
                    await spool.append(batch)
        return await spool.table()

    async def _keep(self, table: pa.Table) -> Receipt:
        names = _checked(table)
        chunks = []
        for begin in range(0, table.num_rows, CHUNK_ROWS):
            chunks.append(await self._objects.put(to_stream(_normal(table.slice(begin, CHUNK_ROWS), begin))))
        manifest = {"format": FORMAT, "columns": names, "rows": table.num_rows, "chunks": chunks}
        digest = await self._objects.put(json.dumps(manifest, sort_keys=True, separators=(",", ":")).encode())
        return Receipt(digest, table.num_rows, tuple(names))


async def _fill(spool: Spool, pieces: AsyncIterator[bytes], most_mib: int) -> None:
    size = 0
    async for piece in pieces:
        size += len(piece)
        if size > most_mib << 20:
            raise BadSpine(
                f"a spine may have {most_mib} MiB (MILLRACE_FEATURE_STORE_SPINE_UPLOAD_MIB): send it in several"
            )
        await spool.write(piece)
    if not size:
        raise BadSpine("the upload is empty: send one Arrow stream or Parquet file")


def _checked(table: pa.Table) -> list[str]:
    """The names of the columns as they will be. Raises BadSpine."""
    names = table.column_names
    if not table.num_rows:
        raise BadSpine("the spine has no rows")
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise BadSpine(f"the spine has two columns {twice[0]}: rename one")
    if ENTITY not in names:
        raise BadSpine(f"the spine has no column {ENTITY} (the entity keys); it has {_list(names)}")
    moments = [name for name in (MOMENT, MOMENT_US) if name in names]
    if len(moments) != 1:
        raise BadSpine(f"the spine needs one column {MOMENT} (a timestamp) or {MOMENT_US}; it has {_list(names)}")
    return [ENTITY, MOMENT_US, *_carried(names)]


def _carried(names: list[str]) -> Iterator[str]:
    return (name for name in names if name not in (ENTITY, MOMENT, MOMENT_US))


def _list(names: list[str]) -> str:
    return ", ".join(names)


def _normal(table: pa.Table, first_row: int) -> pa.Table:
    """Entities as texts, moments as microseconds, then what is carried. Raises BadSpine, counting rows from 1."""
    name = MOMENT if MOMENT in table.column_names else MOMENT_US
    moment = _moments(table[name].combine_chunks(), name)
    if moment.null_count:
        row = first_row + pc.index(pc.is_null(moment), True).as_py() + 1
        raise BadSpine(f"{name} is null in row {row}: every row needs the moment at which it is asked")
    try:
        entity = key_texts(table[ENTITY].combine_chunks())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise BadSpine(f"{ENTITY} is {table[ENTITY].type}, which is no key: {error}") from error
    carried = table.select(list(_carried(table.column_names)))
    columns = [plain(_decoded(column)) for column in carried.columns]
    return pa.table([entity, moment, *columns], names=[ENTITY, MOMENT_US, *carried.column_names])


def _decoded(column: pa.ChunkedArray) -> pa.Array:
    values = column.combine_chunks()
    return values.dictionary_decode() if pa.types.is_dictionary(values.type) else values


def _moments(values: pa.Array, name: str) -> pa.Array:
    """int64 microseconds of timestamps, dates, whole numbers of microseconds, or ISO 8601 text; UTC without a zone."""
    kind = values.type
    if pa.types.is_dictionary(kind):
        values, kind = values.dictionary_decode(), kind.value_type
    try:
        if pa.types.is_integer(kind):
            return values.cast(pa.int64())
        if pa.types.is_timestamp(kind) or pa.types.is_date(kind) or pa.types.is_string(kind):
            return values.cast(pa.timestamp("us", tz=getattr(kind, "tz", None)), safe=False).cast(pa.int64())
    except pa.ArrowInvalid:
        try:
            return values.cast(MICROSECONDS).cast(pa.int64())  # text with a zone
        except pa.ArrowInvalid as error:
            raise BadSpine(f"{name} cannot be read as a moment: {error}") from error
    raise BadSpine(f"{name} is {kind}: it takes timestamps, or whole microseconds since 1970, UTC")
