"""Packed rows of latest views: the newest event's values of one (view version, entity, source partition).

Row := header, then the values as a JSON array in the order of the view's columns. Header (24 bytes, little-endian):
u1 version, u1 kind ('l'), u2 zero, u4 layout code, i8 event time, i8 sequence. The newest event wins, by event time,
then by sequence.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from millrace.aggregates.rows import ROW_VERSION, RowError

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


def latest_code(columns: Sequence[str]) -> int:
    """The layout code of a view with these columns."""
    return zlib.crc32(",".join(columns).encode())


def pack_latest(code: int, latest: Latest) -> bytes:
    """One packed row."""
    values = json.dumps(latest.values, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return _HEADER.pack(ROW_VERSION, KIND_LATEST, 0, code, latest.event_us, latest.seq) + values.encode()


def unpack_order(code: int, row: bytes) -> tuple[int, int]:
    """(event time, sequence) of a packed row. Raises RowError for bytes that this view did not write."""
    if len(row) < _HEADER.size:
        raise RowError("a packed row is cut short")
    version, kind, _, found, event_us, seq = _HEADER.unpack_from(row)
    if (version, kind, found) != (ROW_VERSION, KIND_LATEST, code):
        raise RowError(f"a packed row has version {version}, kind {kind}, layout {found:08x}: not this view's")
    return event_us, seq


def newest_latest(code: int, rows: Sequence[bytes | None]) -> Latest | None:
    """The newest of an entity's packed rows (one per source partition); None when there is none."""
    found = [(unpack_order(code, row), row) for row in rows if row is not None]
    if not found:
        return None
    (event_us, seq), row = max(found, key=lambda pair: pair[0])
    try:
        return Latest(event_us, seq, json.loads(row[_HEADER.size :]))
    except ValueError as error:
        raise RowError(f"a packed row cannot be read: {error}") from error
