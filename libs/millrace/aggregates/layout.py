"""The aggregates of one view, side by side: what a tile of it holds, in memory and packed."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np

from millrace.aggregates.kernels import kernel_of
from millrace.aggregates.segments import Column, Segments, State
from millrace.definitions.model import Aggregate, Aggregation

__all__ = ["Layout", "State"]


class Layout:
    """State columns of a view's aggregates, named `<position>.<field>`; `dtype` is one packed tile, little-endian.

    `width` is how many numbers it finishes as: one per aggregate, k for `last_k`; `nothing` is what each of them says
    of no event at all, float64[width]: 0 for counts, NaN for the others. `code` tells one layout from another in packed
    rows.
    """

    def __init__(self, aggregates: Sequence[Aggregate]) -> None:
        self.aggregates = tuple(aggregates)
        self._kernels = [kernel_of(aggregate) for aggregate in aggregates]
        self.columns = {f"{i}.{c.name}": c for i, kernel in enumerate(self._kernels) for c in kernel.fields}
        self.names = tuple(self.columns)
        self._own = [{c.name: f"{i}.{c.name}" for c in kernel.fields} for i, kernel in enumerate(self._kernels)]
        self.width = sum(kernel.width for kernel in self._kernels)
        self.nothing = self._nothing()
        self.dtype = np.dtype([("start_us", "<i8"), *((name, c.dtype, c.shape) for name, c in self.columns.items())])
        functions = ",".join(f"{a.function.value}{a.argument or ''}" for a in aggregates)
        self.code = zlib.crc32(f"{functions}|{self.dtype.descr}".encode())

    def place(self, name: str) -> int:
        """Which aggregate a state column belongs to."""
        return int(name.partition(".")[0])

    def lift(self, values: Sequence[np.ndarray | None], event_us: np.ndarray, seq: np.ndarray) -> State:
        """States of single events.

        `values[i]` belongs to aggregate i: float64[n] with NaN for null; for `distinct` uint64[n] hashes with 0 for
        null; None for `count()`. Columns of several cells are one cell wide.
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
        for kernel, own in zip(self._kernels, self._own, strict=True):
            states = kernel.merge({field: state[name] for field, name in own.items()}, segments)
            for field, column in states.items():
                merged[own[field]] = column
        return merged

    def finish(self, state: State) -> np.ndarray:
        """float64[width, rows], the numbers of each aggregate in turn; NaN: no value."""
        return np.concatenate(
            [
                kernel.finish({field: state[name] for field, name in own.items()})
                for kernel, own in zip(self._kernels, self._own, strict=True)
            ]
        )

    def _nothing(self) -> np.ndarray:
        counts = (Aggregation.COUNT, Aggregation.DISTINCT)
        none = [0.0 if a.function in counts else np.nan for a in self.aggregates]
        return np.repeat(none, [kernel.width for kernel in self._kernels])

    def reduce(self, state: State, owner: np.ndarray, owners: int) -> np.ndarray:
        """Finished values per owner, float64[width, owners]. `owner` is ascending: the owner of each state row."""
        finished = np.empty((self.width, owners))
        finished[:] = self.nothing[:, None]
        if len(owner):
            starts = np.flatnonzero(np.append(True, owner[1:] != owner[:-1]))
            finished[:, owner[starts]] = self.finish(self.merge(state, starts))
        return finished


def take(state: State, rows: np.ndarray) -> State:
    """The named rows of a state (indices or a mask)."""
    return {name: column[rows] for name, column in state.items()}


def widened(column: Column, rows: np.ndarray) -> np.ndarray:
    """Rows of a column at its full width: states of single events are one cell wide."""
    if not column.shape or rows.shape[1] == column.shape[0]:
        return rows
    wide = np.full((len(rows), *column.shape), column.fill, dtype=column.dtype)
    wide[:, : rows.shape[1]] = rows
    return wide
