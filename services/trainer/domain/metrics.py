"""Measures of predictions against truth, each for many draws of the same rows at once (the bootstrap needs that).

`labels` and `predictions` are float64[n]. Rows come in blocks, `blocks` int64[n] from 0, and `draws` is
float64[b, blocks]: how often each block counts in each draw. Results are float64[b]. What a draw needs is summed per
block once, so its cost does not depend on the rows. A measure that has no value (one class only, nothing drawn) is NaN.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Blocks = NDArray[np.int64]

SMALLEST_PROBABILITY = 1e-7
MOST_PAIRED_BLOCKS = 2_048  # of more blocks the pairs would be more work, and 32 MB, than the rows are
MIN_BLOCKS = 30  # of fewer, rows are drawn singly
TAIL_DRAWS = 5  # beyond a bound; with fewer the draws do not tell where it is
BOOTSTRAP_CELLS = 4_000_000  # weights held at once: 32 MB


def auc(labels: Floats, predictions: Floats, blocks: Blocks, draws: Floats) -> Floats:
    """Area under the ROC curve; tied scores count half. A score that is NaN has no rank, so there is no value."""
    if len(labels) == 0 or np.isnan(predictions).any():
        return np.full(len(draws), np.nan)
    count = draws.shape[1]
    if count > MOST_PAIRED_BLOCKS:
        return _auc_of_rows(labels, predictions, draws[:, blocks])
    won = _won_pairs(labels, predictions, blocks, count)
    positives = draws @ np.bincount(blocks, labels, count)
    negatives = draws @ np.bincount(blocks, 1.0 - labels, count)
    return _ratio(((draws @ won) * draws).sum(axis=1), positives * negatives)


def _won_pairs(labels: Floats, predictions: Floats, blocks: Blocks, count: int) -> Floats:
    """float64[blocks, blocks]: pairs of a positive of one and a negative of the other where the positive scores higher.

    The area under the curve is the share of pairs that are won (Mann and Whitney), so it is quadratic in the draws.
    """
    is_positive = labels > 0.5
    order = np.argsort(predictions[is_positive], kind="stable")
    positives, places = predictions[is_positive][order], blocks[is_positive][order]
    order = np.lexsort((predictions[~is_positive], blocks[~is_positive]))
    negatives, ends = predictions[~is_positive][order], np.cumsum(np.bincount(blocks[~is_positive], minlength=count))
    won = np.zeros((count, count))
    for block, of_block in enumerate(np.split(negatives, ends[:-1])):
        if len(of_block):
            below = np.searchsorted(of_block, positives, "left") + np.searchsorted(of_block, positives, "right")
            won[:, block] = np.bincount(places, below / 2, count)
    return won


def _auc_of_rows(labels: Floats, predictions: Floats, weights: Floats) -> Floats:
    """As `auc` for weights of single rows, float64[b, n]."""
    order = np.argsort(predictions, kind="stable")
    scores = predictions[order]
    starts = np.flatnonzero(np.concatenate(([True], scores[1:] != scores[:-1])))
    sorted_weights = weights[:, order]
    positives = np.add.reduceat(sorted_weights * labels[order], starts, axis=1)
    negatives = np.add.reduceat(sorted_weights * (1.0 - labels[order]), starts, axis=1)
    below = np.cumsum(negatives, axis=1) - negatives
    return _ratio((positives * (below + negatives / 2)).sum(axis=1), positives.sum(axis=1) * negatives.sum(axis=1))


def log_loss(labels: Floats, predictions: Floats, blocks: Blocks, draws: Floats) -> Floats:
    """Mean negative log likelihood of a binary label."""
    p = np.clip(predictions, SMALLEST_PROBABILITY, 1 - SMALLEST_PROBABILITY)
    return _mean(-(labels * np.log(p) + (1 - labels) * np.log1p(-p)), blocks, draws)


def brier(labels: Floats, predictions: Floats, blocks: Blocks, draws: Floats) -> Floats:
    """Mean squared error of a probability."""
    return _mean((labels - predictions) ** 2, blocks, draws)


def mae(labels: Floats, predictions: Floats, blocks: Blocks, draws: Floats) -> Floats:
    """Mean absolute error, in units of the label."""
    return _mean(np.abs(labels - predictions), blocks, draws)


def rmse(labels: Floats, predictions: Floats, blocks: Blocks, draws: Floats) -> Floats:
    """Root of the mean squared error, in units of the label."""
    return np.sqrt(_mean((labels - predictions) ** 2, blocks, draws))


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
    evaluate: Callable[[Floats, Floats, Blocks, Floats], Floats]
    higher_is_better: bool

    def value(self, labels: Floats, predictions: Floats) -> float:
        """The measure over all rows, each counted once."""
        return float(self.evaluate(labels, predictions, np.zeros(len(labels), dtype=np.int64), np.ones((1, 1)))[0])

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


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """How sure a bound is, one-sided, and the draws that it stands on."""

    confidence: float
    resamples: int
    seed: int

    def draws(self, blocks: Blocks) -> Iterator[tuple[Blocks, Floats]]:
        """Draws in portions that fit memory: what the rows' blocks are numbered by, and float64[b, blocks].

        Rows of one block are drawn together: examples of one moment share their weather. With fewer than 30 blocks
        rows are drawn singly. The same blocks and seed give the same draws.
        """
        rows = len(blocks)
        count = int(blocks.max()) + 1 if rows else 0
        if count < MIN_BLOCKS:
            blocks, count = np.arange(rows), rows
        if count == 0:
            return
        random = np.random.default_rng(self.seed)
        chunk = max(1, BOOTSTRAP_CELLS // (count if count <= MOST_PAIRED_BLOCKS else rows))
        for start in range(0, self.resamples, chunk):
            size = min(chunk, self.resamples - start)
            yield blocks, random.multinomial(count, np.full(count, 1 / count), size=size).astype(np.float64)


def gain_bound(
    measure: Measure, labels: Floats, candidate: Floats, other: Floats, blocks: Blocks, how: Bootstrap
) -> tuple[float, float]:
    """The paired gain of `candidate` over `other` and its lower bound: both see the same draws."""
    point = measure.gain(measure.value(labels, candidate), measure.value(labels, other))
    if np.isnan(point):
        return point, float("nan")
    gains: list[Floats] = []
    for numbered, draws in how.draws(blocks):
        mine, theirs = (measure.evaluate(labels, scores, numbered, draws) for scores in (candidate, other))
        gains.append(mine - theirs if measure.higher_is_better else theirs - mine)
    return point, _bound(gains, point, 1 - how.confidence)


def value_bounds(
    measure: Measure, labels: Floats, predictions: Floats, blocks: Blocks, how: Bootstrap
) -> tuple[float, float, float]:
    """The measure with its lower and its upper bound."""
    point = measure.value(labels, predictions)
    drawn = [measure.evaluate(labels, predictions, numbered, draws) for numbered, draws in how.draws(blocks)]
    return point, _bound(drawn, point, 1 - how.confidence), _bound(drawn, point, how.confidence)


def _bound(drawn: Sequence[Floats], point: float, share: float) -> float:
    """A quantile of all draws that have a value; NaN when none has. Further out than a few draws reach it is that of a
    normal distribution around `point` with their spread."""
    values = np.concatenate(drawn) if drawn else np.zeros(0)
    values = values[~np.isnan(values)]
    if len(values) == 0:
        return math.nan
    if min(share, 1 - share) * len(values) >= TAIL_DRAWS:
        return float(np.quantile(values, share))
    return point + NormalDist().inv_cdf(share) * float(values.std())


def _mean(values: Floats, blocks: Blocks, draws: Floats) -> Floats:
    count = draws.shape[1]
    return _ratio(draws @ np.bincount(blocks, values, count), draws @ np.bincount(blocks, minlength=count))


def _ratio(above: Floats, below: Floats) -> Floats:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(below > 0, above / below, np.nan), dtype=np.float64)
