"""Examples of one training set as columns, in time order, and how they are parted by time.

A column of numbers is float32[n] with NaN for missing; a column of strings is object[n] with "" for missing: exactly
what the model's graph takes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Columns = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class ColumnSpec:
    """One raw input of the model."""

    name: str
    datatype: str  # FP32 or BYTES, as the Open Inference Protocol names them

    @property
    def is_string(self) -> bool:
        """Whether the column holds strings."""
        return self.datatype == "BYTES"


@dataclass(frozen=True, slots=True)
class Examples:
    """Labelled rows, ordered by (moment, entity)."""

    columns: Columns
    labels: NDArray[np.float64]
    moments_us: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: slice) -> Examples:
        """A contiguous part, in order."""
        return Examples({k: v[rows] for k, v in self.columns.items()}, self.labels[rows], self.moments_us[rows])

    def where(self, kept: NDArray[np.bool_]) -> Examples:
        """Some of the rows, in order."""
        return Examples({k: v[kept] for k, v in self.columns.items()}, self.labels[kept], self.moments_us[kept])

    @property
    def blocks(self) -> NDArray[np.int64]:
        """For each row the number of its moment, from 0."""
        return np.unique(self.moments_us, return_inverse=True)[1].reshape(-1).astype(np.int64)


@dataclass(frozen=True, slots=True)
class Split:
    """Oldest rows to fit, then rows to stop and calibrate by, then the newest, which only the gate sees."""

    fit: Examples
    validation: Examples
    holdout: Examples


def split_by_time(examples: Examples, *, holdout: float, validation: float) -> Split:
    """Parts `examples` by time. A moment is never torn between two parts, so shares are met to within one moment."""
    first_holdout = _whole_moment(examples.moments_us, round(len(examples) * (1 - holdout)))
    first_validation = _whole_moment(examples.moments_us[:first_holdout], round(first_holdout * (1 - validation)))
    return Split(
        fit=examples.take(slice(0, first_validation)),
        validation=examples.take(slice(first_validation, first_holdout)),
        holdout=examples.take(slice(first_holdout, len(examples))),
    )


def window_uses(moments_us: NDArray[np.int64], judged: Sequence[tuple[int, int]]) -> float:
    """How often these rows are judged by, this time included: a row in an earlier holdout was judged by then, too.

    The mean over the rows, so a holdout that shares a third of its rows with the last one counts 1.33.
    """
    within = (float(((moments_us >= first) & (moments_us <= last)).mean()) for first, last in judged)
    return 1.0 + sum(within) if len(moments_us) else 1.0


def _whole_moment(moments_us: NDArray[np.int64], row: int) -> int:
    """The first row of the moment that `row` is in."""
    if row <= 0 or row >= len(moments_us):
        return max(0, min(row, len(moments_us)))
    return int(np.searchsorted(moments_us, moments_us[row], side="left"))


def select(columns: Columns, rows: NDArray[np.int64] | Sequence[int]) -> dict[str, NDArray[Any]]:
    """The named rows of every column."""
    return {name: values[np.asarray(rows)] for name, values in columns.items()}
