"""Point-in-time reading against a reference of some twenty lines, on histories made to be difficult.

Ties, duplicates, late events, events from the future, nulls, and moments at the very edges of TTL, windows, hops and
visible times, to the microsecond; as known at the moment and as it happened. Counted in cells: one cell is one feature
of one entity at one moment, its value, status and age.
"""

import math
from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from millrace.aggregates import NEVER_US

from services.feature_store.adapters.timeline_arrow import Timeline
from services.feature_store.domain.answers import Judged, judge, read_rows
from services.feature_store.domain.online import Events, new_rows
from services.feature_store.domain.pointintime import History, read_history
from services.feature_store.domain.values import Status
from services.feature_store.domain.views import MOST_PARTITIONS, CompiledView
from services.feature_store.handlers.schemas import timeline_schema
from services.feature_store.ports import Question
from tests.unit.feature_store.reference import Row, expected, is_same
from tests.unit.feature_store.world import HOUR_US, MINUTE_US, START_US, shop

VIEWS = [CompiledView(view, HOUR_US) for view in shop().views]
SCHEMAS = {s.name: timeline_schema([(f.name, f.type.value) for f in s.fields]) for s in shop().sources}
FOREVER_US = 2**60
NOTHING = (None, Status.MISSING, -1, 0.0)
CUSTOMERS = ("ann", "ann", "ann", "bob", None)
# Distances that matter: TTLs of two days and five hours, windows of one and three hours, hops of ten minutes.
EDGES_US = (48 * HOUR_US, 5 * HOUR_US, 3 * HOUR_US, HOUR_US, HOUR_US, 10 * MINUTE_US, 10 * MINUTE_US, 0, 0)


def from_history(view, rows, keys, moments_us, happened):
    """As historical reads and the consistency check have it."""
    columns = (np.array([getattr(r, n) for r in rows], dtype=np.int64) for n in
               ("event_us", "visible_us", "offset", "partition"))  # fmt: skip
    history = History([r.values for r in rows], *columns)
    return judge(view, read_history(view, keys, np.array(moments_us, dtype=np.int64), history, as_happened=happened))


def from_timeline(view, rows, keys, moments_us, happened) -> list[list]:
    """As training sets have it: values alone, row by row. The events come in two pieces, the second with late ones."""
    timeline = Timeline(view)
    for piece in (rows[: len(rows) // 2], rows[len(rows) // 2 :]):
        timeline.add(
            pa.Table.from_pylist(
                [
                    {
                        **r.values,
                        "_event_us": r.event_us,
                        "_visible_us": r.visible_us,
                        "_seq": r.offset * MOST_PARTITIONS + r.partition,
                        "_identity": r.offset * 7919 % 97,
                    }
                    for r in piece
                ],
                schema=SCHEMAS[view.view.source],
            )
        )
        timeline.seal()
    columns = tuple(range(len(view.view.columns)))
    moments = np.array(moments_us, dtype=np.int64)
    told = timeline.read(Question(columns, pa.array(keys, pa.string()), moments, happened, FOREVER_US))
    return list(map(list, zip(*(column.to_pylist() for column in told.columns), strict=True)))


def from_rows(view, rows, keys, at_us):
    """As online reads have it: every partition has applied what was visible by `at_us`, in the order of its offsets."""
    packed = []
    for partition in (0, 1):
        mine = sorted((r for r in rows if r.partition == partition and r.visible_us <= at_us), key=lambda r: r.offset)
        columns = (np.array([getattr(r, n) for r in mine], dtype=np.int64) for n in
                   ("event_us", "visible_us", "offset"))  # fmt: skip
        events = Events([r.values for r in mine], [str(r.offset) for r in mine], *columns, partition)
        chosen = view.select(events.rows)
        held: dict[str, bytes | None] = dict.fromkeys(chosen.entities)
        held |= new_rows(view, events, chosen, held)
        packed.append(held)
    return judge(view, read_rows(view, [[held.get(key) for held in packed] for key in keys], at_us))


texts = st.sampled_from(["c0", "c1", None])
numbers = st.one_of(st.none(), st.integers(-5, 5).map(float), st.floats(-1e6, 1e6, allow_nan=False, width=32))
near = st.integers(-1, 1)
distances = st.builds(lambda edge, off: edge + off, st.sampled_from(EDGES_US), near)
instants = st.builds(lambda n, d: START_US + n * 10 * MINUTE_US - d, st.integers(0, 3), distances)
# Visible before it happened (from the future), at once, a microsecond later, late by an edge.
delays = st.one_of(st.integers(-2, 2), st.just(-HOUR_US), distances)
rows_of = st.lists(
    st.tuples(st.sampled_from(CUSTOMERS), texts, numbers, instants, delays, st.integers(0, 1), st.integers(1, 2)),
    min_size=2,
    max_size=16,
)
spines = st.lists(
    st.tuples(st.sampled_from(("ann", "bob", "eve")), texts, st.integers(0, 20), distances, near), max_size=10
)


def made(drawn) -> list[Row]:
    """Rows of both sources at once; the last of each tuple says how often the row came. Offsets grow with visible
    time within a partition, as the log has it."""
    rows = []
    for customer, channel, number, at_us, delay_us, partition, times in drawn:
        values = {
            "order_id": customer, "customer": customer, "channel": channel, "amount": number, "delay": number,
            "express": None if number is None else number > 0, "placed_at": None if number == 3 else at_us,
        }  # fmt: skip
        rows += [(values, at_us, at_us + delay_us, partition)] * times
    rows.sort(key=lambda row: row[2])
    return [Row(v, e, s, offset, p) for offset, (v, e, s, p) in enumerate(rows)]


def compare(examples: int, start: int) -> Counter[str]:
    """Runs Hypothesis; returns how many cells were compared, by mode and status. Raises at the first that differs."""
    counted: Counter[str] = Counter()

    @seed(start)
    @settings(
        max_examples=examples, deadline=None, database=None, phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(rows_of, spines)
    def run(drawn, asked):
        rows = made(drawn)
        # Moments lie a TTL, a window or a hop from an event of the history, or from where it became visible.
        anchors = [t for row in rows for t in (row.event_us, row.visible_us)] or [START_US]
        moments = [anchors[n % len(anchors)] + d + off for _, _, n, d, off in asked]
        for view in VIEWS:
            keys = [key_in(view, who, channel) for who, channel, *_ in asked]
            for happened, mode in ((False, "as known"), (True, "as happened")):
                wanted = reference(view, rows, keys, moments, happened)
                counted.update(compared(mode, view, wanted, cells(from_history(view, rows, keys, moments, happened))))
                told = from_timeline(view, rows, keys, moments, happened)
                # There a row whose own key is not known has no features, and a value is all that a cell has.
                silent = [[NOTHING] * len(row) if key is None else row for key, row in zip(keys, wanted, strict=True)]
                cut = [[(value, *w[1:3]) for value, w in zip(*pair, strict=True)]
                       for pair in zip(told, silent, strict=True)]  # fmt: skip
                counted.update(compared(f"training {mode}", view, silent, cut))
            past = [r for r in rows if r.visible_us > r.event_us]  # what ingestion stamps
            for key, at_us in zip(keys, moments, strict=True):
                if key is not None:
                    wanted = reference(view, past, [key], [at_us], False)
                    counted.update(compared("online", view, wanted, cells(from_rows(view, past, [key], at_us))))

    run()
    return counted


def key_in(view: CompiledView, who: str, channel: str | None) -> str | None:
    if len(view.view.entity_fields) == 1:
        return who
    return None if channel is None else f"{who}|{channel}"


def reference(view, rows, keys, moments, happened) -> list[list[tuple]]:
    """(value, status, age, size of what went into it) by row and column."""
    scale = math.fsum(abs(r.values["delay"] or 0.0) for r in rows)
    return [
        [(*cell, scale) for cell in expected(view, rows, key, at_us, happened)]
        for key, at_us in zip(keys, moments, strict=True)
    ]


def cells(judged: Judged) -> list[list[tuple]]:
    """(value, status, age) by row and column."""
    columns = [judged.column(c) for c in range(len(judged.status))]
    return [[(c.values[n], int(c.status[n]), int(c.age_us[n])) for c in columns] for n in range(judged.status.shape[1])]


def compared(mode: str, view: CompiledView, wanted: list[list[tuple]], actual: list[list[tuple]]) -> Counter[str]:
    """How many cells of which status. Raises at the first that differs."""
    counted: Counter[str] = Counter()
    for theirs, mine in zip(wanted, actual, strict=True):
        for column, (*expects, scale) in enumerate(theirs):
            same = is_same(view, column, mine[column], tuple(expects), scale)
            assert same, (mode, view.view.columns[column], mine[column], expects)
            counted[mode] += 1
            counted[f"{mode} {Status(expects[1]).name}"] += 1
    return counted


def assert_telling(counted: Counter[str], least: int) -> None:
    """Enough cells, of each kind."""
    modes = ("as known", "as happened", "training as known", "training as happened")
    assert all(counted[mode] >= least for mode in modes)
    for mode in (*modes, "online"):
        assert all(counted[f"{mode} {status.name}"] > least / 50 for status in Status), counted


def test_no_cell_differs_from_the_reference():
    assert_telling(compare(150, 2013), 10_000)


@pytest.mark.prove
@pytest.mark.parametrize("start", range(4))
def test_no_cell_of_a_hundred_thousand_differs_from_the_reference(start, proof_figures):
    counted = compare(1_500, start)
    proof_figures |= {"cells": dict(sorted(counted.items())), "differing": 0}
    assert_telling(counted, 100_000)


def test_never_is_before_everything():
    """The reference says -1 where nothing was heard; the kernel's own mark must not leak into an age."""
    judged = from_history(VIEWS[0], [], ["ann"], [START_US], False)
    assert judged.age_us.tolist() == [-1]
    assert NEVER_US < 0
