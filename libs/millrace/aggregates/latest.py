"""Packed rows of latest views: the newest event's values of one (view version, entity, source partition).

Row := header, the view's numbers as float64 (NaN: null), then its other values as a JSON array; each part in the order
of the view's columns. Header (24 bytes, little-endian): u1 version, u1 kind ('l'), u2 zero, u4 layout code, i8 event
time, i8 sequence. The newest event wins, by event time, then by sequence.
"""

from __future__ import annotations

import json
import math
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from millrace.aggregates.rows import NEVER_US, ROW_VERSION, RowError

KIND_LATEST = ord("l")
_HEADER = struct.Struct("<BBHIqq")


@dataclass(frozen=True, slots=True)
class Latest:
    """The newest event of an entity: when, in which place, and its values (None: null)."""

    event_us: int
    seq: int
    values: list[Any]

    @property
    def order(self) -> tuple[int, int]:
        """What decides who is newest."""
        return self.event_us, self.seq


class LatestLayout:
    """How the columns of a latest view lie in a row. `numeric` says of each whether it is a number or a boolean; whole
    numbers and timestamps are not, because they stay exact as text."""

    def __init__(self, columns: Sequence[str], numeric: Sequence[bool]) -> None:
        self.columns = tuple(columns)
        self.numeric = tuple(numeric)
        self._numbers = [place for place, is_number in enumerate(numeric) if is_number]
        self._others = [place for place, is_number in enumerate(numeric) if not is_number]
        self._floats = f"<{len(self._numbers)}d"
        self._end = _HEADER.size + struct.calcsize(self._floats)
        # What a row begins with, for many rows at once; `kind` is version, kind and layout code, compared as one.
        self._dtype = np.dtype(
            [("kind", "<u8"), ("event_us", "<i8"), ("seq", "<i8"), ("numbers", "<f8", (len(self._numbers),))]
        )
        self.code = zlib.crc32(",".join(f"{c}:{n:d}" for c, n in zip(columns, numeric, strict=True)).encode())
        head = _HEADER.pack(ROW_VERSION, KIND_LATEST, 0, self.code, 0, 0)
        self._kind = int.from_bytes(head[:8], "little")

    @property
    def all_numbers(self) -> bool:
        """Whether every column is a number."""
        return not self._others

    def pack(self, latest: Latest) -> bytes:
        """One packed row."""
        values = latest.values
        head = _HEADER.pack(ROW_VERSION, KIND_LATEST, 0, self.code, latest.event_us, latest.seq)
        floats = struct.pack(self._floats, *(math.nan if values[i] is None else values[i] for i in self._numbers))
        if not self._others:
            return head + floats
        others = [values[i] for i in self._others]
        return head + floats + json.dumps(others, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()

    def order(self, row: bytes) -> tuple[int, int]:
        """(event time, sequence) of a packed row. Raises RowError for bytes that this view did not write."""
        if len(row) < self._end:
            raise RowError("a packed row is cut short")
        version, kind, _, found, event_us, seq = _HEADER.unpack_from(row)
        if (version, kind, found) != (ROW_VERSION, KIND_LATEST, self.code):
            raise RowError(f"a packed row has version {version}, kind {kind}, layout {found:08x}: not this view's")
        return event_us, seq

    def read(self, rows: Sequence[Sequence[bytes | None]]) -> tuple[np.ndarray, np.ndarray]:
        """The newest of each entity's rows (one per source partition).

        Returns [columns, entities], float64 with NaN for null where all columns are numbers, else objects with None;
        and int64[entities]: the event time, or NEVER_US. Raises RowError.
        """
        found = [row for parts in rows for row in parts if row is not None]
        known = [len(parts) - parts.count(None) for parts in rows]
        places = np.repeat(np.arange(len(rows)), known)
        heads = self._heads(found)
        if max(known, default=0) > 1:  # several partitions know the entity
            order = np.lexsort((heads["seq"], heads["event_us"], places))
            newest_of_each = order[np.append(places[order][1:] != places[order][:-1], True)]
            places, heads = places[newest_of_each], heads[newest_of_each]
            found = [found[i] for i in newest_of_each.tolist()]
        newest = np.full(len(rows), NEVER_US, dtype=np.int64)
        newest[places] = heads["event_us"]
        return self._columns(found, heads["numbers"].T, places, len(rows)), newest

    def _heads(self, rows: Sequence[bytes]) -> np.ndarray:
        """Headers and numbers of all rows. Raises RowError for bytes that this view did not write."""
        body = b"".join([row[: self._end] for row in rows])
        if len(body) != len(rows) * self._end:
            raise RowError("a packed row is cut short")
        heads = np.frombuffer(body, dtype=self._dtype)
        if (heads["kind"] != self._kind).any():
            for row in rows:
                self.order(row)  # says which and why
        return heads

    def _columns(self, found: list[bytes], numbers: np.ndarray, places: np.ndarray, size: int) -> np.ndarray:
        if not self._others and len(found) == size:
            return numbers
        if not self._others:
            columns = np.full((len(self.columns), size), np.nan)
            columns[:, places] = numbers
            return columns
        mixed = np.full((len(self.columns), size), None, dtype=object)
        for place, values in zip(self._numbers, numbers, strict=True):
            mixed[place, places] = [None if math.isnan(value) else value for value in values.tolist()]
        try:
            for place, row in zip(places.tolist(), found, strict=True):
                mixed[self._others, place] = json.loads(row[self._end :])
        except ValueError as error:
            raise RowError(f"a packed row cannot be read: {error}") from error
        return mixed
