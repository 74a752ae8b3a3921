"""The aggregates of one view, side by side: what a tile of it holds, in memory and packed."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np

from millrace.aggregates.functions import KERNELS, Segments, State
from millrace.definitions.model import Aggregate, Aggregation

__all__ = ["Layout", "State"]


class Layout:
    """State columns of a view's aggregates, named `<position>.<field>`; `dtype` is one packed tile, little-endian.

    `code` tells one layout from another in packed rows.
    """

    def __init__(self, aggregates: Sequence[Aggregate]) -> None:
        self.aggregates = tuple(aggregates)
        self._kernels = [KERNELS[a.function] for a in aggregates]
        fields = [
            (f"{i}.{name}", dtype, shape)
            for i, kernel in enumerate(self._kernels)
            for name, dtype, shape in kernel.fields
        ]
        self.names = tuple(name for name, _, _ in fields)
        self.dtype = np.dtype([("start_us", "<i8"), *fields])
        functions = ",".join(a.function.value for a in aggregates)
        self.code = zlib.crc32(f"{functions}|{self.dtype.descr}".encode())

    def lift(self, values: Sequence[np.ndarray | None], event_us: np.ndarray, seq: np.ndarray) -> State:
        """States of single events.

        `values[i]` belongs to aggregate i: float64[n] with NaN for null; for `distinct` uint64[n] hashes with 0 for
        null; None for `count()`.
        """
        state: State = {}
        for i, kernel in enumerate(self._kernels):
            column = values[i]
            if column is None:
                column = np.zeros(len(event_us))
            for name, lifted in kernel.lift(column, event_us, seq).items():
                state[f"{i}.{name}"] = lifted
        return state

    def merge(self, state: State, starts: np.ndarray) -> State:
        """One state per group of consecutive rows; `starts` holds the first row of each (ascending, the first is 0)."""
        size = len(state[self.names[0]])
        if len(starts) == size:
            return state
        segments = Segments(starts, size)
        merged: State = {}
        for i, kernel in enumerate(self._kernels):
            own = {name: state[f"{i}.{name}"] for name, _, _ in kernel.fields}
            for name, column in kernel.merge(own, segments).items():
                merged[f"{i}.{name}"] = column
        return merged

    def finish(self, state: State) -> np.ndarray:
        """float64[aggregates, rows]; NaN: no value."""
        return np.stack(
            [
                kernel.finish({name: state[f"{i}.{name}"] for name, _, _ in kernel.fields})
                for i, kernel in enumerate(self._kernels)
            ]
        )

    def nothing(self) -> np.ndarray:
        """What each aggregate says of no event at all, float64[aggregates]: 0 for counts, NaN for the others."""
        counts = (Aggregation.COUNT, Aggregation.DISTINCT)
        return np.array([0.0 if a.function in counts else np.nan for a in self.aggregates])

    def reduce(self, state: State, owner: np.ndarray, owners: int) -> np.ndarray:
        """Finished values per owner, float64[aggregates, owners]. `owner` is ascending: the owner of each state row."""
        finished = np.repeat(self.nothing()[:, None], owners, axis=1)
        if len(owner):
            starts = np.flatnonzero(np.append(True, owner[1:] != owner[:-1]))
            finished[:, owner[starts]] = self.finish(self.merge(state, starts))
        return finished


def take(state: State, rows: np.ndarray) -> State:
    """The named rows of a state (indices or a mask)."""
    return {name: column[rows] for name, column in state.items()}
