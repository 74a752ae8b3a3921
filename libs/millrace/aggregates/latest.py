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
from itertools import accumulate, chain
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
        self.kind = int.from_bytes(head[:8], "little")

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
        return read_latest([(self, rows)])[0]

    def heads(self, rows: Sequence[bytes]) -> np.ndarray | None:
        """Headers and numbers of all rows, not looked at yet; None where a row is not as long as it has to be."""
        if self.all_numbers:
            fits, body = set(map(len, rows)) <= {self._end}, b"".join(rows)
        else:
            body = b"".join([row[: self._end] for row in rows])
            fits = len(body) == len(rows) * self._end
        return np.frombuffer(body, dtype=self._dtype) if fits else None

    def columns_of(self, found: list[bytes], numbers: np.ndarray, places: np.ndarray, size: int) -> np.ndarray:
        """The columns of `size` entities, of which those at `places` have the rows `found`, whose numbers are known."""
        if self.all_numbers and len(found) == size:
            return numbers
        if self.all_numbers:
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


LatestRows = tuple[LatestLayout, Sequence[Sequence[bytes | None]]]


def read_latest(views: Sequence[LatestRows]) -> list[tuple[np.ndarray, np.ndarray]]:
    """As `LatestLayout.read`, of several views with their rows together: of numbers alone, equally many each.

    For few entities the number of calls of numpy is what costs, and it is the same for five views as for one.
    """
    layouts = [layout for layout, _ in views]
    entities = [parts for _, rows in views for parts in rows]
    flat = list(chain.from_iterable(entities))
    found = [row for row in flat if row is not None]
    places = np.repeat(np.arange(len(entities)), list(map(len, entities)))
    if len(found) < len(flat):
        places = places[[place for place, row in enumerate(flat) if row is not None]]
    sizes = [len(rows) for _, rows in views]
    heads = _checked_heads(layouts, found, np.repeat(np.arange(len(views)), sizes)[places])
    if (places[1:] == places[:-1]).any():  # several partitions know an entity
        order = np.lexsort((heads["seq"], heads["event_us"], places))
        newest_of_each = order[np.append(places[order][1:] != places[order][:-1], True)]
        places, heads = places[newest_of_each], heads[newest_of_each]
        found = [found[i] for i in newest_of_each.tolist()]
    newest = np.full(len(entities), NEVER_US, dtype=np.int64)
    newest[places] = heads["event_us"]
    columns = layouts[0].columns_of(found, heads["numbers"].T, places, len(entities))
    spans = [slice(end - size, end) for size, end in zip(sizes, accumulate(sizes), strict=True)]
    return [(columns[:, span], newest[span]) for span in spans]


def _checked_heads(layouts: Sequence[LatestLayout], rows: list[bytes], layout_of: np.ndarray) -> np.ndarray:
    """Headers and numbers of rows, each of the layout at its place. Raises RowError for bytes that it did not write."""
    heads = layouts[0].heads(rows)
    kinds = np.array([layout.kind for layout in layouts], dtype=np.uint64)
    if heads is None or (heads["kind"] != kinds[layout_of]).any():
        for row, place in zip(rows, layout_of.tolist(), strict=True):
            layouts[place].order(row)  # says which and why
        raise RowError("a packed row is not as its view writes them")
    return heads
