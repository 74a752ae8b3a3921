"""Distances and tails against scipy."""

import math

import numpy as np
import pytest
from millrace import statistics
from millrace.statistics import tails
from scipy import stats
from scipy.spatial.distance import jensenshannon


@pytest.mark.parametrize(("x", "df"), [(0.5, 1), (3.84, 1), (20.0, 9), (200.0, 40), (30.0, 2), (1e-3, 3)])
def test_chi_square_tail(x, df):
    assert tails.chi_square_tail(x, df) == pytest.approx(stats.chi2.sf(x, df), rel=1e-9)


@pytest.mark.parametrize(("tail", "df"), [(0.05, 3.0), (4e-4, 7.0), (1e-6, 59.0), (0.2, 1.3)])
def test_student_quantile(tail, df):
    assert tails.student_quantile(tail, df) == pytest.approx(stats.t.isf(tail, df), rel=1e-7)


def test_distances_against_scipy():
    a, b = np.array([10, 0, 30, 60]), np.array([20, 10, 10, 60])
    assert statistics.jensen_shannon(a, b) == pytest.approx(jensenshannon(a, b, base=2) ** 2)
    assert statistics.total_variation(a, b) == pytest.approx(0.2)
    assert statistics.kolmogorov_smirnov(a, b) == pytest.approx(0.2)
    assert statistics.psi(a, a) == 0
    assert statistics.psi(a, b) > 0.3


def test_chi_square_takes_both_samples_as_random():
    a, b = np.array([100, 200, 300]), np.array([15, 20, 25])
    expected = stats.chi2_contingency(np.stack([a, b]), correction=False)
    result = statistics.chi_square(a, b)
    assert result.statistic == pytest.approx(expected.statistic)
    assert result.p_value == pytest.approx(expected.pvalue)
    assert statistics.chi_square([5, 0], [7, 0]).p_value == 1.0


def test_empty_sides_are_nan_and_bins_must_match():
    assert math.isnan(statistics.jensen_shannon([0, 0], [1, 2]))
    assert math.isnan(statistics.psi([0, 0], [1, 2]))
    with pytest.raises(ValueError, match="different bins"):
        statistics.psi([1, 2], [1, 2, 3])
