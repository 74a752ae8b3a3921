"""Tables on their way to and from the platform: any of the usual forms in, verified Arrow out."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from millrace.client.errors import BadTable, ClientError, SnapshotBroken

if TYPE_CHECKING:
    import pyarrow as pa

PIECE_BYTES = 1 << 20
MANIFEST_KEY = b"millrace.manifest"
FORMS = (
    "an Arrow table or reader, a pandas or polars frame, a list of dictionaries,"
    " or the path of a .parquet, .arrow, .csv or .ndjson file"
)


def pieces_of(table: Any) -> Iterator[bytes]:
    """The bytes of a table as an upload takes them. Raises BadTable."""
    if isinstance(table, str | Path):
        path = Path(table)
        if not path.is_file():
            raise BadTable(f"no file {path}")
        if path.suffix in (".parquet", ".pq", ".arrow", ".arrows", ".ipc", ".feather"):
            yield from _file(path)
            return
        yield from _stream(_text_batches(path))
        return
    yield from _stream(_batches(table))


async def verified_batches(pieces: AsyncIterator[bytes], digest: str) -> AsyncIterator[pa.RecordBatch]:
    """The batches of a snapshot's stream. SnapshotBroken when they are not those that `digest` names, or cut off."""
    pa = _pyarrow()
    source = _Pulled(pieces)
    try:
        stream = await asyncio.to_thread(pa.ipc.open_stream, source)
        manifest = (stream.schema.metadata or {}).get(MANIFEST_KEY, b"")
        if f"sha256:{hashlib.sha256(manifest).hexdigest()}" != digest:
            raise SnapshotBroken(f"the rows carry the manifest of another snapshot than {digest}")
        rows, expected = 0, int(json.loads(manifest)["rows"])
        while (batch := await asyncio.to_thread(_next, stream)) is not None:
            rows += batch.num_rows
            yield batch
        if rows != expected:
            raise SnapshotBroken(f"{digest} names {expected} rows, {rows} came")
    except (pa.ArrowInvalid, OSError) as error:
        if source.failure is not None:
            raise source.failure from error
        raise SnapshotBroken(f"{digest} is no whole Arrow stream: {error}") from error


async def to_arrow(batches: AsyncIterator[pa.RecordBatch]) -> pa.Table:
    """All of them as one table."""
    pa = _pyarrow()
    return pa.Table.from_batches([batch async for batch in batches]).replace_schema_metadata(None)


async def to_parquet(batches: AsyncIterator[pa.RecordBatch], path: Path) -> int:
    """Written aside, then put in place; the number of rows."""
    _pyarrow()
    import pyarrow.parquet as pq

    aside = path.with_name(path.name + ".part")
    writer: Any = None
    rows = 0
    try:
        async for batch in batches:
            writer = writer or pq.ParquetWriter(aside, batch.schema)
            await asyncio.to_thread(writer.write_batch, batch)
            rows += batch.num_rows
        if writer is not None:
            await asyncio.to_thread(writer.close)
            await asyncio.to_thread(aside.replace, path)
    except OSError as error:
        raise BadTable(f"cannot write {path}: {error}") from error
    finally:
        if writer is not None and writer.is_open:
            writer.close()
        aside.unlink(missing_ok=True)
    return rows


class _Pulled(io.RawIOBase):
    """A file that Arrow reads in a thread, filled by the loop piece by piece: what is not asked for stays away."""

    def __init__(self, pieces: AsyncIterator[bytes]) -> None:
        self._pieces = pieces
        self._loop = asyncio.get_running_loop()
        self._rest = memoryview(b"")
        self.failure: ClientError | None = None

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any) -> int:
        """As much as the next piece has."""
        if not self._rest:
            self._rest = memoryview(self._pull())
        size = min(len(buffer), len(self._rest))
        buffer[:size] = self._rest[:size]
        self._rest = self._rest[size:]
        return size

    def read(self, size: int = -1) -> bytes:
        """All of `size` bytes, less only at the end: Arrow takes a short answer for a broken stream."""
        parts, left = [], size if size >= 0 else 1 << 62
        while left:
            if not self._rest:
                self._rest = memoryview(self._pull())
                if not self._rest:
                    break
            part = self._rest[:left]
            parts.append(part)
            left -= len(part)
            self._rest = self._rest[len(part) :]
        return b"".join(parts)

    def _pull(self) -> bytes:
        try:
            return asyncio.run_coroutine_threadsafe(_anext(self._pieces), self._loop).result()
        except ClientError as error:  # Arrow would say that reading failed, not why
            self.failure = error
            raise OSError(str(error)) from error


async def _anext(pieces: AsyncIterator[bytes]) -> bytes:
    return await anext(pieces, b"")


def _next(stream: Any) -> Any:
    try:
        return stream.read_next_batch()
    except StopIteration:
        return None


def _pyarrow() -> Any:
    try:
        import pyarrow
        import pyarrow.ipc
    except ModuleNotFoundError as error:
        raise BadTable("tables need pyarrow: pip install 'millrace[frames]'") from error
    return pyarrow


def _file(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(PIECE_BYTES):
            yield piece


def _batches(table: Any) -> Any:
    """A reader of record batches."""
    pa = _pyarrow()
    if isinstance(table, pa.RecordBatchReader):
        return table
    if isinstance(table, pa.RecordBatch):
        table = pa.Table.from_batches([table])
    if not isinstance(table, pa.Table):
        try:
            if isinstance(table, list | tuple):
                table = pa.Table.from_pylist(list(table))
            elif hasattr(table, "to_arrow"):
                table = table.to_arrow()
            elif hasattr(table, "iloc"):
                table = pa.Table.from_pandas(table, preserve_index=False)
            else:
                raise BadTable(f"{type(table).__name__} is no table; it takes {FORMS}")
        except (pa.ArrowInvalid, pa.ArrowTypeError, AttributeError) as error:
            raise BadTable(f"the frame cannot be sent: {error}") from error
    return table.to_reader(max_chunksize=50_000)


def _text_batches(path: Path) -> Any:
    pa = _pyarrow()
    try:
        if path.suffix == ".csv":
            from pyarrow import csv

            keys = csv.ConvertOptions(column_types={"entity": pa.string()})  # 007 is a key, not a number
            return csv.open_csv(path, convert_options=keys)
        if path.suffix in (".ndjson", ".jsonl", ".json"):
            from pyarrow import json as arrow_json

            return arrow_json.read_json(path).to_reader()
    except pa.ArrowInvalid as error:
        raise BadTable(f"{path}: {error}") from error
    raise BadTable(f"{path}: it takes {FORMS}")


def _stream(reader: Any) -> Iterator[bytes]:
    """One Arrow IPC stream, batch by batch."""
    pa = _pyarrow()
    parts: list[bytes] = []
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, reader.schema) as writer:
        try:
            for batch in reader:
                writer.write_batch(batch)
                parts.append(sink.getvalue())
                sink.seek(0)
                sink.truncate()
                yield from _cut(parts)
        except pa.ArrowInvalid as error:  # of a CSV file, a line far below its head
            raise BadTable(str(error)) from error
    yield from _cut([sink.getvalue()])


def _cut(parts: list[bytes]) -> Iterator[bytes]:
    whole = b"".join(parts)
    parts.clear()
    for begin in range(0, len(whole), PIECE_BYTES):
        yield whole[begin : begin + PIECE_BYTES]
