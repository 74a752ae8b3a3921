"""The sketches of `distinct` and `quantile`: within their stated error, and the same bytes for any order of merging."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from millrace.aggregates import DISTINCT_EXACT, Layout, hash_values
from millrace.definitions.model import Aggregate, Aggregation

DISTINCT = Layout((Aggregate("n", Aggregation.DISTINCT, "x"),))


def quantile(q: float) -> Layout:
    return Layout((Aggregate("q", Aggregation.QUANTILE, "x", q),))


def merged(layout: Layout, column: np.ndarray, splits: list[int], order: np.random.Generator | None = None):
    """The state of a column, merged part by part: the parts are cut at `splits` and taken in the order that `order`
    shuffles them into."""
    zeros = np.zeros(len(column), dtype=np.int64)
    lifted = layout.lift([column], zeros, zeros)
    places = np.arange(len(column)) if order is None else order.permutation(len(column))
    parts = [part for part in np.split(places, sorted(splits)) if len(part)]
    states = []
    for part in parts:
        state = layout.merge({name: rows[part] for name, rows in lifted.items()}, np.array([0]))
        states.append(state if len(part) > 1 else layout.merge(_doubled(state, layout), np.array([0])))
    while len(states) > 1:
        one, other = states.pop(), states.pop(0)
        pair = {name: np.concatenate((one[name], other[name])) for name in layout.names}
        states.append(layout.merge(pair, np.array([0])))
    return states[0]


def _doubled(state, layout: Layout):
    """A single event beside one of null, so that it is merged, and comes out at full width."""
    none = np.array([math.nan]) if layout is not DISTINCT else np.array([0], dtype=np.uint64)
    zero = np.zeros(1, dtype=np.int64)
    null = layout.lift([none], zero, zero)
    return {name: np.concatenate((state[name], null[name])) for name in layout.names}


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 3_000), st.integers(0, 2**32 - 1), st.data())
def test_distinct_is_the_same_bytes_for_any_order_of_merging(different, seed, data):
    rng = np.random.default_rng(seed)
    hashes = hash_values(rng.integers(0, different, size=different * 2).tolist())
    cuts = data.draw(st.lists(st.integers(0, len(hashes)), max_size=5))
    one, other = merged(DISTINCT, hashes, []), merged(DISTINCT, hashes, cuts, rng)
    for name in DISTINCT.names:
        np.testing.assert_array_equal(one[name], other[name])


@pytest.mark.parametrize("different", [1, 2, DISTINCT_EXACT - 1, DISTINCT_EXACT])
def test_distinct_is_exact_while_there_are_few(different):
    hashes = hash_values([str(i) for i in range(different)] * 2)
    assert DISTINCT.finish(merged(DISTINCT, hashes, [different // 3 + 1]))[0, 0] == different


def test_distinct_is_within_its_stated_error_beyond():
    """100 sets of each size: the spread of the estimates is HyperLogLog's 3.3 %, and they are not shifted."""
    for different in (DISTINCT_EXACT + 1, 1_000, 20_000):
        estimates = []
        for attempt in range(100):
            rng = np.random.default_rng(attempt)
            hashes = rng.integers(1, 2**64 - 1, size=different, dtype=np.uint64)
            estimates.append(DISTINCT.finish(merged(DISTINCT, hashes, [different // 2]))[0, 0])
        assert np.mean(estimates) == pytest.approx(different, rel=0.013)  # four standard errors of the mean
        assert np.std(estimates) / different < 0.042


numbers = st.one_of(
    st.floats(-1e12, 1e12, allow_nan=False), st.floats(1e-3, 1e3), st.integers(-50, 50).map(float), st.just(0.0)
)


@settings(max_examples=150, deadline=None)
@given(st.lists(numbers, min_size=1, max_size=400), st.integers(0, 2**32 - 1), st.data())
def test_quantiles_are_the_same_bytes_for_any_order_and_within_their_error(values, seed, data):
    q = data.draw(st.sampled_from([0.01, 0.25, 0.5, 0.9, 0.99]))
    cuts = data.draw(st.lists(st.integers(0, len(values)), max_size=5))
    layout, column = quantile(q), np.array(values)
    one, other = merged(layout, column, []), merged(layout, column, cuts, np.random.default_rng(seed))
    for name in layout.names:
        np.testing.assert_array_equal(one[name], other[name])
    exact = sorted(values)[math.floor(q * (len(values) - 1))]
    log_base = math.log(1.005 / 0.995) * 2 ** int(one["0.level"][0])
    assert layout.finish(one)[0, 0] == pytest.approx(exact, rel=math.tanh(log_base / 2) * 1.0001)


@pytest.mark.parametrize(("factor", "error"), [(100, 0.02), (10_000, 0.04), (1e6, 0.08)])
def test_quantiles_keep_the_error_that_is_stated_for_their_range(factor, error):
    values = np.exp(np.random.default_rng(5).uniform(0, math.log(factor), size=50_000))
    for q in (0.05, 0.5, 0.95):
        layout = quantile(q)
        exact = np.sort(values)[math.floor(q * (len(values) - 1))]
        assert layout.finish(merged(layout, values, [10_000, 30_000]))[0, 0] == pytest.approx(exact, rel=error)


def test_nothing_has_no_quantile():
    layout = quantile(0.5)
    assert math.isnan(layout.finish(merged(layout, np.array([math.nan, math.nan]), []))[0, 0])
