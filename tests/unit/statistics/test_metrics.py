"""Metrics against scipy, by hand, and at their edges."""

import math

import numpy as np
import pytest
from millrace import statistics
from scipy import stats

RANDOM = np.random.default_rng(3)
Y = (RANDOM.random(400) < 0.3).astype(float)
P = np.clip(0.3 + 0.2 * (Y - 0.3) + 0.2 * RANDOM.normal(size=400), 0, 1).round(2)  # rounded: ties


def test_auc_is_the_scaled_rank_sum():
    u = stats.mannwhitneyu(P[Y == 1], P[Y == 0]).statistic
    assert statistics.auc(Y, P) == pytest.approx(u / ((Y == 1).sum() * (Y == 0).sum()), abs=1e-12)


def test_auc_interval_has_its_coverage():
    inside = 0
    for _ in range(200):
        y = (RANDOM.random(150) < 0.4).astype(float)
        low, high = statistics.auc_interval(y, y + RANDOM.normal(size=150))
        inside += low <= stats.norm.cdf(1 / math.sqrt(2)) <= high
    assert 180 <= inside <= 199


def test_undefined_metrics_are_nan():
    assert math.isnan(statistics.auc(np.ones(5), np.ones(5)))
    assert math.isnan(statistics.mae([], []))
    assert math.isnan(statistics.ece([], []))
    with pytest.raises(ValueError, match="2 truths and 1 predictions"):
        statistics.brier([0, 1], [1])


def test_losses_by_hand():
    assert statistics.log_loss([1, 0], [0.5, 0.5]) == pytest.approx(math.log(2))
    assert statistics.log_loss([1], [0.0]) == pytest.approx(-math.log(1e-7))
    assert statistics.brier([1, 0], [0.8, 0.4]) == pytest.approx(0.1)
    assert statistics.mae([1, 2], [2, 4]) == 1.5
    assert statistics.rmse([1, 2], [2, 4]) == pytest.approx(math.sqrt(2.5))
    assert statistics.ece([1, 0, 1, 0], [0.75, 0.75, 0.75, 0.75], bins=10) == pytest.approx(0.25)


def test_paired_bootstrap_sees_the_better_model_and_repeats():
    y = (RANDOM.random(300) < 0.5).astype(float)
    good, bad = y + RANDOM.normal(size=300), RANDOM.normal(size=300)
    result = statistics.paired_bootstrap(statistics.auc, y, good, bad, seed=1, rounds=100, confidence=0.95)
    assert result.low > 0.1
    assert result.low < result.difference < result.high
    assert result == statistics.paired_bootstrap(statistics.auc, y, good, bad, seed=1, rounds=100, confidence=0.95)
