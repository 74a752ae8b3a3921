"""Tables that lie in files: what is read of them is in memory, not what they hold."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq
from millrace.stores.errors import StoreUnavailable

PARQUET_MAGIC = b"PAR1"
ARROW_FILE_MAGIC = b"ARROW1"
BATCH_ROWS = 50_000


class FileSpools:
    """Spools in a folder of this process's own; what one before it left there is removed at the start."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def sweep(self) -> None:
        """Removes what was left."""
        await asyncio.to_thread(self._sweep)

    def _sweep(self) -> None:
        for path in self._folder.glob("spool-*"):
            path.unlink(missing_ok=True)

    def open(self) -> FileSpool:
        """As `Spools.open`."""
        return FileSpool(self._folder)


class FileSpool:
    """A Spool."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file: IO[bytes] | None = None
        self._writer: Any = None

    async def write(self, piece: bytes) -> None:
        """As `Spool.write`."""
        await asyncio.to_thread(self._write, piece)

    async def append(self, batch: pa.RecordBatch) -> None:
        """As `Spool.append`."""
        await asyncio.to_thread(self._append, batch)

    async def table(self) -> pa.Table:
        """As `Spool.table`."""
        return await asyncio.to_thread(self._table)

    async def close(self) -> None:
        """As `Spool.close`."""
        if self._file is not None:
            await asyncio.to_thread(self._file.close)

    def _opened(self) -> IO[bytes]:
        if self._file is None:
            try:
                self._folder.mkdir(parents=True, exist_ok=True)
                self._file = tempfile.NamedTemporaryFile(dir=self._folder, prefix="spool-")  # noqa: SIM115
            except OSError as error:
                raise StoreUnavailable(f"no file can be made in {self._folder}: {error}") from error
        return self._file

    def _write(self, piece: bytes) -> None:
        try:
            self._opened().write(piece)
        except OSError as error:
            raise StoreUnavailable(f"cannot write in {self._folder}: {error}") from error

    def _append(self, batch: pa.RecordBatch) -> None:
        if self._writer is None:
            self._writer = pa.ipc.new_stream(self._opened(), batch.schema)
        try:
            self._writer.write_batch(batch)
        except OSError as error:
            raise StoreUnavailable(f"cannot write in {self._folder}: {error}") from error

    def _table(self) -> pa.Table:
        if self._writer is not None:
            self._writer.close()
        file = self._opened()
        file.flush()
        file.seek(0)
        head = file.read(len(ARROW_FILE_MAGIC))
        if head.startswith(PARQUET_MAGIC):
            return self._from_parquet(file)
        # The mapping outlives the name and the file object: the table's buffers hold it.
        mapped = pa.memory_map(file.name)
        if head == ARROW_FILE_MAGIC:
            return pa.ipc.open_file(mapped).read_all()
        return pa.ipc.open_stream(mapped).read_all()

    def _from_parquet(self, file: IO[bytes]) -> pa.Table:
        """Written again as Arrow, batch by batch."""
        parquet = pq.ParquetFile(file)
        arrow = FileSpool(self._folder)
        try:
            for batch in parquet.iter_batches(BATCH_ROWS):
                arrow._append(batch)
            if arrow._writer is None:
                return parquet.schema_arrow.empty_table()
            return arrow._table()
        finally:
            if arrow._file is not None:
                arrow._file.close()
