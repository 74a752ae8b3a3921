"""References and bins, calibration windows, and the label test."""

import math

import numpy as np
import pytest

from services.monitor.domain import drifting
from services.monitor.domain.drifting import DayOfLabels, Score

DAY_US = 86_400_000_000
BUNDLE = {
    "reference": {
        "n": {"kind": "number", "edges": [0, 1, 2, 3], "counts": [5, 6, 7], "nulls": 2},
        "t": {"kind": "string", "values": {"a": 3, "b": 4, "__other__": 1}, "nulls": 0},
        "empty": {"kind": "number", "edges": [], "counts": [], "nulls": 0},
    },
    "reference_output": {"edges": [0, 0.5, 1], "counts": [3, 4]},
}


def test_references_read_a_bundle():
    found = drifting.references(BUNDLE)
    assert set(found) == {"n", "t", "output"}
    assert found["n"].cuts == (1.0, 2.0) and found["n"].counts.tolist() == [5, 6, 7, 2]
    assert found["t"].values == ("a", "b") and found["t"].counts.tolist() == [3, 4, 1, 0]
    assert drifting.references({}) == {}


def test_bins_keep_nulls_and_strangers_apart():
    found = drifting.references(BUNDLE)
    assert drifting.number_bins(found["n"], {0: 1, 2: 3, -1: 4}).tolist() == [1, 0, 3, 4]
    assert drifting.text_bins(found["t"], {"a": 1, "new": 2, "newer": 3, "": 4}).tolist() == [1, 0, 5, 4]


def test_a_surge_of_nulls_is_drift():
    found = drifting.references(BUNDLE)["n"]
    assert drifting.score(found, found.counts * 5, 0).value == pytest.approx(0, abs=1e-3)
    assert drifting.score(found, np.array([0.0, 0, 0, 100]), 0).value > 0.8
    assert math.isnan(drifting.score(found, np.array([1.0, 1, 1, 1]), 0).value)  # too few rows


def scored(*starts):
    return [Score("n", s * DAY_US, 0.1, 100) for s in starts]


def test_calibration_prefers_the_reference_period():
    chosen = drifting.calibration(scored(*range(40)), DAY_US, 30 * DAY_US, 5 * DAY_US)
    assert [s.start_us // DAY_US for s in chosen] == list(range(5, 30))


def test_calibration_takes_the_first_windows_when_the_period_was_not_logged():
    chosen = drifting.calibration(scored(*range(28, 60)), DAY_US, 30 * DAY_US, 0)
    assert [s.start_us // DAY_US for s in chosen] == list(range(28, 42))


def test_ordinary_windows_are_not_tested_and_few_say_nothing():
    ordinary = scored(*range(14))
    assert drifting.test(ordinary[3], ordinary, 0.01) is None
    assert drifting.test(scored(20)[0], ordinary[:13], 0.01) is None
    later = Score("n", 20 * DAY_US, 0.5, 100)
    assert drifting.test(later, ordinary, 0.01).beyond


def test_windows_due_are_aligned_and_bounded():
    assert drifting.windows_due(DAY_US, 4 * DAY_US, DAY_US, 10) == [DAY_US, 2 * DAY_US, 3 * DAY_US]
    assert drifting.windows_due(DAY_US, 4 * DAY_US, DAY_US, 2) == [2 * DAY_US, 3 * DAY_US]
    assert drifting.windows_due(int(3.5 * DAY_US), int(3.9 * DAY_US), DAY_US, 10) == []


def label_days(random, rate, spread, count, rows=900):
    rates = np.clip(random.normal(rate, spread, count), 0, 1)
    return [DayOfLabels(i * DAY_US, rows, float(random.binomial(rows, p))) for i, p in enumerate(rates)]


def test_the_rate_of_a_season_is_found_and_an_ordinary_week_is_not():
    random = np.random.default_rng(8)
    ordinary = label_days(random, 0.32, 0.1, 30)
    quiet = drifting.test_labels(label_days(random, 0.32, 0.1, 7), ordinary, 0.32, 27_000, 0.077, True)
    assert not quiet.beyond and quiet.dispersion > 10
    moved = drifting.test_labels(label_days(random, 0.14, 0.05, 7), ordinary, 0.32, 27_000, 0.077, True)
    assert moved.beyond and moved.statistic < 0
    assert drifting.test_labels(quiet and ordinary[:7], ordinary[:5], 0.32, 27_000, 0.077, True) is None


def test_numbers_have_a_label_test_too():
    random = np.random.default_rng(9)

    def numbers(mean, count):
        return [DayOfLabels(i, 24, float(24 * random.normal(mean, 4))) for i in range(count)]

    ordinary = numbers(60, 30)
    assert drifting.test_labels(numbers(80, 7), ordinary, 60.0, 700, 0.05, False).beyond
    assert not drifting.test_labels(numbers(60, 7), ordinary, 60.0, 700, 0.05, False).beyond


def test_the_label_alarm_keeps_its_rate():
    """4 a year on weekly windows is 1 in 13; over seeded streams of autocorrelated days no more than that + 2 se."""
    random = np.random.default_rng(10)
    level, weeks, alarms = 4 / 52.18, 0, 0
    for _ in range(12):
        walk = np.zeros(30 + 7 * 20)
        for t in range(1, len(walk)):
            walk[t] = 0.5 * walk[t - 1] + random.normal(0, 0.06)
        days = [DayOfLabels(i, 500, float(random.binomial(500, np.clip(0.3 + w, 0, 1)))) for i, w in enumerate(walk)]
        ordinary = days[:30]
        for week in range(20):
            window = days[30 + 7 * week : 37 + 7 * week]
            weeks += 1
            alarms += drifting.test_labels(window, ordinary, 0.3, 30 * 500, level, True).beyond
    assert alarms / weeks <= level + 2 * math.sqrt(level * (1 - level) / weeks)
