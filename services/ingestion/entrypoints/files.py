"""Files of events, row by row: NDJSON, CSV with a header line, Parquet."""

from __future__ import annotations

import asyncio
import codecs
import csv
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import PurePath
from typing import IO

from millrace.client.batching import cut
from millrace.definitions.cells import cell_value, plain_value
from millrace.runtime.errors import Invalid

from services.ingestion.handlers.judge import MAX_EVENT_BYTES, Incoming

PARQUET_ROWS = 500  # decoded at once
BATCH_BYTES = 8 * 1024 * 1024
FORMATS = {
    "application/x-ndjson": "ndjson",
    "application/jsonl": "ndjson",
    "text/csv": "csv",
    "application/vnd.apache.parquet": "parquet",
    "application/parquet": "parquet",
}
_SUFFIXES = {".ndjson": "ndjson", ".jsonl": "ndjson", ".csv": "csv", ".parquet": "parquet"}


def format_of(asked: str, name: str, content_type: str) -> str:
    """ndjson, csv or parquet: as asked, else by the file's name, else by the media type. Raises Invalid."""
    media_type = content_type.partition(";")[0].strip().lower()
    kind = asked or _SUFFIXES.get(PurePath(name).suffix.lower(), "") or FORMATS.get(media_type, "")
    if kind not in _READERS:
        raise Invalid(f"cannot tell the file's format; say ?format= one of {', '.join(sorted(_READERS))}")
    return kind


def read_file(kind: str, file: IO[bytes], types: Mapping[str, str]) -> Iterator[Incoming]:
    """The file's events; `types` are those that the source declares of its fields. Raises Invalid where the file as a
    whole cannot be read."""
    return _READERS[kind](file, types)


async def rows_aside(rows: Iterator[Incoming], batch_events: int) -> AsyncIterator[list[Incoming]]:
    """Batches of rows, read in a thread, so that parsing holds nobody up."""
    batches = cut(rows, lambda row: len(row.json), batch_events, BATCH_BYTES)
    while batch := await asyncio.to_thread(next, batches, None):
        yield batch


def _ndjson(file: IO[bytes], types: Mapping[str, str]) -> Iterator[Incoming]:
    # A line that is longer than an event may be is refused by its beginning: it need not fit into memory.
    while line := file.readline(MAX_EVENT_BYTES + 1):
        rest = line
        while len(rest) > MAX_EVENT_BYTES and not rest.endswith(b"\n"):
            rest = file.readline(MAX_EVENT_BYTES + 1)
        if line.strip():
            yield Incoming(line if len(line) > MAX_EVENT_BYTES else line.strip())


def _csv(file: IO[bytes], types: Mapping[str, str]) -> Iterator[Incoming]:
    """A row with another number of cells than the head comes as the list of its cells, which no contract takes."""
    reader = csv.reader(codecs.iterdecode(file, "utf-8-sig", errors="replace"))
    try:
        head = next(reader, [])
        for cells in reader:
            if len(cells) == len(head):
                values = zip(head, cells, strict=True)
                yield Incoming(value={name: cell_value(text, types.get(name, "string")) for name, text in values})
            elif cells:
                yield Incoming(value=cells)
    except csv.Error as error:
        raise Invalid(f"the file cannot be read on after line {reader.line_num}: {error}") from error


def _parquet(file: IO[bytes], types: Mapping[str, str]) -> Iterator[Incoming]:
    import pyarrow
    import pyarrow.parquet

    try:
        batches = pyarrow.parquet.ParquetFile(file).iter_batches(batch_size=PARQUET_ROWS)
        for batch in batches:
            for row in batch.to_pylist():
                yield Incoming(value={name: plain_value(value) for name, value in row.items()})
    except pyarrow.ArrowException as error:
        raise Invalid(f"not a Parquet file that can be read: {error}") from error


_Read = Callable[[IO[bytes], Mapping[str, str]], Iterator[Incoming]]
_READERS: dict[str, _Read] = {"ndjson": _ndjson, "csv": _csv, "parquet": _parquet}
