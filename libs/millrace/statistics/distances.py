"""Distances of two distributions given as counts over the same bins (nulls are a bin of their own: a surge of nulls is
drift). All of them are 0 for equal shares. An empty side gives NaN.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from millrace.statistics.tails import chi_square_tail

Floats = NDArray[np.float64]


def psi(reference: ArrayLike, current: ArrayLike) -> float:
    """Population stability index, in nats (no upper bound); half a count is added to each bin so empty bins count."""
    a, b = _counts(reference, current)
    if a.sum() <= 0 or b.sum() <= 0:
        return float("nan")
    p = (a + 0.5) / (a + 0.5).sum()
    q = (b + 0.5) / (b + 0.5).sum()
    return float(((q - p) * np.log(q / p)).sum())


def jensen_shannon(reference: ArrayLike, current: ArrayLike) -> float:
    """Jensen-Shannon divergence in bits (base 2), in [0, 1]. Its square root is a metric."""
    p, q = _shares(reference, current)
    middle = (p + q) / 2
    bits = (_relative_entropy(p, middle) + _relative_entropy(q, middle)) / 2
    return float(np.maximum(0.0, bits))  # rounding may leave -1e-17; NaN stays NaN


def total_variation(reference: ArrayLike, current: ArrayLike) -> float:
    """Half the sum of |differences of shares|, in [0, 1]: the share of rows that would have to move."""
    p, q = _shares(reference, current)
    return float(np.abs(p - q).sum() / 2)


def kolmogorov_smirnov(reference: ArrayLike, current: ArrayLike) -> float:
    """The largest difference of the two cumulative shares; the bins are in ascending order. In [0, 1]."""
    p, q = _shares(reference, current)
    return float(np.abs(np.cumsum(p - q)).max(initial=0.0))


@dataclass(frozen=True, slots=True)
class ChiSquare:
    """A chi-square test of homogeneity."""

    statistic: float
    degrees: int
    p_value: float


def chi_square(reference: ArrayLike, current: ArrayLike) -> ChiSquare:
    """Pearson's test of homogeneity on the 2 x K contingency table: both samples are random.

    Taking the scaled reference as exact, as goodness of fit does, would inflate the statistic by
    1 + n_current/n_reference. Rows are taken as independent: for autocorrelated streams use
    `millrace.statistics.drift`. Bins empty in both samples are left out; fewer than two bins give p = 1.
    """
    a, b = _counts(reference, current)
    used = (a + b) > 0
    table = np.stack([a[used], b[used]])
    total = table.sum()
    if table.shape[1] < 2 or (table.sum(axis=1) == 0).any():
        return ChiSquare(0.0, 0, 1.0)
    expected = table.sum(axis=1, keepdims=True) * table.sum(axis=0, keepdims=True) / total
    statistic = float(((table - expected) ** 2 / expected).sum())
    degrees = table.shape[1] - 1
    return ChiSquare(statistic, degrees, chi_square_tail(statistic, degrees))


def _counts(reference: ArrayLike, current: ArrayLike) -> tuple[Floats, Floats]:
    a = np.asarray(reference, dtype=np.float64)
    b = np.asarray(current, dtype=np.float64)
    if a.shape != b.shape or a.ndim != 1:
        raise ValueError(f"counts over different bins: {a.shape} and {b.shape}")
    return a, b


def _shares(reference: ArrayLike, current: ArrayLike) -> tuple[Floats, Floats]:
    a, b = _counts(reference, current)
    nan = np.full(a.shape, np.nan)
    p = a / a.sum() if a.sum() else nan
    q = b / b.sum() if b.sum() else nan
    return p, q


def _relative_entropy(p: Floats, q: Floats) -> float:
    used = p > 0
    if np.isnan(p).any() or np.isnan(q).any():
        return float("nan")
    return float((p[used] * np.log2(p[used] / q[used])).sum())
