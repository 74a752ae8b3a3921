"""Packed rows of windowed views: one byte string per (view version, entity, source partition), tiles oldest first.

Row := header, then tiles of `Layout.dtype`. Header (16 bytes, little-endian): u1 version, u1 kind ('t'), u2 flags,
u4 layout code, i8 newest event time. The newest event time outlives the tiles, for age and TTL. Flag 1: the tiles are
compressed (zlib); a tile of a sketch is a KiB or more, and mostly empty.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

from millrace.aggregates.layout import Layout, State, take, widened
from millrace.aggregates.windows import tile_start, window_start

ROW_VERSION = 1
KIND_TILES = ord("t")
# Event time of an entity that was never heard of.
NEVER_US = int(np.iinfo(np.int64).min)
_HEADER = struct.Struct("<BBHIq")
_HEADS = np.dtype([("kind", "<u8"), ("newest_us", "<i8")])  # the same for many rows at once; `kind` is all but the time
_COMPRESSED = 1
COMPRESS_TILE_BYTES = 512  # narrower tiles hold plain numbers, and reading them is worth more than the room


class RowError(ValueError):
    """A packed row of another version or layout, or cut short."""


@dataclass(frozen=True, slots=True)
class Unpacked:
    """Tiles of many rows: `owner` (ascending) is each tile's row, `start_us` its start; `newest_us` is per row."""

    owner: np.ndarray
    start_us: np.ndarray
    state: State
    newest_us: np.ndarray


def newest_us(row: bytes) -> int:
    """Event time of the newest event of a packed row, of a windowed or of a latest view. Raises RowError."""
    if len(row) < _HEADER.size:
        raise RowError("a packed row is cut short")
    newest: int = _HEADER.unpack_from(row)[4]
    return newest


def unpack(layout: Layout, rows: Sequence[bytes | None]) -> Unpacked:
    """Tiles of `rows` (None: no such row). Raises RowError for bytes that this layout did not write."""
    newest = np.full(len(rows), NEVER_US, dtype=np.int64)
    counts = np.zeros(len(rows), dtype=np.int64)
    there = [place for place, row in enumerate(rows) if row is not None] if None in rows else slice(None)
    newest[there], bodies = _opened(layout, [row for row in rows if row is not None])
    lengths = np.fromiter(map(len, bodies), np.int64, len(bodies))
    counts[there] = lengths // layout.dtype.itemsize
    if (lengths % layout.dtype.itemsize).any():
        raise RowError("a packed row is cut short")
    tiles = np.frombuffer(b"".join(bodies), dtype=layout.dtype)
    owner = np.repeat(np.arange(len(rows)), counts)
    return Unpacked(owner, tiles["start_us"], {name: tiles[name] for name in layout.names}, newest)


def _opened(layout: Layout, rows: Sequence[bytes]) -> tuple[np.ndarray, list[bytes]]:
    """The newest event time of each row, and the bytes of its tiles. The headers are looked at all at once: a read of
    many entities would spend most of its time on them otherwise."""
    begun = b"".join([row[: _HEADER.size] for row in rows])
    if len(begun) != len(rows) * _HEADER.size:
        raise RowError("a packed row is cut short")
    heads = np.frombuffer(begun, dtype=_HEADS)
    bodies = [row[_HEADER.size :] for row in rows]
    if (heads["kind"] != _kind(layout, 0)).any():
        bodies = [_checked(layout, row) for row in rows]
    return heads["newest_us"], bodies


def _kind(layout: Layout, flags: int) -> int:
    """The first eight bytes of a header, to be compared as one number."""
    return int.from_bytes(_HEADER.pack(ROW_VERSION, KIND_TILES, flags, layout.code, 0)[:8], "little")


def _checked(layout: Layout, row: bytes) -> bytes:
    """The bytes of the tiles of a row that is compressed, or wrong."""
    version, kind, flags, code, _ = _HEADER.unpack_from(row)
    if (version, kind, code) != (ROW_VERSION, KIND_TILES, layout.code):
        raise RowError(f"a packed row has version {version}, kind {kind}, layout {code:08x}: not this view's")
    body = row[_HEADER.size :]
    try:
        return zlib.decompress(body) if flags & _COMPRESSED else body
    except zlib.error as error:
        raise RowError(f"a packed row cannot be read: {error}") from error


@dataclass(frozen=True, slots=True)
class Lifted:
    """New events for packed rows: `owner` is the row of each event, `state` from `Layout.lift`."""

    owner: np.ndarray
    event_us: np.ndarray
    state: State


def merge_rows(
    layout: Layout, rows: Sequence[bytes | None], new: Lifted, *, hop_us: int, keep_from_us: int | np.ndarray
) -> list[bytes]:
    """The rows after the new events; tiles that start before `keep_from_us` (of all rows, or per row) are dropped."""
    old = unpack(layout, rows)
    newest = old.newest_us.copy()
    np.maximum.at(newest, new.owner, new.event_us)
    owner = np.concatenate((old.owner, new.owner))
    start_us = np.concatenate((old.start_us, tile_start(new.event_us, hop_us)))
    order = np.lexsort((start_us, owner))
    order = order[start_us[order] >= np.broadcast_to(keep_from_us, len(rows))[owner[order]]]
    state = {
        name: np.concatenate((old.state[name], widened(column, new.state[name])))[order]
        for name, column in layout.columns.items()
    }
    owner, start_us = owner[order], start_us[order]
    if not len(owner):
        return _pack(layout, newest, np.zeros(len(rows) + 1, dtype=np.int64), np.zeros(0, dtype=layout.dtype))
    starts = np.flatnonzero(np.append(True, (owner[1:] != owner[:-1]) | (start_us[1:] != start_us[:-1])))
    merged = layout.merge(state, starts)
    tiles = np.zeros(len(starts), dtype=layout.dtype)
    tiles["start_us"] = start_us[starts]
    for name in layout.names:
        tiles[name] = merged[name]
    return _pack(layout, newest, np.searchsorted(owner[starts], np.arange(len(rows) + 1)), tiles)


def _pack(layout: Layout, newest: np.ndarray, bounds: np.ndarray, tiles: np.ndarray) -> list[bytes]:
    body, size = tiles.tobytes(), layout.dtype.itemsize
    edges = (bounds * size).tolist()
    flags = _COMPRESSED if size > COMPRESS_TILE_BYTES else 0
    rows = []
    for i, newest_us in enumerate(newest.tolist()):
        own = body[edges[i] : edges[i + 1]]
        header = _HEADER.pack(ROW_VERSION, KIND_TILES, flags, layout.code, newest_us)
        rows.append(header + (zlib.compress(own, 1) if flags else own))
    return rows


def read_windows(
    layout: Layout,
    rows: Sequence[Sequence[bytes | None]],
    *,
    at_us: int | np.ndarray,
    windows_us: Sequence[int],
    hop_us: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Values as of `at_us` (of all entities, or int64[entities]); `rows[e]` holds the entity's packed rows, one per
    source partition.

    Returns float64[width, windows, entities], NaN for no value, and int64[entities]: the newest event time, or
    NEVER_US. Raises RowError.
    """
    entity = np.repeat(np.arange(len(rows)), list(map(len, rows)))
    tiles = unpack(layout, list(chain.from_iterable(rows)))
    newest = np.full(len(rows), NEVER_US, dtype=np.int64)
    np.maximum.at(newest, entity, tiles.newest_us)
    owner = entity[tiles.owner]
    tile_at_us = np.broadcast_to(np.asarray(at_us), len(rows))[owner]
    values = np.empty((layout.width, len(windows_us), len(rows)))
    for i, window_us in enumerate(windows_us):
        inside = np.flatnonzero(tiles.start_us >= window_start(tile_at_us, window_us, hop_us))
        values[:, i] = layout.reduce(take(tiles.state, inside), owner[inside], len(rows))
    return values, newest
