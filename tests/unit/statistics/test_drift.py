"""The declared false-alarm rate holds on quiet streams; a real shift is found."""

import math

import numpy as np
import pytest
from millrace.statistics import drift

DAY_US = 86_400_000_000
BINS = 10
FEATURES = 4
BUDGET = 4.0


def days(random, count, rows, rho, effect):
    """Daily histograms of a feature whose daily mean is an AR(1) with standard deviation `effect`."""
    mean = np.zeros(count)
    mean[0] = random.normal()
    for t in range(1, count):
        mean[t] = rho * mean[t - 1] + math.sqrt(1 - rho**2) * random.normal()
    edges = np.quantile(
        np.random.default_rng(0).normal(size=4000) * math.sqrt(1 + effect**2), np.arange(1, BINS) / BINS
    )
    values = random.normal(size=(count, rows)) + effect * mean[:, None]
    index = np.searchsorted(edges, values.ravel()) + BINS * np.repeat(np.arange(count), rows)
    return np.bincount(index, minlength=count * BINS).reshape(count, BINS)


def firings(exceeds):
    """Alarms, counted as the monitor does: CONFIRMATIONS in a row fire, two quiet windows resolve."""
    count = run = quiet = 0
    is_firing = False
    for beyond in exceeds:
        run, quiet = (run + 1, 0) if beyond else (0, quiet + 1)
        if is_firing:
            is_firing = quiet < 2
        elif run >= drift.CONFIRMATIONS:
            is_firing, count = True, count + 1
    return count


def alarms_of_a_year(random, rho, effect):
    """Alarms of FEATURES quiet features in 365 days, each judged against its own month before."""
    level = drift.level_per_test(BUDGET, DAY_US, FEATURES)
    alarms = 0
    for _ in range(FEATURES):
        reference = days(random, 60, 200, rho, effect).sum(axis=0)
        scores = np.array([drift.score(reference, day) for day in days(random, 30 + 365, 200, rho, effect)])
        alarms += firings(scores[30:] > drift.threshold(scores[:30], level).value)
    return alarms


STREAMS = pytest.mark.parametrize(("rho", "effect"), [(0.0, 0.0), (0.0, 0.5), (0.7, 0.5)])


@STREAMS
def test_false_alarms_stay_within_the_budget(rho, effect):
    random = np.random.default_rng(11)
    years = 6
    per_year = [alarms_of_a_year(random, rho, effect) for _ in range(years)]
    standard_error = math.sqrt(BUDGET / years)  # firings are at most as frequent as a Poisson stream at the budget
    assert np.mean(per_year) <= BUDGET + 2 * standard_error


@pytest.mark.prove
@STREAMS
def test_the_measured_false_alarm_rate_stays_within_the_budget(rho, effect, proof_figures):
    seeds = 200
    per_year = [alarms_of_a_year(np.random.default_rng(seed), rho, effect) for seed in range(seeds)]
    rate, standard_error = float(np.mean(per_year)), float(np.std(per_year, ddof=1) / math.sqrt(seeds))
    proof_figures |= {
        "alarms_per_year": round(rate, 3),
        "standard_error": round(standard_error, 3),
        "budget": BUDGET,
        "years": seeds,
        "features": FEATURES,
    }
    print(f"rho {rho}, effect {effect}: {rate:.2f} ± {standard_error:.2f} false alarms a year of {BUDGET} allowed")
    assert rate <= BUDGET + 2 * standard_error


def test_a_shift_is_found_within_three_windows():
    random = np.random.default_rng(12)
    level = drift.level_per_test(BUDGET, DAY_US, 20)
    quiet = days(random, 60, 300, 0.3, 0.3)
    reference = quiet.sum(axis=0)
    bound = drift.threshold([drift.score(reference, day) for day in quiet], level).value
    shifted = days(random, 3, 300, 0.3, 0.3)[:, ::-1].copy()
    shifted[:, 5:] += shifted[:, :5]  # everything that was low is high
    shifted[:, :5] = 0
    assert firings([drift.score(reference, day) > bound for day in shifted]) == 1


def test_too_few_windows_never_alarm():
    assert drift.threshold([0.1] * 7, 0.01).value == math.inf


def test_level_shares_the_budget():
    assert drift.level_per_test(4, DAY_US, 10) == pytest.approx(4 / 3652.5)
    assert drift.level_per_test(4, 60 * DAY_US) == 0.2


def test_rates_are_widened_for_days_that_differ():
    random = np.random.default_rng(13)
    trials = np.full(60, 900)
    plain = random.binomial(900, 0.3, size=60)
    uneven = random.binomial(900, np.clip(random.normal(0.3, 0.1, size=60), 0, 1))
    assert drift.overdispersion(plain, trials) < 2
    assert drift.overdispersion(uneven, trials) > 20
    assert math.isnan(drift.overdispersion(plain[:5], trials[:5]))
    wide = drift.rate_statistic(6300 * 0.14, 6300, 0.32, 30_000, drift.overdispersion(uneven, trials))
    assert wide < -1.5
    assert abs(wide) < abs(drift.rate_statistic(6300 * 0.14, 6300, 0.32, 30_000, 1.0))
