"""Quantiles from a mergeable sketch: UDDSketch (Epicoco, Melle, Cafaro, Pulimeno, Morleo 2020), on DDSketch's buckets
(Masson, Rim, Lee 2019).

A value falls into the bucket `ceil(log_g |x|)` of its sign, with g = (1 + a) / (1 - a) and a = 0.5 %. A state holds up
to `BUCKETS` buckets; where there are more, every two neighbours become one (g is squared, a becomes 2a / (1 + a^2)), as
often as it takes. The answer's relative error is at most a at the state's level: with values of one sign 2 % where the
greatest is up to 165 times the least, 4 % up to 28,000 times, 8 % up to 780 million times. Buckets are counted in
integers and the level depends only on the values, never on the order of merging: online and offline are equal to the
bit.
"""

from __future__ import annotations

import numpy as np

from millrace.aggregates.segments import Column, Segments, State

BUCKETS = 128
ACCURACY = 0.005  # relative, at level 0
_LOG_BASE = float(np.log((1 + ACCURACY) / (1 - ACCURACY)))
_EMPTY = int(np.iinfo(np.int32).max)
_NEGATIVE = 1 << 20  # beyond every bucket of a float64: |k| < 75,000


class Quantile:
    """The value below which a share of `q` lies: the exact one has rank floor(q (n - 1)) among n sorted values."""

    fields: tuple[Column, ...] = (
        Column("level", "<i4"),
        Column("keys", "<i4", (BUCKETS,), _EMPTY),
        Column("counts", "<i8", (BUCKETS,), 0),
    )
    width = 1

    def __init__(self, q: float) -> None:
        self._q = q

    def lift(self, values: np.ndarray, event_us: np.ndarray, seq: np.ndarray) -> State:
        """As Kernel.lift."""
        known = ~np.isnan(values)
        keys = np.where(known, _keys(np.where(known, values, 0.0)), _EMPTY).astype(np.int32)
        counts = known.astype(np.int64)
        return {"level": np.zeros(len(values), dtype=np.int32), "keys": keys[:, None], "counts": counts[:, None]}

    def merge(self, state: State, segments: Segments) -> State:
        """As Kernel.merge."""
        level = np.maximum.reduceat(state["level"], segments.starts)
        keys = state["keys"].ravel()
        held = keys != _EMPTY
        owner = np.repeat(segments.ids, state["keys"].shape[1])[held]
        below = np.repeat(state["level"], state["keys"].shape[1])[held]
        keys = _collapsed(keys[held], level[owner] - below)
        keys, counts, owner = _folded(keys, state["counts"].ravel()[held], owner)
        while True:
            full = np.bincount(owner, minlength=len(level)) > BUCKETS
            if not full.any():
                break
            level = level + full
            keys, counts, owner = _folded(_collapsed(keys, full[owner].astype(np.int32)), counts, owner)
        place = np.arange(len(owner)) - np.searchsorted(owner, owner)
        merged = {"level": level.astype(np.int32)}
        for column, flat in ((self.fields[1], keys), (self.fields[2], counts)):
            cells = np.full((len(level), BUCKETS), column.fill, dtype=column.dtype)
            cells[owner, place] = flat
            merged[column.name] = cells
        return merged

    def finish(self, state: State) -> np.ndarray:
        """As Kernel.finish."""
        counts = state["counts"]
        values = _values(state["keys"], state["level"][:, None])
        order = np.argsort(values, axis=1, kind="stable")  # empty buckets are NaN and come last
        running = np.cumsum(np.take_along_axis(counts, order, axis=1), axis=1)
        total = running[:, -1]
        rank = np.floor(self._q * np.maximum(total - 1, 0))
        place = np.minimum((running <= rank[:, None]).sum(axis=1), counts.shape[1] - 1)
        chosen = np.take_along_axis(values, np.take_along_axis(order, place[:, None], axis=1), axis=1)[:, 0]
        return np.where(total > 0, chosen, np.nan)[None]


def _keys(values: np.ndarray) -> np.ndarray:
    """The bucket of each value: 0 for zero, else the exponent moved to the side of its sign."""
    with np.errstate(divide="ignore"):
        exponent = np.ceil(np.log(np.abs(values)) / _LOG_BASE)
    keys = np.where(values == 0.0, 0.0, exponent + _NEGATIVE)
    return np.where(values < 0.0, -keys, keys).astype(np.int64)


def _collapsed(keys: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Buckets after `times` collapses: ceil(k / 2^times), sign by sign."""
    exponent = np.abs(keys.astype(np.int64)) - _NEGATIVE
    moved = -((-exponent) >> times) + _NEGATIVE
    return np.where(keys == 0, 0, np.where(keys < 0, -moved, moved))


def _folded(keys: np.ndarray, counts: np.ndarray, owner: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Equal buckets of one owner added up; sorted by owner, then bucket."""
    if not len(keys):
        return keys, counts, owner
    order = np.lexsort((keys, owner))
    keys, owner = keys[order], owner[order]
    starts = np.flatnonzero(np.append(True, (keys[1:] != keys[:-1]) | (owner[1:] != owner[:-1])))
    return keys[starts], np.add.reduceat(counts[order], starts), owner[starts]


def _values(keys: np.ndarray, level: np.ndarray) -> np.ndarray:
    """The value that stands for each bucket: 2 g^k / (g + 1), halfway in relative terms; NaN for an empty one."""
    log_base = _LOG_BASE * np.exp2(level.astype(np.float64))
    exponent = np.abs(keys.astype(np.int64)) - _NEGATIVE
    with np.errstate(over="ignore"):
        middle = np.exp(exponent * log_base) * (2.0 / (np.exp(log_base) + 1.0))
    signed = np.where(keys < 0, -middle, np.where(keys == 0, 0.0, middle))
    return np.where(keys == _EMPTY, np.nan, signed)
