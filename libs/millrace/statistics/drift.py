"""Alarms with a declared rate of false ones, on streams whose days resemble each other.

Rows of one window are not independent draws (a storm touches every order of its day), and windows follow each other
(weather lasts), so a textbook test against the reference alarms nearly every day. The null here is therefore measured
on the stream itself: a score per window (the distance from the reference) over a calibration period tells how far an
ordinary window lies, and how much one window resembles the next. The threshold is the upper prediction bound of the
next score (Student's t for the spread of so few windows), widened for autocorrelation by the effective number of
windows. The level per test comes from the declared false alarms per year, the tests per year, and the number of
features (Bonferroni). An alarm needs CONFIRMATIONS windows in a row beyond it: the tail of a score is heavier than any
law fitted to a few dozen windows, and one storm is not drift.

Simulated firings per year (budget 4, five features, daily windows, 8 to 60 calibration windows): independent windows
0.1; days with an effect of their own 0.8; AR(1) days with rho 0.7 2.1, with Student-t(3) days 3 to 6. At rho 0.9 with
30 windows or fewer it is 7 to 10: so slow a season cannot be told from drift within a month. A seeded sample runs in
tests/unit/statistics.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from millrace.statistics.distances import jensen_shannon
from millrace.statistics.tails import student_quantile

YEAR_US = 365_250_000 * 86_400
LEAST_WINDOWS = 8  # below this the spread of an ordinary window is not known well enough to bound its tail
CONFIRMATIONS = 2  # consecutive windows beyond the threshold that make an alarm
_STRONGEST_AUTOCORRELATION = 0.9


@dataclass(frozen=True, slots=True)
class Threshold:
    """When a score counts as drift. `value` is inf while there are fewer than LEAST_WINDOWS ordinary windows."""

    value: float
    level: float  # chance that an ordinary window exceeds it
    windows: int
    effective_windows: float
    autocorrelation: float


def level_per_test(false_alarms_per_year: float, window_us: int, features: int = 1) -> float:
    """The false-alarm probability that one test of one feature may have; at most 0.2."""
    tests = YEAR_US / window_us * max(1, features)
    return min(0.2, false_alarms_per_year / tests)


def score(reference: ArrayLike, current: ArrayLike) -> float:
    """The fourth root of the Jensen-Shannon divergence of counts over the same bins, in [0, 1].

    The divergence of ordinary windows is roughly a scaled chi-square; a root between the third (Wilson & Hilferty) and
    the fourth makes that nearly normal, which the bound below relies on. NaN when a side is empty.
    """
    return jensen_shannon(reference, current) ** 0.25


def threshold(scores: ArrayLike, level: float) -> Threshold:
    """The upper prediction bound of the next score at `level`, from the scores of ordinary windows in time order."""
    numbers = np.asarray(scores, dtype=np.float64)
    numbers = numbers[~np.isnan(numbers)]
    n = len(numbers)
    if n < LEAST_WINDOWS:
        return Threshold(math.inf, level, n, float(n), 0.0)
    rho = autocorrelation(numbers)
    effective = max(2.0, n * (1 - rho) / (1 + rho))
    centre = float(numbers.mean())
    # The upper half alone where it is the wider one: only that tail can raise an alarm. The sample variance misses what
    # the mean shares with autocorrelated windows: divide by 1 - 1/effective instead of Bessel's 1 - 1/n.
    upper = 2 * float((np.clip(numbers - centre, 0.0, None) ** 2).mean())
    variance = max(float(numbers.var()), upper) / (1 - 1 / effective)
    spread = math.sqrt(variance * (1 + 1 / effective))
    # A variance is learnt from more windows than a mean: its autocorrelation is the square (Bayley & Hammersley 1946).
    degrees = max(2.0, n * (1 - rho**2) / (1 + rho**2) - 1)
    bound = centre + student_quantile(level, degrees) * spread
    return Threshold(bound, level, n, effective, rho)


def autocorrelation(values: ArrayLike) -> float:
    """Lag-one autocorrelation, corrected for its small-sample bias (Kendall 1954: +(1 + 3 rho)/n), within [0, 0.9]."""
    numbers = np.asarray(values, dtype=np.float64)
    n = len(numbers)
    centred = numbers - numbers.mean()
    total = float((centred**2).sum())
    if n < 3 or total == 0:
        return 0.0
    raw = float((centred[1:] * centred[:-1]).sum()) / total
    return float(np.clip(raw + (1 + 3 * raw) / n, 0.0, _STRONGEST_AUTOCORRELATION))


def overdispersion(successes: ArrayLike, trials: ArrayLike) -> float:
    """How many times wider the day-to-day variance of a rate is than the binomial's: at least 1.

    From groups (days) of `trials` with `successes`: Pearson's chi-square over its degrees of freedom, times
    (1 + rho)/(1 - rho) for days that follow each other. NaN below LEAST_WINDOWS groups.
    """
    hits = np.asarray(successes, dtype=np.float64)
    rows = np.asarray(trials, dtype=np.float64)
    hits, rows = hits[rows > 0], rows[rows > 0]
    if len(rows) < LEAST_WINDOWS:
        return float("nan")
    rate = float(hits.sum() / rows.sum())
    if rate in (0.0, 1.0):
        return 1.0
    pearson = float(((hits - rows * rate) ** 2 / (rows * rate * (1 - rate))).sum()) / (len(rows) - 1)
    rho = autocorrelation(hits / rows)
    return max(1.0, pearson * (1 + rho) / (1 - rho))


def rate_statistic(
    successes: float, trials: float, reference_rate: float, reference_trials: float, dispersion: float
) -> float:
    """z of a rate against a reference rate, both random, with variances widened by `dispersion`; NaN when undefined."""
    if trials <= 0 or reference_trials <= 0:
        return float("nan")
    pooled = (successes + reference_rate * reference_trials) / (trials + reference_trials)
    variance = pooled * (1 - pooled) * dispersion * (1 / trials + 1 / reference_trials)
    if variance <= 0:
        return float("nan")
    return (successes / trials - reference_rate) / math.sqrt(variance)
