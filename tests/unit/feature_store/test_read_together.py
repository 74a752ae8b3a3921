"""Views whose rows look alike are read together: each as alone, at its own time, and what is wrong is refused."""

import numpy as np
import pytest
from millrace.aggregates import NEVER_US, Latest, LatestLayout, RowError, read_latest
from millrace.definitions.load import load_text
from millrace.definitions.semantics import view_types

from bench.projects import latest_project, windowed_project
from services.feature_store.domain.answers import Stored, read_all, read_rows
from services.feature_store.domain.inputs import Lookup
from services.feature_store.domain.online import Events, new_rows
from services.feature_store.domain.views import CompiledView

START_US = 1_767_225_600_000_000
MINUTE_US = 60_000_000
KEYS = [f"s{number}" for number in range(7)]


def lookups(text: str) -> list[Lookup]:
    project = load_text(text)
    sources = {source.name: source for source in project.sources}
    return [Lookup(CompiledView(v, 0, view_types(v, sources[v.source]))) for v in project.views]


def stored(view: CompiledView, seed: int, partitions: int) -> list[tuple[bytes | None, ...]]:
    """Rows of KEYS in each partition, of which some are not there."""
    draw = np.random.default_rng(seed)
    held = []
    for partition in range(partitions):
        count = int(draw.integers(3, 40))
        names = [KEYS[i] for i in draw.integers(0, len(KEYS) - 1, count)]  # the last one is never heard of
        fields = view.fields - {"sensor", "at"}
        rows = [{"sensor": name, **{f: float(draw.normal()) for f in fields}} for name in names]
        event_us = START_US + draw.integers(0, 300, count) * MINUTE_US
        events = Events(rows, [str(i) for i in range(count)], event_us, event_us + 1, np.arange(count), partition)
        chosen = view.select(events.rows)
        held.append(new_rows(view, events, chosen, dict.fromkeys(chosen.entities)))
    return [tuple(rows.get(key) for rows in held) for key in KEYS]


@pytest.mark.parametrize("partitions", [1, 3])
@pytest.mark.parametrize("make", [latest_project, windowed_project])
def test_together_is_as_alone(make, partitions):
    asked = {
        lookup: Stored(stored(lookup.view, place, partitions), START_US + (200 + 40 * place) * MINUTE_US)
        for place, lookup in enumerate(lookups(make("alike")))
    }
    assert len({lookup.view.form for lookup in asked}) == 1
    together = read_all(asked)
    for lookup, one in asked.items():
        alone = read_rows(lookup.view, one.rows, one.at_us)
        for name in ("values", "newest_us", "at_us"):
            np.testing.assert_array_equal(getattr(together[lookup], name), getattr(alone, name))
        assert np.isnan(alone.values).sum() < alone.values.size


def test_views_of_both_kinds_and_of_no_entity_are_read_side_by_side():
    latest, windowed = lookups(latest_project("a"))[0], lookups(windowed_project("b"))[0]
    other = lookups(latest_project("c"))[1]
    asked = {
        latest: Stored(stored(latest.view, 1, 1), START_US),
        windowed: Stored(stored(windowed.view, 2, 1), START_US + 300 * MINUTE_US),
        other: Stored([], START_US),
    }
    found = read_all(asked)
    assert found[other].values.shape == (len(other.view.view.columns), 0)
    np.testing.assert_array_equal(found[latest].values, read_rows(latest.view, asked[latest].rows, START_US).values)
    assert not np.isnan(found[windowed].values[:, :-1]).all()


@pytest.mark.parametrize("make", [latest_project, windowed_project])
def test_a_row_of_another_view_is_refused_also_among_rows_that_look_like_it(make):
    first, second, *_ = lookups(make("alike"))
    rows = {lookup: stored(lookup.view, place, 1) for place, lookup in enumerate((first, second))}
    (whole,) = next(parts for parts in rows[second] if parts[0] is not None)
    for bad in (whole[:-3], whole[:5], b"\x07" + whole[1:], whole + b"12"):
        wrong = [(bad,), *rows[second][1:]]
        with pytest.raises(RowError):
            read_all({first: Stored(rows[first], START_US), second: Stored(wrong, START_US)})


def test_a_view_with_other_columns_is_told_apart_though_its_rows_are_as_long():
    ours, theirs = (LatestLayout(("a", name), (True, True)) for name in ("b", "c"))
    rows = [[ours.pack(Latest(START_US, 1, [1.0, 2.0]))], [None]]
    (columns, newest), (nothing, never) = read_latest([(ours, rows), (theirs, [[None]])])
    np.testing.assert_array_equal(columns, [[1.0, np.nan], [2.0, np.nan]])
    assert newest.tolist() == [START_US, NEVER_US] and never.tolist() == [NEVER_US]
    assert np.isnan(nothing).all()
    with pytest.raises(RowError, match="not this view's"):
        read_latest([(ours, rows), (theirs, rows)])
