"""Bounds on a mean that hold at every look, so that a judge may look as often as it likes.

Predictable plug-in empirical Bernstein confidence sequence: Waudby-Smith & Ramdas, "Estimating means of bounded random
variables by betting", JRSS B 86 (2024), theorem 2. It asks only for bounded values with a common conditional mean: the
chance that the truth ever leaves the band is at most 1 - confidence, whatever the stopping rule.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

_LARGEST_BET = 0.5  # the truncation `c` of the paper: 1/2 keeps early bets from losing everything


@dataclass(frozen=True, slots=True)
class Band:
    """Where the mean lies: each bound alone holds for ever with the confidence asked for."""

    mean: float
    low: float
    high: float
    observations: int


def confidence_sequence(values: ArrayLike, low: float, high: float, confidence: float) -> Band:
    """The band after the last of `values`, which are in arrival order and within [low, high].

    Both bounds are one-sided, each at `confidence`; use (1 + confidence) / 2 for a two-sided band. Values outside the
    range are an error of the caller (ValueError); no values give the whole range.
    """
    numbers = np.asarray(values, dtype=np.float64)
    n = len(numbers)
    if n == 0:
        return Band(float("nan"), low, high, 0)
    if not low < high or numbers.min() < low - 1e-9 or numbers.max() > high + 1e-9:
        raise ValueError(f"values must lie within [{low}, {high}]")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be in (0, 1), not {confidence}")
    x = np.clip((numbers - low) / (high - low), 0.0, 1.0)
    t = np.arange(1, n + 1, dtype=np.float64)
    means = (0.5 + np.cumsum(x)) / (t + 1)
    variances = (0.25 + np.cumsum((x - means) ** 2)) / (t + 1)
    past_mean = np.r_[0.5, means[:-1]]
    past_variance = np.r_[0.25, variances[:-1]]
    surprise = math.log(1 / (1 - confidence))
    bets = np.minimum(np.sqrt(2 * surprise / (past_variance * t * np.log1p(t))), _LARGEST_BET)
    cost = np.cumsum(4 * (x - past_mean) ** 2 * (-np.log1p(-bets) - bets) / 4)
    stake = np.cumsum(bets)
    centre = np.cumsum(bets * x) / stake
    half = (surprise + cost) / stake
    lowest = max(0.0, float((centre - half).max()))  # the intersection over time is valid too
    highest = min(1.0, float((centre + half).min()))
    width = high - low
    return Band(float(numbers.mean()), low + lowest * width, low + highest * width, n)
