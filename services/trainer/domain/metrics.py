"""Measures of predictions against truth, each for many weightings of the same rows at once (the bootstrap needs that).

`labels` and `predictions` are float64[n]; `weights` is float64[b, n], one weighting per line; results are float64[b].
A measure that has no value (one class only, no weight) is NaN.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

SMALLEST_PROBABILITY = 1e-7
BOOTSTRAP_CELLS = 4_000_000  # weights held at once: 32 MB


def auc(labels: Floats, predictions: Floats, weights: Floats) -> Floats:
    """Area under the ROC curve; tied scores count half. A score that is NaN has no rank, so there is no value."""
    order = np.argsort(predictions, kind="stable")
    scores = predictions[order]
    if len(scores) == 0 or np.isnan(scores[-1]):  # NaN sorts last
        return np.full(len(weights), np.nan)
    starts = np.flatnonzero(np.concatenate(([True], scores[1:] != scores[:-1])))
    sorted_weights = weights[:, order]
    positives = np.add.reduceat(sorted_weights * labels[order], starts, axis=1)
    negatives = np.add.reduceat(sorted_weights * (1.0 - labels[order]), starts, axis=1)
    below = np.cumsum(negatives, axis=1) - negatives
    return _ratio((positives * (below + negatives / 2)).sum(axis=1), positives.sum(axis=1) * negatives.sum(axis=1))


def log_loss(labels: Floats, predictions: Floats, weights: Floats) -> Floats:
    """Mean negative log likelihood of a binary label."""
    p = np.clip(predictions, SMALLEST_PROBABILITY, 1 - SMALLEST_PROBABILITY)
    return _mean(-(labels * np.log(p) + (1 - labels) * np.log1p(-p)), weights)


def brier(labels: Floats, predictions: Floats, weights: Floats) -> Floats:
    """Mean squared error of a probability."""
    return _mean((labels - predictions) ** 2, weights)


def mae(labels: Floats, predictions: Floats, weights: Floats) -> Floats:
    """Mean absolute error, in units of the label."""
    return _mean(np.abs(labels - predictions), weights)


def rmse(labels: Floats, predictions: Floats, weights: Floats) -> Floats:
    """Root of the mean squared error, in units of the label."""
    return np.sqrt(_mean((labels - predictions) ** 2, weights))


def expected_calibration_error(labels: Floats, predictions: Floats, bins: int = 10) -> float:
    """Mean |observed share - mean probability| over `bins` bins of equal numbers of rows."""
    if len(labels) == 0:
        return float("nan")
    order = np.argsort(predictions, kind="stable")
    error = 0.0
    for part in np.array_split(order, min(bins, len(order))):
        error += abs(float(labels[part].mean() - predictions[part].mean())) * len(part)
    return error / len(order)


@dataclass(frozen=True, slots=True)
class Measure:
    """A named measure and its good direction."""

    name: str
    evaluate: Callable[[Floats, Floats, Floats], Floats]
    higher_is_better: bool

    def value(self, labels: Floats, predictions: Floats) -> float:
        """The measure over all rows, each counted once."""
        return float(self.evaluate(labels, predictions, np.ones((1, len(labels))))[0])

    def gain(self, candidate: float, other: float) -> float:
        """How much better the candidate is than the other; negative when it is worse."""
        return candidate - other if self.higher_is_better else other - candidate


MEASURES = {
    "auc": Measure("auc", auc, higher_is_better=True),
    "log_loss": Measure("log_loss", log_loss, higher_is_better=False),
    "brier": Measure("brier", brier, higher_is_better=False),
    "mae": Measure("mae", mae, higher_is_better=False),
    "rmse": Measure("rmse", rmse, higher_is_better=False),
}
BINARY_MEASURES = ("auc", "log_loss", "brier")
REGRESSION_MEASURES = ("mae", "rmse")


def gain_bound(
    measure: Measure,
    labels: Floats,
    candidate: Floats,
    other: Floats,
    blocks: NDArray[np.int64],
    *,
    confidence: float,
    resamples: int,
    seed: int,
) -> tuple[float, float]:
    """The paired gain of `candidate` over `other` and its one-sided lower bound by the bootstrap.

    Rows of one block (`blocks` numbers them from 0) are drawn together: examples of one moment share their weather.
    With fewer than 30 blocks rows are drawn singly. Both predictions see the same draws.
    """
    point = measure.gain(measure.value(labels, candidate), measure.value(labels, other))
    count = int(blocks.max()) + 1 if len(blocks) else 0
    if count < 30:
        blocks, count = np.arange(len(labels)), len(labels)
    if count == 0 or np.isnan(point):
        return point, float("nan")
    random = np.random.default_rng(seed)
    gains: list[Floats] = []
    chunk = max(1, BOOTSTRAP_CELLS // max(1, len(labels)))
    for start in range(0, resamples, chunk):
        draws = random.multinomial(count, np.full(count, 1 / count), size=min(chunk, resamples - start))
        weights = draws.astype(np.float64)[:, blocks]
        mine, theirs = (measure.evaluate(labels, scores, weights) for scores in (candidate, other))
        gains.append(mine - theirs if measure.higher_is_better else theirs - mine)
    drawn = np.concatenate(gains)
    drawn = drawn[~np.isnan(drawn)]
    return point, float(np.quantile(drawn, 1 - confidence)) if len(drawn) else float("nan")


def _mean(values: Floats, weights: Floats) -> Floats:
    return _ratio(weights @ values, weights.sum(axis=1))


def _ratio(above: Floats, below: Floats) -> Floats:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(below > 0, above / below, np.nan), dtype=np.float64)
