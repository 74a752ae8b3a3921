"""What the rows of a training set look like, column by column: kept with a run, so that the next one can be compared.

Shares of a column differ from hour to hour and from day to day, so a profile also says how far they went in a single
span of it. A span is some whole days (UTC) of at least SPAN_ROWS rows. Numbers that are not finite are no values.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from math import log10
from typing import Any

import numpy as np
from millrace.definitions.model import DAY_US
from numpy.typing import NDArray

from services.trainer.domain.examples import Examples

LABEL = "label"
SPAN_ROWS = 200  # fewer have no share worth comparing: of 200 rows a share of 5 % is known to within 3
LEAST_VALUES = 50  # of a span, for its shares to count
SELDOM = 0.001  # a value of a smaller share is not kept
LEAST_ROWS = 5  # nor is one of fewer rows: it may be somebody's own
SHARES = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95)
LEAST_QUANTILES = 4
EVEN = 0.15  # how far the factors of the quantiles may lie apart, as log10
BINS = 10

Value = str | float
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class ColumnProfile:
    """One column. `values` is how many rows have one; `missing` the share of those without, `missing_most` that of the
    span where it was greatest. Of the rows with a value: `top`, values that are not seldom with their shares, and
    `single_most`, the greatest share of a span that had one and the same value. Of numbers: `quantiles` at SHARES, how
    many lie in each bin between `edges` (the outer ones open), and the log10 of the factors by which the quantiles of
    single spans lay apart from these, where all did alike."""

    name: str
    is_text: bool
    values: int
    missing: float
    missing_most: float
    single_most: float
    top: tuple[tuple[Value, float], ...]
    quantiles: tuple[float, ...] = ()
    edges: tuple[float, ...] = ()
    counts: tuple[int, ...] = ()
    least: float = 0.0
    greatest: float = 0.0
    factor_least: float = 0.0
    factor_greatest: float = 0.0

    def share(self, value: Value) -> float:
        """Of the rows with a value; 0 for one that is seldom."""
        return next((share for known, share in self.top if known == value), 0.0)

    @property
    def is_discrete(self) -> bool:
        """Whether the values that are not seldom are nearly all there are."""
        return sum(share for _, share in self.top) >= 0.99


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
    for name, values in (*examples.columns.items(), (LABEL, examples.labels)):
        if values.dtype == object:
            yield name, values
        else:
            numbers = values.astype(np.float64)
            yield name, np.where(np.isfinite(numbers), numbers, np.nan)


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
    gone = is_missing(values)
    counted = shares(values[~gone])
    known = [values[part][~gone[part]] for part in parts]
    missing = float(gone.mean()) if len(gone) else 0.0
    made = ColumnProfile(
        name=name,
        is_text=values.dtype == object,
        values=int((~gone).sum()),
        missing=missing,
        missing_most=max((float(gone[part].mean()) for part in parts), default=missing),
        single_most=max(
            (share for one in known if len(one) >= LEAST_VALUES for _, share, _ in shares(one)[:1]),
            default=counted[0][1] if counted else 0.0,
        ),
        top=tuple((value, share) for value, share, rows in counted if share >= SELDOM and rows >= LEAST_ROWS),
    )
    return made if made.is_text or not made.values else _with_numbers(made, values[~gone], known)


def _with_numbers(column: ColumnProfile, values: NDArray[Any], parts: Sequence[NDArray[Any]]) -> ColumnProfile:
    edges = np.unique(np.quantile(values, np.linspace(0, 1, BINS + 1)[1:-1]))
    quantiles = tuple(np.quantile(values, SHARES).tolist())
    factors = [factor for part in parts if (factor := even_factor(quantiles, part)) is not None]
    return replace(
        column,
        quantiles=quantiles,
        edges=tuple(edges.tolist()),
        counts=tuple(binned(values, edges).tolist()),
        least=float(values.min()),
        greatest=float(values.max()),
        factor_least=min(factors, default=0.0),
        factor_greatest=max(factors, default=0.0),
    )


def even_factor(quantiles: Sequence[float], values: NDArray[Any]) -> float | None:
    """The log10 of the factor by which the quantiles of `values` lie apart from these; None where they do not all do so
    alike, or are too few to tell."""
    if len(values) < LEAST_VALUES:
        return None
    pairs = zip(quantiles, np.quantile(values, SHARES).tolist(), strict=True)
    logs = [log10(now / was) for was, now in pairs if was * now > 0]
    if len(logs) < LEAST_QUANTILES or max(logs) - min(logs) > EVEN:
        return None
    return float(np.median(logs))


def binned(known: NDArray[Any], edges: Sequence[float] | NDArray[Any]) -> NDArray[np.int64]:
    """How many values lie in each bin; the outer ones are open."""
    return np.bincount(np.searchsorted(edges, known, side="right"), minlength=len(edges) + 1)


def is_missing(values: NDArray[Any]) -> Mask:
    """Where there is no value."""
    return np.asarray(values == "") if values.dtype == object else np.isnan(values)


def shares(known: NDArray[Any]) -> list[tuple[Value, float, int]]:
    """Each value with its share and its rows, the most frequent first; of equally frequent ones the smaller."""
    distinct, counts = np.unique(known.astype(str) if known.dtype == object else known, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    found = zip(distinct[order].tolist(), counts[order].tolist(), strict=True)
    return [(value, rows / len(known), rows) for value, rows in found]
