"""What every aggregate works on: columns of states, and groups of consecutive rows to merge."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np

State = dict[str, np.ndarray]


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a state: its name, dtype and shape of one row, and what a row is filled up with where a state of
    one event is narrower than that."""

    name: str
    dtype: str
    shape: tuple[int, ...] = ()
    fill: int | float = 0


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
    """One aggregate; `fields` are the columns of its state, `width` how many numbers it finishes as."""

    fields: tuple[Column, ...]
    width: int

    def lift(self, values: np.ndarray, event_us: np.ndarray, seq: np.ndarray) -> State:
        """States of single events; a column of several cells may be one cell wide."""
        ...

    def merge(self, state: State, segments: Segments) -> State:
        """One state per group, every column at its full width."""
        ...

    def finish(self, state: State) -> np.ndarray:
        """float64[width, rows]; NaN: no value."""
        ...
