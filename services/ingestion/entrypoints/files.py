"""Files of events, row by row: NDJSON, CSV with a header line, Parquet."""

from __future__ import annotations

import asyncio
import codecs
import csv
import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import PurePath
from typing import IO, Any

from millrace.runtime.errors import Invalid

from services.ingestion.handlers.judge import Incoming

PARQUET_ROWS = 5_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
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


def read_file(kind: str, file: IO[bytes]) -> Iterator[Incoming]:
    """The file's events. Raises Invalid where the file as a whole cannot be read."""
    return _READERS[kind](file)


async def rows_aside(rows: Iterator[Incoming], batch_events: int) -> AsyncIterator[list[Incoming]]:
    """Batches of rows, read in a thread, so that parsing holds nobody up."""
    while batch := await asyncio.to_thread(lambda: list(itertools.islice(rows, batch_events))):
        yield batch


def _ndjson(file: IO[bytes]) -> Iterator[Incoming]:
    for line in file:
        if line.strip():
            yield Incoming(line.strip())


def _csv(file: IO[bytes]) -> Iterator[Incoming]:
    """Every cell is text at first; what looks like a number, true or false is read as such, an empty one is null."""
    reader = csv.DictReader(codecs.iterdecode(file, "utf-8-sig", errors="replace"))
    for row in reader:
        extra = row.pop(None, None)  # cells beyond the header line
        yield Incoming(value=None if extra else {name: cell_value(cell) for name, cell in row.items()})


def cell_value(cell: str | None) -> Any:
    """A CSV cell as JSON would have it. `007` and `1_000` stay text: they are names, not numbers."""
    if cell is None or cell == "":
        return None
    if cell in ("true", "false"):
        return cell == "true"
    digits = cell[1:] if cell[0] == "-" else cell
    if not digits[:1].isdigit() or (digits[0] == "0" and digits[1:2].isdigit()) or "_" in cell:
        return cell
    try:
        return int(cell) if digits.isdigit() else float(cell)
    except ValueError:
        return cell


def _parquet(file: IO[bytes]) -> Iterator[Incoming]:
    import pyarrow
    import pyarrow.parquet

    try:
        batches = pyarrow.parquet.ParquetFile(file).iter_batches(batch_size=PARQUET_ROWS)
        for batch in batches:
            for row in batch.to_pylist():
                yield Incoming(value={name: plain(value) for name, value in row.items()})
    except pyarrow.ArrowException as error:
        raise Invalid(f"not a Parquet file that can be read: {error}") from error


def plain(value: Any) -> Any:
    """An Arrow cell as JSON would have it; times become integer microseconds, those without a zone are UTC."""
    if isinstance(value, datetime):
        aware = value if value.tzinfo else value.replace(tzinfo=UTC)
        return (aware - _EPOCH) // timedelta(microseconds=1)
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Decimal):
        return float(value)
    return value


_READERS: dict[str, Callable[[IO[bytes]], Iterator[Incoming]]] = {"ndjson": _ndjson, "csv": _csv, "parquet": _parquet}
