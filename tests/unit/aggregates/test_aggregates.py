"""Aggregates, packed rows and point-in-time reading against the naive oracle, on generated histories."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from millrace.aggregates import (
    NEVER_US,
    Events,
    Layout,
    RowError,
    hash_value,
    hash_values,
    latest_index,
    merge_rows,
    read_windows,
    window_values,
)
from millrace.aggregates.rows import Lifted
from millrace.definitions.model import Aggregate, Aggregation

from tests.unit.aggregates import oracle

ARGUMENTS = {Aggregation.QUANTILE: 0.75, Aggregation.LAST_K: 3}
AGGREGATES = (
    Aggregate("events", Aggregation.COUNT),
    *(Aggregate(f.value, f, "x", ARGUMENTS.get(f, 0.0)) for f in Aggregation),
)
# One per number: the aggregate, and which of its numbers it is (the k-th newest of last_k).
OUTPUTS = [(a, place) for a in AGGREGATES for place in range(1, len(a.outputs) + 1)]
EXACT = {"events", "count", "min", "max", "first", "last", "last_k", "distinct"}
HOP_US, WINDOWS_US = 10, (20, 37, 100)

# Few entities and narrow times, so that ties, duplicates, window edges and late events are common.
numbers = st.one_of(st.none(), st.integers(-5, 5).map(float), st.floats(-1e6, 1e6, allow_nan=False))
events = st.lists(st.tuples(st.integers(0, 2), st.integers(-60, 150), st.integers(-20, 90), numbers), max_size=40).map(
    lambda rows: [oracle.Event(e, t, t + late, seq, v) for seq, (e, t, late, v) in enumerate(rows)]
)
moments = st.lists(st.tuples(st.integers(-1, 3), st.integers(-50, 260)), min_size=1, max_size=20)


def columns(history: list[oracle.Event], aggregates=AGGREGATES) -> tuple[Events, list[np.ndarray | None]]:
    """A history as the kernel takes it."""
    table = Events(*(np.array([getattr(e, n) for e in history], dtype=np.int64) for n in
                     ("entity", "event_us", "visible_us", "seq")))  # fmt: skip
    number = np.array([math.nan if e.value is None else e.value for e in history], dtype=np.float64)
    hashes = hash_values(e.value for e in history)
    per_aggregate = [
        None if not a.expression else hashes if a.function is Aggregation.DISTINCT else number for a in aggregates
    ]
    return table, per_aggregate


def assert_same(name: str, actual: float, expected: float, scale: float) -> None:
    """Integers and picked values exactly; sums to 1e-9 of the largest magnitude that went in."""
    if math.isnan(expected) or name in EXACT:
        assert (math.isnan(actual) and math.isnan(expected)) or actual == expected, name
    elif name == "quantile":
        assert actual == pytest.approx(expected, rel=0.011)  # up to 40 different values never collapse twice
    else:
        # A deviation that is exactly zero comes back as the square root of what rounding left of its square.
        tolerance = 1e-9 * max(scale, 1.0) if name != "std" else max(1e-9 * abs(expected), 3e-8 * scale)
        assert actual == pytest.approx(expected, rel=1e-9, abs=tolerance), name


def expect(history, entity, at_us, window_us, as_happened=False) -> tuple[list[float], float]:
    inside = oracle.window(history, entity, at_us, window_us, HOP_US, as_happened)
    scale = math.fsum(abs(e.value) for e in inside if e.value is not None)
    return [
        oracle.aggregate(
            a.function.value,
            inside,
            argument=place if a.function is Aggregation.LAST_K else a.argument,
            whole_events=not a.expression,
        )
        for a, place in OUTPUTS
    ], scale


@settings(max_examples=150, deadline=None)
@given(events, moments, st.booleans(), st.sampled_from([1, 7, 10_000]))
def test_window_values_equal_the_oracle(history, spine, as_happened, chunk_pairs):
    table, values = columns(history)
    entity, at_us = (np.array(c, dtype=np.int64) for c in zip(*spine, strict=True))
    actual = window_values(
        entity, at_us, table, values, AGGREGATES, WINDOWS_US, HOP_US, as_happened=as_happened, chunk_pairs=chunk_pairs
    )
    assert actual.shape == (len(OUTPUTS), len(WINDOWS_US), len(spine))
    for n, (code, moment) in enumerate(spine):
        for w, window_us in enumerate(WINDOWS_US):
            expected, scale = expect(history, code, moment, window_us, as_happened)
            for a, (aggregate, _) in enumerate(OUTPUTS):
                assert_same(aggregate.name, actual[a, w, n], expected[a], scale)


@settings(max_examples=200, deadline=None)
@given(events, moments, st.booleans())
def test_latest_index_equals_the_oracle(history, spine, as_happened):
    table, _ = columns(history)
    entity, at_us = (np.array(c, dtype=np.int64) for c in zip(*spine, strict=True))
    found = latest_index(entity, at_us, table, as_happened=as_happened)
    for (code, moment), index in zip(spine, found.tolist(), strict=True):
        seen = oracle.known(history, code, moment, as_happened)
        assert index == (seen[-1].seq if seen else -1)


@settings(max_examples=150, deadline=None)
@given(events, st.data())
def test_tiles_equal_the_naive_aggregates_for_any_split_order_and_partition(history, data):
    """The online path: events arrive in any order, in any batches, over two partitions, and are read as tiles."""
    layout = Layout(AGGREGATES)
    arrivals = data.draw(st.permutations(history))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(arrivals)), max_size=4)))
    rows: list[list[bytes | None]] = [[None] * 3, [None] * 3]
    for begin, end in zip([0, *cuts], [*cuts, len(arrivals)], strict=True):
        for partition in (0, 1):
            batch = [e for e in arrivals[begin:end] if e.seq % 2 == partition]
            table, values = columns(batch)
            lifted = Lifted(table.entity, table.event_us, layout.lift(values, table.event_us, table.seq))
            rows[partition] = list(merge_rows(layout, rows[partition], lifted, hop_us=HOP_US, keep_from_us=NEVER_US))
    at_us = 151
    values, newest = read_windows(
        layout, list(zip(*rows, strict=True)), at_us=at_us, windows_us=WINDOWS_US, hop_us=HOP_US
    )
    for entity in range(3):
        seen = oracle.known(history, entity, at_us, True)
        assert newest[entity] == (seen[-1].event_us if seen else NEVER_US)
        for w, window_us in enumerate(WINDOWS_US):
            expected, scale = expect(history, entity, at_us, window_us, True)
            for a, (aggregate, _) in enumerate(OUTPUTS):
                assert_same(aggregate.name, values[a, w, entity], expected[a], scale)


def lifted(layout: Layout, times: list[int], number: float = 1.0) -> Lifted:
    table, values = columns([oracle.Event(0, t, t, i, number) for i, t in enumerate(times)], layout.aggregates)
    return Lifted(table.entity, table.event_us, layout.lift(values, table.event_us, table.seq))


def test_old_tiles_are_dropped_and_the_newest_event_is_remembered():
    layout = Layout([a for a in AGGREGATES if a.function not in (Aggregation.DISTINCT, Aggregation.QUANTILE)])
    [row] = merge_rows(layout, [None], lifted(layout, [5, 15, 25]), hop_us=HOP_US, keep_from_us=NEVER_US)
    [pruned] = merge_rows(layout, [row], lifted(layout, []), hop_us=HOP_US, keep_from_us=20)
    assert len(row) - len(pruned) == 2 * layout.dtype.itemsize
    [empty] = merge_rows(layout, [row], lifted(layout, []), hop_us=HOP_US, keep_from_us=1_000)
    values, newest = read_windows(layout, [[empty]], at_us=1_000, windows_us=(100,), hop_us=HOP_US)
    assert newest.tolist() == [25]
    assert values[0, 0, 0] == 0


def test_rows_of_another_layout_or_cut_short_are_refused():
    layout = Layout(AGGREGATES)
    [row] = merge_rows(layout, [None], lifted(layout, [5]), hop_us=HOP_US, keep_from_us=NEVER_US)
    for bad in (row[:-1], row[:7], b"\x09" + row[1:]):
        with pytest.raises(RowError):
            read_windows(layout, [[bad]], at_us=9, windows_us=(10,), hop_us=HOP_US)
    with pytest.raises(RowError):
        read_windows(Layout(AGGREGATES[:2]), [[row]], at_us=9, windows_us=(10,), hop_us=HOP_US)


def test_std_keeps_its_digits_far_from_zero():
    """Where sums of squares would lose every digit."""
    layout = Layout((Aggregate("std", Aggregation.STD, "x"),))
    number = np.array([1e9 + d for d in (4.0, 7.0, 13.0, 16.0)])
    zeros = np.zeros(4, dtype=np.int64)
    tiles = layout.merge(layout.lift([number], zeros, zeros), np.array([0, 2]))
    assert layout.finish(layout.merge(tiles, np.array([0])))[0, 0] == pytest.approx(math.sqrt(22.5), rel=1e-12)


def test_hashes_are_the_same_everywhere():
    assert hash_value("UA") == hash_value("U" + "A") != hash_value("AA")
    assert hash_value(1) == hash_value(1.0) == hash_value(True)
    assert hash_value(0.0) == hash_value(-0.0)
    assert hash_value(None) == hash_value(math.nan) == 0
    assert hash_value("1") != hash_value(1)
    assert hash_value("UA") == 14_627_368_944_168_601_601  # kept in stores: may never change
