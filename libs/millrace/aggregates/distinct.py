"""How many different values: exact while there are few, HyperLogLog beyond (Flajolet, Fusy, Gandouet, Meunier 2007).

A state is 1 KiB: either up to `DISTINCT_EXACT` sorted 64-bit hashes, or 1,024 registers of HyperLogLog, read by Ertl's
improved estimator (2017, "New cardinality estimation algorithms for HyperLogLog sketches"), whose relative standard
error is 1.04 / sqrt(1024) = 3.3 %. Which of the two a state is depends only on the values in it, never on the order of
merging, so online and offline are equal to the bit.
"""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Iterable
from typing import Any

import numpy as np

from millrace.aggregates.segments import Column, Segments, State

DISTINCT_EXACT = 128
REGISTERS = DISTINCT_EXACT * 8  # the same bytes, seen as hashes or as registers
_INDEX_BITS = 10
_RANK_BITS = 64 - _INDEX_BITS
_NO_HASH = np.iinfo(np.uint64).max
_STEPS = 64  # of Ertl's series: both converge quadratically, long before


class Distinct:
    """`values` are uint64 hashes (`hash_values`), 0 for null."""

    fields: tuple[Column, ...] = (Column("dense", "u1"), Column("cells", "u1", (REGISTERS,), 0xFF))
    width = 1

    def lift(self, values: np.ndarray, event_us: np.ndarray, seq: np.ndarray) -> State:
        """As Kernel.lift."""
        hashes = np.where(values == 0, _NO_HASH, values).astype("<u8")
        return {"dense": np.zeros(len(hashes), dtype=np.uint8), "cells": hashes[:, None].view(np.uint8)}

    def merge(self, state: State, segments: Segments) -> State:
        """As Kernel.merge."""
        dense = state["dense"].astype(bool)
        hashes, owner = _unique_hashes(state["cells"][~dense], segments.ids[~dense])
        groups = len(segments.starts)
        is_dense = np.bincount(owner, minlength=groups) > DISTINCT_EXACT
        is_dense[segments.ids[dense]] = True
        cells = np.empty((groups, REGISTERS), dtype=np.uint8)
        few = ~is_dense[owner]
        cells[~is_dense] = _as_hashes(hashes[few], owner[few], groups).view(np.uint8)[~is_dense]
        if is_dense.any():
            registers = _as_registers(hashes[~few], owner[~few], is_dense)
            _raise_to(registers, state["cells"][dense], (np.cumsum(is_dense) - 1)[segments.ids[dense]])
            cells[is_dense] = registers
        return {"dense": is_dense.astype(np.uint8), "cells": cells}

    def finish(self, state: State) -> np.ndarray:
        """As Kernel.finish."""
        cells, dense = np.ascontiguousarray(state["cells"]), state["dense"].astype(bool)
        counts: np.ndarray = (cells.view("<u8") != _NO_HASH).sum(axis=1).astype(np.float64)
        if dense.any():
            counts[dense] = np.rint(_estimate(cells[dense]))
        return counts[None]


def _unique_hashes(cells: np.ndarray, owner: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each owner's different hashes, sorted by owner, then hash."""
    hashes = np.ascontiguousarray(cells).view("<u8")
    flat, owner = hashes.ravel(), np.repeat(owner, hashes.shape[1])
    kept = flat != _NO_HASH
    flat, owner = flat[kept], owner[kept]
    order = np.lexsort((flat, owner))
    flat, owner = flat[order], owner[order]
    new = np.ones(len(flat), dtype=bool)
    new[1:] = (flat[1:] != flat[:-1]) | (owner[1:] != owner[:-1])
    return flat[new], owner[new]


def _as_hashes(flat: np.ndarray, owner: np.ndarray, groups: int) -> np.ndarray:
    place = np.arange(len(flat)) - np.searchsorted(owner, owner)
    hashes = np.full((groups, DISTINCT_EXACT), _NO_HASH, dtype="<u8")
    hashes[owner, place] = flat
    return hashes


def _as_registers(flat: np.ndarray, owner: np.ndarray, is_dense: np.ndarray) -> np.ndarray:
    """uint8[dense groups, REGISTERS]: the greatest rank per register."""
    registers = np.zeros((int(is_dense.sum()), REGISTERS), dtype=np.uint8)
    index = (flat >> np.uint64(_RANK_BITS)).astype(np.int64)
    rest = flat & np.uint64((1 << _RANK_BITS) - 1)
    # frexp is exact up to 53 bits: the lowest of the 54 is looked at apart.
    length = np.where(rest > 1, np.frexp((rest >> np.uint64(1)).astype(np.float64))[1] + 1, rest.astype(np.int64))
    rank = (_RANK_BITS + 1 - length).astype(np.uint8)
    np.maximum.at(registers, ((np.cumsum(is_dense) - 1)[owner], index), rank)
    return registers


def _raise_to(registers: np.ndarray, rows: np.ndarray, owner: np.ndarray) -> None:
    """Registers merge by their maximum; `owner` is ascending."""
    if len(rows):
        starts = np.flatnonzero(np.append(True, owner[1:] != owner[:-1]))
        owners = owner[starts]
        registers[owners] = np.maximum(registers[owners], np.maximum.reduceat(rows, starts))


def _estimate(registers: np.ndarray) -> np.ndarray:
    """Ertl's improved estimate of each row of registers."""
    size = float(REGISTERS)
    histogram = np.stack([(registers == rank).sum(axis=1) for rank in range(_RANK_BITS + 2)]).astype(np.float64)
    total = size * _tau(1.0 - histogram[-1] / size)
    for rank in range(_RANK_BITS, 0, -1):
        total = 0.5 * (total + histogram[rank])
    total = total + size * _sigma(histogram[0] / size)
    estimate: np.ndarray = size * size / (2.0 * math.log(2.0)) / total
    return estimate


def _sigma(x: np.ndarray) -> np.ndarray:
    """x + sum of x^(2^k) 2^(k-1); the registers of a dense state are never all empty, so x < 1."""
    y, total = 1.0, x.copy()
    for _ in range(_STEPS):
        x = x * x
        total = total + x * y
        y *= 2.0
    return total


def _tau(x: np.ndarray) -> np.ndarray:
    y, total, inside = 1.0, 1.0 - x, (x > 0.0) & (x < 1.0)
    for _ in range(_STEPS):
        x = np.sqrt(x)
        y *= 0.5
        total = total - (1.0 - x) ** 2 * y
    return np.where(inside, total / 3.0, 0.0)


def hash_value(value: Any) -> int:
    """64-bit hash of one value for `distinct`, never 0 nor all ones; null is 0. The same in every process and release.

    Whole and real numbers and booleans that are equal hash alike, because stores return one for the other.
    """
    if value is None or value != value:
        return 0
    data = b"s" + value.encode() if isinstance(value, str) else b"n" + struct.pack("<d", float(value) + 0.0)
    number = int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")
    return min(max(number, 1), int(_NO_HASH) - 1)


def hash_values(values: Iterable[Any]) -> np.ndarray:
    """uint64 hashes of values for `distinct`; see `hash_value`."""
    return np.fromiter((hash_value(v) for v in values), dtype=np.uint64)
