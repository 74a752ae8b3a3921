"""Realised metrics of a window."""

import numpy as np
from millrace.definitions.model import Task

from services.monitor.domain import performance


def test_binary_cells_carry_coverage_and_interval():
    random = np.random.default_rng(3)
    truth = (random.random(400) < 0.4).astype(float)
    outputs = np.clip(0.3 + 0.3 * truth + random.normal(0, 0.2, 400), 0, 1)
    truth[300:] = np.nan
    cells = {c.metric: c for c in performance.cells(0, 2, True, outputs, truth, Task.BINARY)}
    auc = cells["auc"]
    assert auc.low < auc.value < auc.high and auc.coverage == 0.75 and auc.labelled == 300
    assert cells["log_loss"].low < cells["log_loss"].value < cells["log_loss"].high
    assert performance.worse_than(auc, 0.99) and not performance.worse_than(auc, 0.6)
    assert performance.worse_than(cells["log_loss"], 0.05)


def test_without_labels_there_is_no_value():
    cells = performance.cells(0, 2, True, np.ones(10), np.full(10, np.nan), Task.BINARY)
    assert all(np.isnan(c.value) and c.coverage == 0 for c in cells)
    assert not any(performance.worse_than(c, 0.5) for c in cells)


def test_regression_cells():
    truth = np.arange(50.0)
    cells = {c.metric: c for c in performance.cells(0, 1, False, truth + 2, truth, Task.REGRESSION)}
    assert cells["mae"].value == 2 and cells["rmse"].value == 2 and not cells["mae"].answered
