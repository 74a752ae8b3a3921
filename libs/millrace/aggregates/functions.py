"""The aggregates that keep few numbers: lift (one event), merge (any number of states, in any order), finish.

A state is a set of named columns, one row per event, tile or window. Null values (NaN) are skipped by every aggregate;
`count()` without an expression counts events. Without any value `count` is 0 and the others are NaN.

Additions go from the first row of a group to its last, one at a time: a tile that grows by batches is the same to the
bit however its events were cut into batches.

`std` is the population's; states merge by Chan, Golub and LeVeque (1979). `first` and `last` are the values of the
oldest and of the newest event, by event time, then by sequence; `last_k` the k newest, the newest first.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from millrace.aggregates.segments import Column, Segments, State

_TIMES = np.iinfo(np.int64)
_N = Column("n", "<i8")


class Count:
    """How many values, or events."""

    fields: tuple[Column, ...] = (_N,)
    width = 1

    def lift(self, values: np.ndarray, event_us: np.ndarray, seq: np.ndarray) -> State:
        """As Kernel.lift."""
        return {"n": (~np.isnan(values)).astype(np.int64)}

    def merge(self, state: State, segments: Segments) -> State:
        """As Kernel.merge."""
        return {"n": np.add.reduceat(state["n"], segments.starts)}

    def finish(self, state: State) -> np.ndarray:
        """As Kernel.finish."""
        return state["n"].astype(np.float64)[None]


class Sum:
    """The sum of the values."""

    fields: tuple[Column, ...] = (_N, Column("total", "<f8"))
    width = 1

    def lift(self, values: np.ndarray, event_us: np.ndarray, seq: np.ndarray) -> State:
        """As Kernel.lift."""
        known = ~np.isnan(values)
        return {"n": known.astype(np.int64), "total": np.where(known, values, 0.0) + 0.0}  # -0.0 is 0.0

    def merge(self, state: State, segments: Segments) -> State:
        """As Kernel.merge."""
        return {
            "n": np.add.reduceat(state["n"], segments.starts),
            # Unlike reduceat, which sums by pairs, this adds row by row.
            "total": np.bincount(segments.ids, weights=state["total"], minlength=len(segments.starts)),
        }

    def finish(self, state: State) -> np.ndarray:
        """As Kernel.finish."""
        return np.where(state["n"] > 0, state["total"], np.nan)[None]


class Mean(Sum):
    """The mean of the values."""

    def finish(self, state: State) -> np.ndarray:
        """As Kernel.finish."""
        n = state["n"]
        return np.where(n > 0, state["total"] / np.maximum(n, 1), np.nan)[None]


class Std:
    """The standard deviation of the population."""

    fields: tuple[Column, ...] = (_N, Column("mean", "<f8"), Column("m2", "<f8"))
    width = 1

    def lift(self, values: np.ndarray, event_us: np.ndarray, seq: np.ndarray) -> State:
        """As Kernel.lift."""
        known = ~np.isnan(values)
        mean = np.where(known, values, 0.0) + 0.0
        return {"n": known.astype(np.int64), "mean": mean, "m2": np.zeros(len(values))}

    def merge(self, state: State, segments: Segments) -> State:
        """As Kernel.merge."""
        columns = [state[column.name] for column in self.fields]
        by_length = np.argsort(-segments.lengths, kind="stable")
        starts, lengths = segments.starts[by_length], segments.lengths[by_length]
        merged = [column[starts] for column in columns]
        # The second rows of all groups at once, then the third ones, until few groups are left.
        step, longer = 1, int(np.searchsorted(-lengths, -1))
        while longer >= _FEW_GROUPS:
            rows = starts[:longer] + step
            added = _added(*(column[:longer] for column in merged), *(column[rows] for column in columns))
            for column, values in zip(merged, added, strict=True):
                column[:longer] = values
            step, longer = step + 1, int(np.searchsorted(-lengths, -1 - step))
        for group in range(longer):
            begin, end = starts[group] + step, starts[group] + lengths[group]
            one = _added_in_turn([c[group].item() for c in merged], [c[begin:end].tolist() for c in columns])
            for column, value in zip(merged, one, strict=True):
                column[group] = value
        place = np.argsort(by_length)
        return {column.name: values[place] for column, values in zip(self.fields, merged, strict=True)}

    def finish(self, state: State) -> np.ndarray:
        """As Kernel.finish."""
        n = state["n"]
        return np.where(n > 0, np.sqrt(state["m2"] / np.maximum(n, 1)), np.nan)[None]


_FEW_GROUPS = 16  # from where on a loop over numbers is faster than one over arrays


def _added(
    n: np.ndarray, mean: np.ndarray, m2: np.ndarray, more: np.ndarray, other_mean: np.ndarray, other_m2: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two states of Std as one, row by row: to the bit what `_added_in_turn` makes."""
    total = n + more
    off = other_mean - mean
    share = more / np.maximum(total, 1)
    return total, mean + off * share, m2 + other_m2 + off * share * n * off


def _added_in_turn(state: Sequence[float], others: Sequence[Sequence[float]]) -> tuple[float, float, float]:
    n, mean, m2 = state
    for more, other_mean, other_m2 in zip(*others, strict=True):
        total = n + more
        off = other_mean - mean
        share = more / max(total, 1)
        mean, m2 = mean + off * share, m2 + other_m2 + off * share * n * off
        n = total
    return n, mean, m2


class Extreme:
    """The least or the greatest value: `pick` is np.fmin or np.fmax."""

    fields: tuple[Column, ...] = (Column("value", "<f8", fill=np.nan),)
    width = 1

    def __init__(self, pick: np.ufunc) -> None:
        self._pick = pick

    def lift(self, values: np.ndarray, event_us: np.ndarray, seq: np.ndarray) -> State:
        """As Kernel.lift."""
        return {"value": values.astype(np.float64) + 0.0}  # -0.0 is 0.0, whichever comes first

    def merge(self, state: State, segments: Segments) -> State:
        """As Kernel.merge."""
        return {"value": self._pick.reduceat(state["value"], segments.starts)}

    def finish(self, state: State) -> np.ndarray:
        """As Kernel.finish."""
        return state["value"][None]


class Edge:
    """The value of the newest event (`last`), or of the oldest."""

    width = 1

    def __init__(self, *, newest: bool) -> None:
        self._newest = newest
        # An event without a value loses against every other.
        never = int(_TIMES.min if newest else _TIMES.max)
        self._never = never
        self.fields: tuple[Column, ...] = (
            Column("at_us", "<i8", fill=never),
            Column("seq", "<i8", fill=never),
            Column("value", "<f8"),
        )

    def lift(self, values: np.ndarray, event_us: np.ndarray, seq: np.ndarray) -> State:
        """As Kernel.lift."""
        known = ~np.isnan(values)
        return {
            "at_us": np.where(known, event_us, self._never),
            "seq": np.where(known, seq, self._never),
            "value": values.astype(np.float64),
        }

    def merge(self, state: State, segments: Segments) -> State:
        """As Kernel.merge."""
        order = np.lexsort((state["seq"], state["at_us"], segments.ids))
        chosen = order[segments.ends if self._newest else segments.starts]
        return {name: column[chosen] for name, column in state.items()}

    def finish(self, state: State) -> np.ndarray:
        """As Kernel.finish."""
        return state["value"][None]


class LastK:
    """The values of the `k` newest events, the newest first."""

    def __init__(self, k: int) -> None:
        self.width = k
        never = int(_TIMES.min)
        self.fields: tuple[Column, ...] = (
            Column("at_us", "<i8", (k,), never),
            Column("seq", "<i8", (k,), never),
            Column("value", "<f8", (k,), np.nan),
        )
        self._last = Edge(newest=True)

    def lift(self, values: np.ndarray, event_us: np.ndarray, seq: np.ndarray) -> State:
        """As Kernel.lift."""
        return {name: column[:, None] for name, column in self._last.lift(values, event_us, seq).items()}

    def merge(self, state: State, segments: Segments) -> State:
        """As Kernel.merge."""
        owner = np.repeat(segments.ids, state["at_us"].shape[1])
        flat = {name: column.ravel() for name, column in state.items()}
        # Ranked from the newest, per group; cells without an event come last and are left out.
        order = np.lexsort((~flat["seq"], ~flat["at_us"], owner))
        order = order[flat["at_us"][order] != _TIMES.min]
        owner = owner[order]
        place = np.arange(len(owner)) - np.searchsorted(owner, owner)
        kept = place < self.width
        merged = {}
        for column in self.fields:
            cells = np.full((len(segments.starts), self.width), column.fill, dtype=column.dtype)
            cells[owner[kept], place[kept]] = flat[column.name][order[kept]]
            merged[column.name] = cells
        return merged

    def finish(self, state: State) -> np.ndarray:
        """As Kernel.finish."""
        value = state["value"]
        finished = np.full((self.width, len(value)), np.nan)
        finished[: value.shape[1]] = value.T
        return finished
