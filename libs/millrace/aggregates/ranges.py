"""Ranges of events per moment: worked on in pairs of (moment, event), a bounded number at a time."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

CHUNK_PAIRS = 500_000  # worked on at a time; a pair takes about 100 bytes. One moment's range is never cut


def distinct_pairs(entity: np.ndarray, moment_us: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(index of one example of each distinct pair, and for each row the place of its pair among them)."""
    order = np.lexsort((moment_us, entity))
    new = np.ones(len(order), dtype=bool)
    new[1:] = (np.diff(entity[order]) != 0) | (np.diff(moment_us[order]) != 0)
    inverse = np.empty(len(order), dtype=np.int64)
    inverse[order] = np.cumsum(new) - 1
    return order[new], inverse


def expanded(begin: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All (owner, position) pairs of the ranges `[begin, begin + length)`."""
    owner = np.repeat(np.arange(len(lengths)), lengths)
    first = np.cumsum(lengths) - lengths
    return owner, begin[owner] + np.arange(len(owner)) - first[owner]


def chunks(lengths: np.ndarray, most: int) -> Iterator[slice]:
    """Slices of consecutive ranges that hold at most `most` pairs each, or a single longer range."""
    total = np.cumsum(lengths)
    start = 0
    while start < len(lengths):
        done = total[start - 1] if start else 0
        stop = max(int(np.searchsorted(total, done + most, side="right")), start + 1)
        yield slice(start, stop)
        start = stop
