"""Temperature scaling: probability = sigmoid(slope * score), fitted on rows that the net did not learn from.

Only how sure the net is gets corrected. An offset would also copy the base rate of the few newest days into the
model, and where the base rate moves that makes it worse (tried on real data: Platt's offset doubled the error).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MAX_STEPS = 50
LEAST_SLOPE, MOST_SLOPE = 0.1, 5.0


@dataclass(frozen=True, slots=True)
class Calibration:
    """One number, exact in float32; 1 leaves the scores as they are."""

    slope: float = 1.0

    def apply(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """Probabilities of `scores` (log odds)."""
        return sigmoid(self.slope * scores)


def sigmoid(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """1 / (1 + exp(-x)) without overflow."""
    half = np.exp(-np.abs(values))
    return np.where(values >= 0, 1 / (1 + half), half / (1 + half))


def fit_temperature(scores: NDArray[np.float64], labels: NDArray[np.float64]) -> Calibration:
    """The slope of least log loss, by Newton's method; 1 when a class is absent or scores do not vary."""
    if len(np.unique(labels)) < 2 or float(np.std(scores)) < 1e-9:
        return Calibration()
    slope = 1.0
    for _ in range(MAX_STEPS):
        p = sigmoid(slope * scores)
        curvature = float((scores**2 * p * (1 - p)).sum())
        step = float((scores * (p - labels)).sum()) / max(curvature, 1e-12)
        slope = min(max(slope - max(-1.0, min(1.0, step)), LEAST_SLOPE), MOST_SLOPE)
        if abs(step) < 1e-9:
            break
    return Calibration(float(np.float32(slope)))
