"""Every aggregate of the table against the plain formula: streams cut into tiles and merged in random trees.

A window is what a read merges: tiles by hop, each the merge of batches, each of events, in any order and grouping. The
table decides what is tested, so an aggregate that is added is tested, or fails for want of a formula.
"""

import itertools
import math
import random
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
from millrace.aggregates import Layout, hash_values
from millrace.aggregates.kernels import KERNELS
from millrace.aggregates.rows import Lifted, merge_rows, read_windows
from millrace.definitions.model import Aggregate, Aggregation

from tests.unit.aggregates import oracle
from tests.unit.aggregates.test_aggregates import ARGUMENTS

EVENTS = 400
HOP_US = 50
# Relative error that is stated: of the answer, or (sums) of the magnitudes that went in. The others are exact.
OF_SUMS = {Aggregation.SUM: 1e-9, Aggregation.MEAN: 1e-9}
ROUNDING = 2e-15  # of the greatest value: what a deviation far from zero, or of nearly nothing, keeps of its digits
ARGUMENT_CHOICES = {Aggregation.QUANTILE: (0.0, 0.01, 0.25, 0.5, 0.9, 1.0), Aggregation.LAST_K: (1, 2, 7)}
STREAMS: dict[str, Callable[[random.Random], float | None]] = {
    "whole": lambda r: float(r.randrange(-5, 6)),
    "wide": lambda r: r.uniform(-1e6, 1e6),
    "skewed": lambda r: math.exp(r.gauss(0, 2)),
    "far from zero": lambda r: 1e9 + r.random(),
    "all equal": lambda r: 0.1,
    "mostly null": lambda r: None if r.random() < 0.9 else r.gauss(0, 1),
    "null": lambda r: None,
}


def stream(seeded: random.Random, draw: Callable[[random.Random], float | None]) -> list[oracle.Event]:
    """Events of one entity in the order of arrival; times repeat, so that ties are common."""
    return [
        oracle.Event(0, seeded.randrange(1_000), 0, seq, draw(seeded)) for seq in range(seeded.randrange(1, EVENTS))
    ]


def merged(layout: Layout, events: list[oracle.Event], seeded: random.Random):
    """The state of all events, by tiles, batches and random pairs of what is left."""
    aggregate = layout.aggregates[0]
    column = (
        hash_values(e.value for e in events)
        if aggregate.function is Aggregation.DISTINCT
        else np.array([math.nan if e.value is None else e.value for e in events])
    )
    times = np.array([e.event_us for e in events], dtype=np.int64)
    lifted = layout.lift([column], times, np.array([e.seq for e in events], dtype=np.int64))
    batches: dict[tuple[int, int], list[int]] = {}
    for place, event in enumerate(events):
        batches.setdefault((event.event_us // HOP_US, seeded.randrange(3)), []).append(place)
    order = [place for batch in batches.values() for place in seeded.sample(batch, len(batch))]
    starts = np.cumsum([0, *(len(batch) for batch in batches.values())])[:-1]
    state = widened(layout, layout.merge({name: rows[order] for name, rows in lifted.items()}, starts))
    while (size := len(state[layout.names[0]])) > 1:
        places = seeded.sample(range(size), size)
        cuts = sorted({0, *(seeded.randrange(size) for _ in range(seeded.randrange(1, 6)))})
        state = layout.merge({name: rows[places] for name, rows in state.items()}, np.array(cuts))
    return state


def widened(layout: Layout, state):
    """States of single events are one cell wide; those of tiles have their full width."""
    from millrace.aggregates.layout import widened as wide

    return {name: wide(layout.columns[name], rows) for name, rows in state.items()}


def error_of(aggregate: Aggregate, state) -> float:
    """The relative error that a sketch states for what is in it."""
    if aggregate.function is Aggregation.QUANTILE:
        return math.tanh(math.log(1.005 / 0.995) * 2 ** int(state["0.level"][0]) / 2) * 1.0001
    if aggregate.function is Aggregation.DISTINCT and state["0.dense"][0]:
        return 5 * 1.04 / 32  # five standard errors of 1,024 registers
    return 0.0


def compare(function: Aggregation, name: str, seed: int) -> int:
    """One stream; returns how many numbers were compared."""
    seeded = random.Random(f"{function} {name} {seed}")
    argument = float(seeded.choice(ARGUMENT_CHOICES.get(function, (ARGUMENTS.get(function, 0.0),))))
    aggregate = Aggregate("a", function, "x", argument)
    layout = Layout((aggregate,))
    events = stream(seeded, STREAMS[name])
    state = merged(layout, events, seeded)
    in_order = sorted(events, key=lambda e: (e.event_us, e.seq))
    scale = math.fsum(abs(e.value) for e in events if e.value is not None)
    finished = layout.finish(state)[:, 0]
    for place, actual in enumerate(finished.tolist(), start=1):
        wanted = oracle.aggregate(
            function.value, in_order, argument=place if function is Aggregation.LAST_K else argument
        )
        slack = OF_SUMS.get(function, 0.0) * scale
        if function is Aggregation.STD:
            slack = ROUNDING * max((abs(e.value) for e in events if e.value is not None), default=0.0)
        relative = error_of(aggregate, state) or (1e-9 if slack else 0.0)
        both_null = math.isnan(actual) and math.isnan(wanted)
        assert both_null or math.isclose(actual, wanted, rel_tol=relative, abs_tol=slack), (aggregate, actual, wanted)
    return len(finished)


@pytest.mark.parametrize("function", KERNELS, ids=str)
def test_tiles_merged_in_any_order_equal_the_plain_formula(function):
    for seed in range(4):
        for name in STREAMS:
            compare(function, name, seed)


@pytest.mark.prove
@pytest.mark.parametrize("function", KERNELS, ids=str)
def test_a_thousand_streams_merged_in_any_order_equal_the_plain_formula(function, proof_figures):
    counted = Counter({name: sum(compare(function, name, seed) for seed in range(150)) for name in STREAMS})
    proof_figures |= {"numbers_compared": counted.total(), "by_stream": dict(counted), "differing": 0}


def test_a_kernel_that_is_wrong_is_noticed():
    """One per cent off, and the comparison fails for every aggregate that has numbers to be wrong about."""
    for function in (Aggregation.SUM, Aggregation.MEAN, Aggregation.MAX, Aggregation.LAST):
        layout = Layout((Aggregate("a", function, "x"),))
        events = stream(random.Random(5), STREAMS["skewed"])
        off = [oracle.Event(e.entity, e.event_us, 0, e.seq, e.value and e.value * 1.01) for e in events]
        wanted = oracle.aggregate(function.value, sorted(events, key=lambda e: (e.event_us, e.seq)))
        assert not math.isclose(layout.finish(merged(layout, off, random.Random(6)))[0, 0], wanted, rel_tol=1e-3)


@pytest.mark.parametrize("function", KERNELS, ids=str)
@pytest.mark.parametrize("owners", [3, 40])
def test_packed_rows_are_the_same_to_the_bit_however_their_events_were_cut_into_batches(function, owners):
    """With few entities and with many: long groups are added up in another loop than short ones."""
    seeded = random.Random(f"{function} {owners}")
    aggregate = Aggregate("a", function, "x", float(ARGUMENTS.get(function, 0.0)))
    layout = Layout((aggregate,))
    draw = (*STREAMS.values(), lambda r: -0.0, lambda r: 0.0, lambda r: r.choice((-1e200, 1e200)))
    events = [
        (min(int(seeded.paretovariate(0.6)) - 1, owners - 1), seeded.randrange(1_000), seeded.choice(draw)(seeded))
        for _ in range(4 * EVENTS)
    ]
    whole = packed(layout, events, owners, [0])
    for _ in range(3):
        cuts = sorted({0, *(seeded.randrange(len(events)) for _ in range(30)), *range(40)})
        assert packed(layout, events, owners, cuts) == whole
    assert all(row is not None for row in whole)


def test_a_null_beside_a_value_whose_square_is_no_number_changes_nothing():
    layout = Layout((Aggregate("a", Aggregation.STD, "x"),))
    for values in ([1e200, None], [None, 1e200], [1e200, None, 1e200]):
        rows = packed(layout, [(0, 5, value) for value in values], 1, [0])
        finished, _ = read_windows(layout, [rows], at_us=50, windows_us=[50], hop_us=HOP_US)
        assert finished[0, 0, 0] == 0.0


def packed(layout: Layout, events, owners: int, cuts) -> list[bytes | None]:
    """Rows of `owners` entities after `events` of (owner, time, value), cut before each of `cuts`."""
    rows: list[bytes | None] = [None] * owners
    edges = [*cuts, len(events)]
    for begin, end in itertools.pairwise(edges):
        owner, times, values = zip(*events[begin:end], strict=True)
        column = (
            hash_values(values)
            if layout.aggregates[0].function is Aggregation.DISTINCT
            else np.array([math.nan if value is None else value for value in values])
        )
        times_us = np.array(times, dtype=np.int64)
        state = layout.lift([column], times_us, np.arange(begin, end))
        new = Lifted(np.array(owner, dtype=np.int64), times_us, state)
        rows = list(merge_rows(layout, rows, new, hop_us=HOP_US, keep_from_us=0))
    return rows
