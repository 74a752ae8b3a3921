"""Metrics of predictions against truth, and how sure one may be of a difference.

`y` is the truth (0 or 1 for classification, numbers for regression), `p` the probability of the positive class or the
predicted number; both are one-dimensional, of equal length, without NaN. Empty input and metrics that are not defined
(AUC of one class) give NaN, never an error: a caller shows "no value", it does not fail.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Metric = Callable[[Floats, Floats], float]

_TINY = 1e-7  # outputs are float32: anything nearer to 0 or 1 is a rounded certainty


def auc(y: ArrayLike, p: ArrayLike) -> float:
    """Area under the ROC curve: P(score of a positive > score of a negative), ties count half."""
    truth, scores = _pair(y, p)
    positives = truth > 0.5
    n_pos = int(positives.sum())
    n_neg = len(truth) - n_pos
    if n_pos == 0 or n_neg == 0:
        return float("nan")
    rank_sum = float(_midranks(scores)[positives].sum())
    return (rank_sum - n_pos * (n_pos + 1) / 2) / (n_pos * n_neg)


def auc_interval(y: ArrayLike, p: ArrayLike, confidence: float = 0.95) -> tuple[float, float]:
    """(low, high) of the AUC by DeLong's variance (DeLong et al. 1988; midranks after Sun & Xu 2014), within [0, 1]."""
    truth, scores = _pair(y, p)
    positives = truth > 0.5
    n_pos = int(positives.sum())
    n_neg = len(truth) - n_pos
    if n_pos < 2 or n_neg < 2:
        return float("nan"), float("nan")
    ranks = _midranks(scores)
    above = (ranks[positives] - _midranks(scores[positives])) / n_neg
    below = 1.0 - (ranks[~positives] - _midranks(scores[~positives])) / n_pos
    spread = float(np.sqrt(above.var(ddof=1) / n_pos + below.var(ddof=1) / n_neg))
    half = NormalDist().inv_cdf((1 + confidence) / 2) * spread
    value = float(above.mean())
    return max(0.0, value - half), min(1.0, value + half)


def log_loss(y: ArrayLike, p: ArrayLike) -> float:
    """Mean negative log-likelihood in nats; probabilities are clipped to [1e-7, 1 - 1e-7]."""
    truth, scores = _pair(y, p)
    return _mean(log_losses(truth, scores))


def log_losses(y: Floats, p: Floats) -> Floats:
    """Negative log-likelihood of each row, in nats."""
    clipped = np.clip(p, _TINY, 1.0 - _TINY)
    return -(y * np.log(clipped) + (1.0 - y) * np.log1p(-clipped))


def brier(y: ArrayLike, p: ArrayLike) -> float:
    """Mean squared difference of probability and outcome; in [0, 1]."""
    truth, scores = _pair(y, p)
    return _mean((scores - truth) ** 2)


def ece(y: ArrayLike, p: ArrayLike, bins: int = 15) -> float:
    """Expected calibration error over `bins` equal-width bins: the mean |observed rate - mean score|, by rows."""
    truth, scores = _pair(y, p)
    if len(truth) == 0:
        return float("nan")
    index = np.clip((scores * bins).astype(np.int64), 0, bins - 1)
    gap = np.bincount(index, weights=truth - scores, minlength=bins)
    return float(np.abs(gap).sum() / len(truth))


def mae(y: ArrayLike, p: ArrayLike) -> float:
    """Mean absolute error, in the unit of the label."""
    truth, predicted = _pair(y, p)
    return _mean(np.abs(predicted - truth))


def rmse(y: ArrayLike, p: ArrayLike) -> float:
    """Root of the mean squared error, in the unit of the label."""
    truth, predicted = _pair(y, p)
    return float(np.sqrt(_mean((predicted - truth) ** 2)))


METRICS: dict[str, Metric] = {"auc": auc, "log_loss": log_loss, "brier": brier, "ece": ece, "mae": mae, "rmse": rmse}
HIGHER_IS_BETTER = frozenset({"auc"})


@dataclass(frozen=True, slots=True)
class PairedBootstrap:
    """`metric(a) - metric(b)` on the same rows, with one-sided bounds, each held with the confidence asked for."""

    difference: float
    low: float  # the difference is above this with `confidence`
    high: float  # the difference is below this with `confidence`
    share_above: float  # share of resamples where the difference is above 0


def paired_bootstrap(
    metric: Metric, y: ArrayLike, a: ArrayLike, b: ArrayLike, seed: int, rounds: int = 500, confidence: float = 0.8
) -> PairedBootstrap:
    """Resamples rows with replacement `rounds` times and compares `a` with `b` on each sample.

    Percentile bounds. Rounds where the metric has no value (one class only) are left out; with none left, or fewer than
    two rows, everything but the difference is NaN.
    """
    truth, first = _pair(y, a)
    _, second = _pair(y, b)
    nan = float("nan")
    if len(truth) == 0:
        return PairedBootstrap(nan, nan, nan, nan)
    difference = metric(truth, first) - metric(truth, second)
    random = np.random.default_rng(seed)
    samples = np.empty(rounds)
    for i in range(rounds):
        rows = random.integers(0, len(truth), len(truth))
        samples[i] = metric(truth[rows], first[rows]) - metric(truth[rows], second[rows])
    samples = samples[~np.isnan(samples)]
    if len(samples) == 0 or len(truth) < 2:
        return PairedBootstrap(difference, nan, nan, nan)
    low, high = np.quantile(samples, [1.0 - confidence, confidence])
    return PairedBootstrap(difference, float(low), float(high), float((samples > 0).mean()))


def mean_interval(values: ArrayLike, confidence: float = 0.95) -> tuple[float, float]:
    """(low, high) of a mean by the normal approximation; NaN below two values."""
    numbers = np.asarray(values, dtype=np.float64)
    if len(numbers) < 2:
        return float("nan"), float("nan")
    half = NormalDist().inv_cdf((1 + confidence) / 2) * float(numbers.std(ddof=1)) / len(numbers) ** 0.5
    return float(numbers.mean()) - half, float(numbers.mean()) + half


def _pair(y: ArrayLike, p: ArrayLike) -> tuple[Floats, Floats]:
    truth = np.asarray(y, dtype=np.float64).ravel()
    scores = np.asarray(p, dtype=np.float64).ravel()
    if truth.shape != scores.shape:
        raise ValueError(f"{len(truth)} truths and {len(scores)} predictions")
    return truth, scores


def _mean(values: Floats) -> float:
    return float(values.mean()) if len(values) else float("nan")


def _midranks(values: Floats) -> Floats:
    """1-based ranks; ties share their mean rank."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    ends = np.r_[starts[1:], len(values)]
    ranks = np.empty(len(values))
    ranks[order] = np.repeat((starts + ends + 1) / 2, ends - starts)
    return ranks
