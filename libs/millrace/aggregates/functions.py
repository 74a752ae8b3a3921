"""The aggregates that keep few numbers: lift (one event), merge (any number of states, in any order), finish.

A state is a set of named columns, one row per event, tile or window. Null values (NaN) are skipped by every aggregate;
`count()` without an expression counts events. Without any value `count` is 0 and the others are NaN.

`std` is the population's; groups merge by Chan, Golub and LeVeque (1979). `first` and `last` are the values of the
oldest and of the newest event, by event time, then by sequence; `last_k` the k newest, the newest first.
"""

from __future__ import annotations

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
        return {"n": known.astype(np.int64), "total": np.where(known, values, 0.0)}

    def merge(self, state: State, segments: Segments) -> State:
        """As Kernel.merge."""
        return {
            "n": np.add.reduceat(state["n"], segments.starts),
            "total": np.add.reduceat(state["total"], segments.starts),
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
        return {"n": known.astype(np.int64), "mean": np.where(known, values, 0.0), "m2": np.zeros(len(values))}

    def merge(self, state: State, segments: Segments) -> State:
        """As Kernel.merge."""
        n = np.add.reduceat(state["n"], segments.starts)
        mean = np.add.reduceat(state["n"] * state["mean"], segments.starts) / np.maximum(n, 1)
        off = state["mean"] - mean[segments.ids]
        m2 = np.add.reduceat(state["m2"] + state["n"] * off * off, segments.starts)
        return {"n": n, "mean": mean, "m2": m2}

    def finish(self, state: State) -> np.ndarray:
        """As Kernel.finish."""
        n = state["n"]
        return np.where(n > 0, np.sqrt(state["m2"] / np.maximum(n, 1)), np.nan)[None]


class Extreme:
    """The least or the greatest value: `pick` is np.fmin or np.fmax."""

    fields: tuple[Column, ...] = (Column("value", "<f8", fill=np.nan),)
    width = 1

    def __init__(self, pick: np.ufunc) -> None:
        self._pick = pick

    def lift(self, values: np.ndarray, event_us: np.ndarray, seq: np.ndarray) -> State:
        """As Kernel.lift."""
        return {"value": values.astype(np.float64)}

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
