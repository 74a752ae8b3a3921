"""Tail probabilities of the chi-square, Student t and binomial laws, without scipy (the kernel is numpy only).

Accuracy: 1e-10 relative, for tails down to 1e-12; checked against scipy in the tests.
"""

from __future__ import annotations

import math
from collections.abc import Callable

_EPSILON = 1e-15
_MOST_TERMS = 10_000


def chi_square_tail(statistic: float, degrees: float) -> float:
    """P(X > statistic) of a chi-square variable; 1 for a statistic of 0 or below."""
    if statistic <= 0 or degrees <= 0:
        return 1.0
    a, x = degrees / 2, statistic / 2
    scale = math.exp(a * math.log(x) - x - math.lgamma(a))
    if x < a + 1:
        return max(0.0, 1.0 - scale * _gamma_series(a, x))
    return scale * _gamma_fraction(a, x)


def student_tail(t: float, degrees: float) -> float:
    """P(T > t) of Student's t."""
    half = beta_tail(degrees / 2, 0.5, degrees / (degrees + t * t)) / 2
    return half if t >= 0 else 1.0 - half


def student_quantile(tail: float, degrees: float) -> float:
    """The t that is exceeded with probability `tail` (0 < tail <= 0.5)."""
    if not 0 < tail <= 0.5:
        raise ValueError(f"tail must be in (0, 0.5], not {tail}")
    return _root(lambda t: student_tail(t, degrees) - tail)


def beta_tail(a: float, b: float, x: float) -> float:
    """The regularised incomplete beta function I_x(a, b): P(X <= x) of a beta variable."""
    if x <= 0:
        return 0.0
    if x >= 1:
        return 1.0
    log_scale = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    if x < (a + 1) / (a + b + 2):
        return math.exp(log_scale) * _beta_fraction(a, b, x) / a
    return 1.0 - math.exp(log_scale) * _beta_fraction(b, a, 1 - x) / b


def _root(falling: Callable[[float], float]) -> float:
    """The zero of a falling function on [0, inf), by doubling and bisection."""
    low, high = 0.0, 1.0
    while falling(high) > 0 and high < 1e12:
        low, high = high, high * 2
    for _ in range(200):
        middle = (low + high) / 2
        if falling(middle) > 0:
            low = middle
        else:
            high = middle
        if high - low <= 1e-12 * max(1.0, high):
            break
    return (low + high) / 2


def _gamma_series(a: float, x: float) -> float:
    term = total = 1.0 / a
    for n in range(1, _MOST_TERMS):
        term *= x / (a + n)
        total += term
        if term < total * _EPSILON:
            break
    return total


def _gamma_fraction(a: float, x: float) -> float:
    """Lentz's method for the continued fraction of the upper incomplete gamma function."""
    b = x + 1 - a
    c, d = 1e300, 1 / b
    value = d
    for i in range(1, _MOST_TERMS):
        step = -i * (i - a)
        b += 2
        d = 1 / _away_from_zero(step * d + b)
        c = _away_from_zero(b + step / c)
        value *= d * c
        if abs(d * c - 1) < _EPSILON:
            break
    return value


def _beta_fraction(a: float, b: float, x: float) -> float:
    """Lentz's method for the continued fraction of the incomplete beta function."""
    c, d = 1.0, 1 / _away_from_zero(1 - (a + b) * x / (a + 1))
    value = d
    for m in range(1, _MOST_TERMS):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for step in (even, odd):
            d = 1 / _away_from_zero(1 + step * d)
            c = _away_from_zero(1 + step / c)
            value *= d * c
        if abs(d * c - 1) < _EPSILON:
            break
    return value


def _away_from_zero(value: float) -> float:
    return value if abs(value) > 1e-300 else 1e-300
