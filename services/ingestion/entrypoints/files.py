"""Files of events, row by row: NDJSON, CSV with a header line, Parquet."""

from __future__ import annotations

import asyncio
import codecs
import csv
import itertools
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import PurePath
from typing import IO

from millrace.definitions.cells import cell_value, plain_value
from millrace.runtime.errors import Invalid

from services.ingestion.handlers.judge import Incoming

PARQUET_ROWS = 5_000
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
    while batch := await asyncio.to_thread(lambda: list(itertools.islice(rows, batch_events))):
        yield batch


def _ndjson(file: IO[bytes], types: Mapping[str, str]) -> Iterator[Incoming]:
    for line in file:
        if line.strip():
            yield Incoming(line.strip())


def _csv(file: IO[bytes], types: Mapping[str, str]) -> Iterator[Incoming]:
    reader = csv.DictReader(codecs.iterdecode(file, "utf-8-sig", errors="replace"))
    for row in reader:
        extra = row.pop(None, None)  # cells beyond the header line
        cells = {name: cell_value(text, types.get(name, "string")) for name, text in row.items()}
        yield Incoming(value=None if extra else cells)


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
