"""What each aggregate keeps: lift (one event), merge (any number of states, in any order), finish (a number).

A state is a set of named columns, one row per event, tile or window. Null values (NaN, or hash 0 for `distinct`) are
skipped by every aggregate; `count()` without an expression counts events. Without any value, `count` and `distinct`
are 0 and the others are NaN.

`std` is the population's; groups merge by Chan, Golub and LeVeque (1979). `last` is the value of the newest event, by
event time, then by sequence. `distinct` keeps the smallest hashes of the values (k minimum values, Bar-Yossef et al.
2002): exact up to `DISTINCT_EXACT` different values, an estimate with a relative standard error of 9 % beyond.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from millrace.definitions.model import Aggregation

State = dict[str, np.ndarray]
# (name, dtype, shape of one row) of each column that a tile keeps.
Fields = tuple[tuple[str, str, tuple[int, ...]], ...]
# A kept hash is 8 bytes: a tile of `distinct` takes 1 KiB. One more is kept than is exact, to tell that there are more.
DISTINCT_EXACT = 127
HASHES_KEPT = DISTINCT_EXACT + 1
_NO_HASH = np.iinfo(np.uint64).max
_NO_TIME = np.iinfo(np.int64).min


@dataclass(frozen=True)
class Segments:
    """Consecutive, non-empty groups of rows: `starts` (int64, ascending, the first is 0) within `size` rows."""

    starts: np.ndarray
    size: int

    @cached_property
    def ids(self) -> np.ndarray:
        """The group of each row, int64[size]."""
        return np.repeat(np.arange(len(self.starts)), self.lengths)

    @cached_property
    def lengths(self) -> np.ndarray:
        """Rows per group."""
        return np.diff(np.append(self.starts, self.size))

    @cached_property
    def ends(self) -> np.ndarray:
        """Last row of each group."""
        return np.append(self.starts[1:], self.size) - 1


class Kernel(Protocol):
    """One aggregate; `fields` are the columns of its state."""

    fields: Fields

    def lift(self, values: np.ndarray, event_us: np.ndarray, seq: np.ndarray) -> State:
        """States of single events."""
        ...

    def merge(self, state: State, segments: Segments) -> State:
        """One state per group."""
        ...

    def finish(self, state: State) -> np.ndarray:
        """float64 per row; NaN: no value."""
        ...


class _Count:
    fields: Fields = (("n", "<i8", ()),)

    def lift(self, values: np.ndarray, event_us: np.ndarray, seq: np.ndarray) -> State:
        return {"n": (~np.isnan(values)).astype(np.int64)}

    def merge(self, state: State, segments: Segments) -> State:
        return {"n": np.add.reduceat(state["n"], segments.starts)}

    def finish(self, state: State) -> np.ndarray:
        return state["n"].astype(np.float64)


class _Sum:
    fields: Fields = (("n", "<i8", ()), ("total", "<f8", ()))

    def lift(self, values: np.ndarray, event_us: np.ndarray, seq: np.ndarray) -> State:
        known = ~np.isnan(values)
        return {"n": known.astype(np.int64), "total": np.where(known, values, 0.0)}

    def merge(self, state: State, segments: Segments) -> State:
        return {
            "n": np.add.reduceat(state["n"], segments.starts),
            "total": np.add.reduceat(state["total"], segments.starts),
        }

    def finish(self, state: State) -> np.ndarray:
        return np.where(state["n"] > 0, state["total"], np.nan)


class _Mean(_Sum):
    def finish(self, state: State) -> np.ndarray:
        n = state["n"]
        return np.where(n > 0, state["total"] / np.maximum(n, 1), np.nan)


class _Std:
    fields: Fields = (("n", "<i8", ()), ("mean", "<f8", ()), ("m2", "<f8", ()))

    def lift(self, values: np.ndarray, event_us: np.ndarray, seq: np.ndarray) -> State:
        known = ~np.isnan(values)
        return {"n": known.astype(np.int64), "mean": np.where(known, values, 0.0), "m2": np.zeros(len(values))}

    def merge(self, state: State, segments: Segments) -> State:
        n = np.add.reduceat(state["n"], segments.starts)
        mean = np.add.reduceat(state["n"] * state["mean"], segments.starts) / np.maximum(n, 1)
        off = state["mean"] - mean[segments.ids]
        m2 = np.add.reduceat(state["m2"] + state["n"] * off * off, segments.starts)
        return {"n": n, "mean": mean, "m2": m2}

    def finish(self, state: State) -> np.ndarray:
        n = state["n"]
        return np.where(n > 0, np.sqrt(state["m2"] / np.maximum(n, 1)), np.nan)


class _Extreme:
    fields: Fields = (("value", "<f8", ()),)

    def __init__(self, pick: np.ufunc) -> None:
        self._pick = pick

    def lift(self, values: np.ndarray, event_us: np.ndarray, seq: np.ndarray) -> State:
        return {"value": values.astype(np.float64)}

    def merge(self, state: State, segments: Segments) -> State:
        return {"value": self._pick.reduceat(state["value"], segments.starts)}

    def finish(self, state: State) -> np.ndarray:
        return state["value"]


class _Last:
    fields: Fields = (("at_us", "<i8", ()), ("seq", "<i8", ()), ("value", "<f8", ()))

    def lift(self, values: np.ndarray, event_us: np.ndarray, seq: np.ndarray) -> State:
        known = ~np.isnan(values)
        return {
            "at_us": np.where(known, event_us, _NO_TIME),
            "seq": np.where(known, seq, _NO_TIME),
            "value": values.astype(np.float64),
        }

    def merge(self, state: State, segments: Segments) -> State:
        order = np.lexsort((state["seq"], state["at_us"], segments.ids))
        newest = order[segments.ends]
        return {name: column[newest] for name, column in state.items()}

    def finish(self, state: State) -> np.ndarray:
        return state["value"]


class _Distinct:
    fields: Fields = (("hashes", "<u8", (HASHES_KEPT,)),)

    def lift(self, values: np.ndarray, event_us: np.ndarray, seq: np.ndarray) -> State:
        return {"hashes": np.where(values == 0, _NO_HASH, values).astype(np.uint64)[:, None]}

    def merge(self, state: State, segments: Segments) -> State:
        hashes = state["hashes"]
        flat, owner = hashes.ravel(), np.repeat(segments.ids, hashes.shape[1])
        kept = flat != _NO_HASH
        flat, owner = flat[kept], owner[kept]
        order = np.lexsort((flat, owner))
        flat, owner = flat[order], owner[order]
        if len(flat):
            new = np.append(True, (flat[1:] != flat[:-1]) | (owner[1:] != owner[:-1]))
            flat, owner = flat[new], owner[new]
        place = np.arange(len(flat)) - np.searchsorted(owner, owner)
        small = place < HASHES_KEPT
        merged = np.full((len(segments.starts), HASHES_KEPT), _NO_HASH, dtype=np.uint64)
        merged[owner[small], place[small]] = flat[small]
        return {"hashes": merged}

    def finish(self, state: State) -> np.ndarray:
        hashes = state["hashes"]
        counts = (hashes != _NO_HASH).sum(axis=1).astype(np.float64)
        if hashes.shape[1] < HASHES_KEPT:
            return counts
        # The k-th smallest of n hashes, spread evenly over the unit interval, lies near k/n.
        kth = hashes[:, -1].astype(np.float64) / float(_NO_HASH)
        estimate = (HASHES_KEPT - 1) / np.maximum(kth, np.finfo(np.float64).tiny)
        return np.where(counts < HASHES_KEPT, counts, np.maximum(np.rint(estimate), HASHES_KEPT))


KERNELS: dict[Aggregation, Kernel] = {
    Aggregation.COUNT: _Count(),
    Aggregation.SUM: _Sum(),
    Aggregation.MEAN: _Mean(),
    Aggregation.STD: _Std(),
    Aggregation.MIN: _Extreme(np.fmin),
    Aggregation.MAX: _Extreme(np.fmax),
    Aggregation.LAST: _Last(),
    Aggregation.DISTINCT: _Distinct(),
}


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
