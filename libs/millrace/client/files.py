"""Files of events, row by row as JSON: NDJSON, CSV with a header line, Parquet; the first two also packed by gzip."""

from __future__ import annotations

import csv
import gzip
import io
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO

import msgspec

from millrace.client.errors import BadEventFile
from millrace.definitions.cells import cell_value, plain_value

STDIN = "-"
FORMATS = ("ndjson", "csv", "parquet")
MAX_ROW_BYTES = 1024 * 1024  # sent of a longer row, which is refused either way: an event takes half of it
PARQUET_ROWS = 5_000  # decoded at once
_SUFFIXES = {".ndjson": "ndjson", ".jsonl": "ndjson", ".json": "ndjson", ".csv": "csv", ".parquet": "parquet"}
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class FileRow:
    """One event and where it stands: the line (of a Parquet file: the row), from 1."""

    number: int
    json: bytes


def format_of(file: str, asked: str = "") -> str:
    """ndjson, csv or parquet: as asked, else by the file's ending; what has none is NDJSON. Raises BadEventFile."""
    name = file.removesuffix(".gz")
    chosen = asked or _SUFFIXES.get(Path(name).suffix.lower(), "ndjson")
    if chosen not in FORMATS:
        raise BadEventFile(f"format {chosen}: it is one of {', '.join(FORMATS)}")
    if chosen == "parquet" and (file == STDIN or file != name):
        raise BadEventFile(f"{file}: Parquet is read from an uncompressed file, not from a stream")
    return chosen


class EventFile:
    """An open file of events, read once from its beginning; `-` is standard input.

    `kinds` are the declared types by column, for CSV, where every cell is text. `size_bytes` is 0 where nobody knows.
    """

    def __init__(self, file: str, form: str, kinds: Mapping[str, str] | None = None) -> None:
        self.name = file
        self._form = form
        self._kinds = kinds or {}
        try:
            self._raw: IO[bytes] = sys.stdin.buffer if file == STDIN else Path(file).open("rb")  # noqa: SIM115
        except OSError as error:
            raise BadEventFile(f"{file} cannot be read: {error.strerror}") from error
        self._share = 0.0  # of a Parquet file, whose reader jumps
        self.size_bytes = 0 if file == STDIN else Path(file).stat().st_size

    def __enter__(self) -> EventFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self.name != STDIN:
            self._raw.close()

    @property
    def position_bytes(self) -> int:
        """How far the file has been read; 0 where that is not known."""
        if self.name == STDIN or self._raw.closed:
            return 0
        return int(self._share * self.size_bytes) if self._form == "parquet" else self._raw.tell()

    def rows(self) -> Iterator[FileRow]:
        """The events in their order. Raises BadEventFile, which names the line that is none."""
        readers: dict[str, Callable[[], Iterator[FileRow]]] = {
            "ndjson": self._ndjson,
            "csv": self._csv,
            "parquet": self._parquet,
        }
        return readers[self._form]()

    def _bytes(self) -> IO[bytes]:
        return gzip.GzipFile(fileobj=self._raw) if self.name.endswith(".gz") else self._raw  # type: ignore[return-value]

    def _ndjson(self) -> Iterator[FileRow]:
        number = 0
        try:
            for number, line in enumerate(self._bytes(), start=1):
                text = (line.removeprefix(_BOM) if number == 1 else line).strip()
                if text:
                    yield FileRow(number, text[:MAX_ROW_BYTES])
        except (OSError, EOFError) as error:
            raise BadEventFile(f"{self.name}: after line {number}: {error}") from error

    def _csv(self) -> Iterator[FileRow]:
        text = io.TextIOWrapper(self._bytes(), encoding="utf-8-sig", newline="")
        try:
            yield from self._cells(csv.DictReader(text))
        finally:
            with suppress(ValueError):  # the file is closed already
                text.detach()  # or it would close the file, which is not its own

    def _cells(self, reader: csv.DictReader[str]) -> Iterator[FileRow]:
        while True:
            try:
                row = next(reader, None)
            except (OSError, EOFError, csv.Error, UnicodeDecodeError) as error:
                raise BadEventFile(f"{self.name}: after line {reader.line_num}: {error}") from error
            if row is None:
                return
            if None in row or None in row.values():
                raise BadEventFile(f"{self.name}: line {reader.line_num} has another number of cells than the head")
            cells = {name: cell_value(text, self._kinds.get(name, "string")) for name, text in row.items()}
            yield FileRow(reader.line_num, msgspec.json.encode(cells)[:MAX_ROW_BYTES])

    def _parquet(self) -> Iterator[FileRow]:
        try:
            import pyarrow
            import pyarrow.parquet
        except ImportError as error:
            raise BadEventFile(f"{self.name}: reading Parquet needs pyarrow (pip install pyarrow)") from error
        number = 0
        try:
            parquet = pyarrow.parquet.ParquetFile(self._raw)
            for batch in parquet.iter_batches(batch_size=PARQUET_ROWS):
                for row in batch.to_pylist():
                    number += 1
                    plain = {name: plain_value(value) for name, value in row.items()}
                    yield FileRow(number, msgspec.json.encode(plain)[:MAX_ROW_BYTES])
                self._share = number / max(1, parquet.metadata.num_rows)
        except pyarrow.ArrowException as error:
            raise BadEventFile(f"{self.name}: after row {number}: not a readable Parquet file: {error}") from error
