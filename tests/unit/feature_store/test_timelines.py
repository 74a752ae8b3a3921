"""Timelines against the row-by-row reading of history: equal cells whatever the order in which events arrive."""

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from millrace.aggregates import Events, latest_index
from millrace.definitions.model import Aggregate, Aggregation, View

from services.feature_store.adapters.reader_thread import read_table
from services.feature_store.adapters.timeline_arrow import Timeline
from services.feature_store.domain.answers import judge
from services.feature_store.domain.timelines import NewestIndex
from services.feature_store.domain.views import MOST_PARTITIONS, CompiledView
from services.feature_store.handlers.schemas import history_schema, timeline_schema
from services.feature_store.ports import Question

FIELDS = (("key", "string"), ("size", "number"), ("count", "integer"), ("flag", "boolean"), ("kind", "string"))
FOREVER_US = 2**60
TTL_US = 10
LATEST = View("state", 1, "things", "key", latest=("size", "count", "flag", "kind"), ttl_us=TTL_US)
DERIVED = View("made", 1, "things", "key", latest=("kind",), derive=(("twice", "size * 2"),), where="count > 0")
WINDOWED = View(
    "sums",
    1,
    "things",
    "key",
    aggregates=tuple(
        Aggregate(function.value, function, expression)
        for function, expression in (
            (Aggregation.COUNT, ""),
            (Aggregation.COUNT, "kind"),
            (Aggregation.SUM, "count"),
            (Aggregation.MEAN, "size + 1"),
            (Aggregation.STD, "size"),
            (Aggregation.MIN, "size"),
            (Aggregation.MAX, "count"),
            (Aggregation.LAST, "size"),
            (Aggregation.DISTINCT, "kind"),
        )
    ),
    windows_us=(4, 12),
    hop_us=2,
    where="flag != null",
)
VIEWS = (
    LATEST,
    replace(LATEST, ttl_us=0),
    DERIVED,
    WINDOWED,
    replace(WINDOWED, ttl_us=TTL_US),
    replace(WINDOWED, where="", entity="count"),
)


@dataclass(frozen=True)
class Case:
    """A history in the order of arrival, cut into pieces, and what is asked of it."""

    rows: list[dict]
    cuts: list[int]
    keys: list[str | None]
    moments: list[int]
    bound_us: int


def some(values):
    return st.one_of(st.none(), values)


@st.composite
def cases(draw) -> Case:
    """Few entities and few times: ties, late and future events, nulls and TTL edges are the rule."""
    size = draw(st.integers(0, 25))
    rows = []
    for offset in range(size):
        event_us = draw(st.integers(0, 30))
        rows.append(
            {
                "_event_us": event_us,
                "_visible_us": max(0, event_us + draw(st.integers(-3, 15))),
                "_partition": draw(st.integers(0, 2)),
                "_offset": offset,
                "_event_id": f"e{offset}",
                "_via": "",
                "key": draw(some(st.sampled_from(["1", "2", "x"]))),
                "size": draw(some(st.integers(-4, 4).map(lambda n: n / 2))),
                "count": draw(some(st.integers(-1, 2))),
                "flag": draw(some(st.booleans())),
                "kind": draw(some(st.sampled_from(["", "a", "b"]))),
            }
        )
    asked = draw(
        st.lists(st.tuples(some(st.sampled_from(["1", "2", "x", "unheard"])), st.integers(0, 45)), max_size=12)
    )
    return Case(
        rows,
        sorted(draw(st.lists(st.integers(0, size), max_size=3))),
        [key for key, _ in asked],
        [moment for _, moment in asked],
        draw(st.sampled_from([FOREVER_US, FOREVER_US, 20, 5])),
    )


def reference(view: CompiledView, case: Case, as_happened: bool) -> list[list]:
    """What the row-by-row reading says, column by column; None where there is nothing to say."""
    known = [row for row in case.rows if row["_visible_us"] <= case.bound_us]
    events = pa.Table.from_pylist(known, schema=history_schema(FIELDS))
    reading = read_table(view, list(case.keys), column(case.moments), events, as_happened)
    places = np.array([-1 if key is None else i for i, key in enumerate(case.keys)], dtype=np.int64)
    judged = judge(view, reading).at(places)
    return [[None if v is None or v != v else v for v in row.tolist()] for row in judged.values]


def column(values) -> np.ndarray:
    return np.array(values, dtype=np.int64)


def pieces(case: Case) -> list[pa.Table]:
    edges = [0, *case.cuts, len(case.rows)]
    rows = [
        {
            **row,
            "_seq": row["_offset"] * MOST_PARTITIONS + row["_partition"],
            "_identity": (row["_offset"] * 7919) % 97,
        }
        for row in case.rows
    ]
    return [pa.Table.from_pylist(rows[a:b], schema=timeline_schema(FIELDS)) for a, b in pairwise(edges)]


def asked(view: View, case: Case, as_happened: bool) -> Question:
    columns = tuple(range(len(view.columns)))
    return Question(columns, pa.array(case.keys, pa.string()), column(case.moments), as_happened, case.bound_us)


@pytest.mark.parametrize("view", VIEWS, ids=lambda v: f"{v.name}-{v.ttl_us}-{v.entity}")
@settings(max_examples=40, deadline=None)
@given(case=cases(), as_happened=st.booleans(), at_once=st.booleans())
def test_a_timeline_says_what_the_rows_say(view: View, case: Case, as_happened: bool, at_once: bool):
    compiled = CompiledView(view, 0)
    timeline = Timeline(compiled)
    for piece in pieces(case):
        timeline.add(piece)
        if not at_once:
            timeline.seal()
            timeline.read(asked(view, case, as_happened))  # what is asked in between changes nothing
    timeline.seal()
    told = timeline.read(asked(view, case, as_happened))
    expected = reference(compiled, case, as_happened)
    for name, mine, theirs in zip(view.columns, told.columns, expected, strict=True):
        for a, b in zip(mine.to_pylist(), theirs, strict=True):
            assert (a is None) == (b is None), name
            assert a == b or a == pytest.approx(b, rel=1e-9, abs=1e-12), name


@settings(max_examples=100, deadline=None)
@given(
    rows=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9), st.integers(0, 12)), max_size=40),
    spine=st.lists(st.tuples(st.integers(-1, 3), st.integers(0, 15)), max_size=20),
    as_happened=st.booleans(),
)
def test_the_index_finds_the_event_that_the_kernel_finds(rows, spine, as_happened):
    """Exactly the same event, ties of event time included."""
    entity, event_us, visible_us = (column([row[i] for row in rows]) for i in range(3))
    events = Events(entity, event_us, visible_us, np.arange(len(rows))[::-1].copy())
    asked_entity, moment_us = column([e for e, _ in spine]), column([m for _, m in spine])
    mine = NewestIndex(events, 4, as_happened=as_happened).at(asked_entity, moment_us)
    assert mine.tolist() == latest_index(asked_entity, moment_us, events, as_happened=as_happened).tolist()


def test_a_ttl_ends_to_the_microsecond():
    timeline = Timeline(CompiledView(LATEST, 0))
    row = {"_event_us": 100, "_visible_us": 100, "_seq": 1, "_identity": 1, "key": "x", "size": 1.5}
    timeline.add(pa.Table.from_pylist([row], schema=timeline_schema(FIELDS)))
    assert timeline.seal().rows == 1
    moments = column([100, 101, 100 + TTL_US, 100 + TTL_US + 1])
    told = timeline.read(Question((0,), pa.array(["x"] * 4), moments, False, FOREVER_US))
    assert told.columns[0].to_pylist() == [None, 1.5, 1.5, None]


def test_an_event_that_comes_again_is_told():
    timeline = Timeline(CompiledView(LATEST, 0))
    row = {"_event_us": 1, "_visible_us": 1, "_seq": 1, "_identity": 8, "key": "x"}
    for identity, repeats in ((8, 0), (9, 0), (8, 1)):
        timeline.add(pa.Table.from_pylist([row | {"_identity": identity}], schema=timeline_schema(FIELDS)))
        assert timeline.seal().repeats == repeats
