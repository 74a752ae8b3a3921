"""The confidence sequence holds at every look, and closes in."""

import numpy as np
import pytest
from millrace.statistics import confidence_sequence


def test_no_peeking_penalty():
    """At 90 % at most 10 % (+ 2 standard errors) of fair streams are ever condemned, whenever one looks."""
    random = np.random.default_rng(5)
    streams, wrong = 200, 0
    for _ in range(streams):
        values = random.choice([-1.0, -0.2, 0.2, 1.0], size=800, p=[0.1, 0.4, 0.4, 0.1])
        wrong += confidence_sequence(values, -1, 1, 0.9).low > 0  # the running maximum: every look at once
    assert wrong / streams <= 0.1 + 2 * np.sqrt(0.1 * 0.9 / streams)


def test_a_real_difference_is_found():
    random = np.random.default_rng(6)
    values = np.clip(random.normal(0.15, 0.3, size=400), -1, 1)
    band = confidence_sequence(values, -1, 1, 0.99)
    assert 0 < band.low < 0.15 < band.high
    assert band.observations == 400


def test_edges():
    band = confidence_sequence([], -1, 1, 0.99)
    assert (band.low, band.high, band.observations) == (-1, 1, 0)
    with pytest.raises(ValueError, match="within"):
        confidence_sequence([2.0], -1, 1, 0.9)
    with pytest.raises(ValueError, match="confidence"):
        confidence_sequence([0.0], -1, 1, 1.0)
