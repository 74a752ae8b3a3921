"""Realised performance per version and window of the prediction moment, with intervals and coverage."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from millrace import statistics
from millrace.definitions.model import Task
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Cell:
    """One metric of one version in one window; the interval is 95 %. NaN where there is no value yet."""

    start_us: int
    version: int
    answered: bool
    metric: str
    value: float
    low: float
    high: float
    predictions: int
    labelled: int

    @property
    def coverage(self) -> float:
        """Share of the predictions whose truth is known."""
        return self.labelled / self.predictions if self.predictions else 0.0


def cells(start_us: int, version: int, answered: bool, outputs: Floats, truth: Floats, task: Task) -> list[Cell]:
    """The metrics of one version and window; `truth` is NaN where no label has matured."""
    known = ~np.isnan(truth) & ~np.isnan(outputs)
    y, p = truth[known], outputs[known]
    measured = _binary(y, p) if task is Task.BINARY else _regression(y, p)
    return [
        Cell(start_us, version, answered, name, value, low, high, len(outputs), int(known.sum()))
        for name, value, low, high in measured
    ]


def worse_than(cell: Cell, floor: float) -> bool:
    """Whether the whole interval lies on the bad side of a declared floor."""
    if np.isnan(cell.low):
        return False
    return cell.high < floor if cell.metric in statistics.HIGHER_IS_BETTER else cell.low > floor


def _binary(y: Floats, p: Floats) -> list[tuple[str, float, float, float]]:
    losses = statistics.log_losses(y, p)
    return [
        ("auc", statistics.auc(y, p), *statistics.auc_interval(y, p)),
        ("log_loss", statistics.log_loss(y, p), *statistics.mean_interval(losses)),
    ]


def _regression(y: Floats, p: Floats) -> list[tuple[str, float, float, float]]:
    errors = np.abs(p - y)
    low, high = (float(np.sqrt(max(0.0, bound))) for bound in statistics.mean_interval(errors**2))
    return [
        ("mae", statistics.mae(y, p), *statistics.mean_interval(errors)),
        ("rmse", statistics.rmse(y, p), low, high),
    ]
