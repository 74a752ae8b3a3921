"""What the rows of a training set look like, column by column: kept with a run, so that the next one can be compared.

Shares of a column differ from hour to hour and from day to day, so a profile also says how far they went in a single
span of it. A span is some whole days (UTC) of at least SPAN_ROWS rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from millrace.definitions.model import DAY_US
from numpy.typing import NDArray

from services.trainer.domain.examples import Examples

LABEL = "label"
SPAN_ROWS = 200  # fewer have no share worth comparing: of 200 rows a share of 5 % is known to within 3
MOST_VALUES = 50
SHARES = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95)
BINS = 10

Value = str | float
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class ColumnProfile:
    """One column. `missing` is the share of rows without a value, `missing_most` that of the span where it was
    greatest; `single_most` the greatest share of a span that had one and the same value. `top`: the most frequent
    values, each with its share of the rows. Of numbers: `quantiles` at SHARES, and the rows of each bin between
    `edges`, the outer ones open."""

    name: str
    is_text: bool
    missing: float
    missing_most: float
    single_most: float
    top: tuple[tuple[Value, float], ...]
    quantiles: tuple[float, ...] = ()
    edges: tuple[float, ...] = ()
    counts: tuple[int, ...] = ()
    least: float = 0.0
    greatest: float = 0.0

    def share(self, value: Value) -> float:
        """Of the rows; 0 for a value that is not among the most frequent."""
        return next((share for known, share in self.top if known == value), 0.0)

    @property
    def is_discrete(self) -> bool:
        """Whether its most frequent values are nearly all there are."""
        return sum(share for _, share in self.top) >= 0.99 * (1 - self.missing)


@dataclass(frozen=True, slots=True)
class Profile:
    """The rows that a run learned from and was judged by. Those from `until_us` on, its last span, count as new again:
    more of that span may come."""

    rows: int
    until_us: int
    columns: tuple[ColumnProfile, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Profile:
        """The profile that `as_dict` wrote."""
        columns = []
        for column in raw["columns"]:
            lists = {name: tuple(column[name]) for name in ("quantiles", "edges", "counts")}
            columns.append(ColumnProfile(**column | lists | {"top": tuple((v, s) for v, s in column["top"])}))
        return cls(raw["rows"], raw["until_us"], tuple(columns))


def profile(examples: Examples) -> Profile:
    """The profile of all rows, which are in the order of their moments."""
    parts = spans(examples.moments_us)
    columns = tuple(column_profile(name, values, parts) for name, values in columns_of(examples))
    return Profile(len(examples), int(examples.moments_us[parts[-1].start]) if parts else 0, columns)


def columns_of(examples: Examples) -> Iterator[tuple[str, NDArray[Any]]]:
    """The inputs, float64 with NaN or objects with "" for missing, and the label."""
    for name, values in examples.columns.items():
        yield name, values if values.dtype == object else values.astype(np.float64)
    yield LABEL, examples.labels


def spans(moments_us: NDArray[np.int64]) -> list[slice]:
    """Whole days, as many as it takes for SPAN_ROWS rows; fewer at the end belong to the last. None for fewer rows."""
    days = moments_us // DAY_US
    begins = [0]
    for end in (np.flatnonzero(days[1:] != days[:-1]) + 1).tolist():
        if end - begins[-1] >= SPAN_ROWS and len(days) - end >= SPAN_ROWS:
            begins.append(end)
    ends = [*begins[1:], len(days)]
    return [slice(begin, end) for begin, end in zip(begins, ends, strict=True) if end - begin >= SPAN_ROWS]


def column_profile(name: str, values: NDArray[Any], parts: Sequence[slice]) -> ColumnProfile:
    """One column; `parts` are its spans."""
    rows, counted = max(len(values), 1), top_values(values, MOST_VALUES)
    singles = [share for part in parts for _, share in top_values(values[part], 1)]
    gaps = [float(is_missing(values[part]).mean()) for part in parts]
    missing = float(is_missing(values).sum() / rows)
    made = ColumnProfile(
        name=name,
        is_text=values.dtype == object,
        missing=missing,
        missing_most=max(gaps, default=missing),
        single_most=max(singles, default=counted[0][1] if counted else 0.0),
        top=tuple(counted),
    )
    return made if made.is_text else _with_numbers(made, values[np.isfinite(values)])


def _with_numbers(column: ColumnProfile, known: NDArray[Any]) -> ColumnProfile:
    if not len(known):
        return column
    edges = np.unique(np.quantile(known, np.linspace(0, 1, BINS + 1)[1:-1]))
    return replace(
        column,
        quantiles=tuple(np.quantile(known, SHARES).tolist()),
        edges=tuple(edges.tolist()),
        counts=tuple(binned(known, edges).tolist()),
        least=float(known.min()),
        greatest=float(known.max()),
    )


def binned(known: NDArray[Any], edges: Sequence[float] | NDArray[Any]) -> NDArray[np.int64]:
    """How many values lie in each bin; the outer ones are open."""
    return np.bincount(np.searchsorted(edges, known, side="right"), minlength=len(edges) + 1)


def is_missing(values: NDArray[Any]) -> Mask:
    """Where there is no value."""
    return np.asarray(values == "") if values.dtype == object else np.isnan(values)


def top_values(values: NDArray[Any], most: int) -> list[tuple[Value, float]]:
    """The most frequent values with their share of all rows; of equally frequent ones the smaller first."""
    known = values[~is_missing(values)]
    distinct, counts = np.unique(known.astype(str) if values.dtype == object else known, return_counts=True)
    chosen = np.argsort(-counts, kind="stable")[:most]
    return [(distinct[i].item(), int(counts[i]) / len(values)) for i in chosen]
