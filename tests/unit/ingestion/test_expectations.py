"""Rules of whole windows, by themselves: against a naive count, over any cut into batches."""

import itertools
import math
import random
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from millrace.definitions.model import DAY_US, Field, FieldType, Pii, Reference, Source

from services.ingestion.domain import expectations
from services.ingestion.domain.contracts import Violation
from services.ingestion.domain.daily import Day, Daybook, Portrait, WindowLine
from services.ingestion.domain.expectations import Expectations, Finding
from services.ingestion.domain.known import KnownValues
from services.ingestion.domain.sketches import MAX_BINS, Common, Distinct, Spread

WATCHED = Source(
    "orders",
    "shop.order",
    "id",
    "at",
    (
        Field("id", FieldType.STRING, required=True, unique=True),
        Field("at", FieldType.TIMESTAMP, required=True),
        Field("size", FieldType.INTEGER, max_null_share=0.25, unique=True),
        Field("customer", FieldType.STRING, references=Reference("customers", "id")),
        Field("agent", FieldType.STRING, unique=True, pii=Pii.HASH),
    ),
    freshness_us=1_000,
)
rows_of = st.lists(
    st.fixed_dictionaries(
        {"id": st.sampled_from("abcdefgh")},
        optional={"size": st.integers(-3, 3), "customer": st.sampled_from("xyz")},
    ),
    max_size=60,
)


def book(*values: str, whole: bool = True) -> KnownValues:
    made = KnownValues(b"secret")
    made.add(map(made.mark, values))
    made.is_whole = whole
    return made


def findings(watch: Expectations, start: int, end: int) -> dict[tuple[str, str], Finding]:
    return {(f.field, f.rule): f for f in watch.close(start, end)}


@settings(max_examples=200, deadline=None)
@given(rows_of, st.lists(st.integers(0, 60), max_size=6))
def test_any_cut_into_batches_counts_as_a_naive_count_does(rows, cuts):
    watch = Expectations(WATCHED, {("customers", "id"): book("x")})
    places = sorted({0, len(rows), *(cut for cut in cuts if cut < len(rows))})
    for start, stop in itertools.pairwise(places):
        watch.add(rows[start:stop], list(range(start + 1, stop + 1)))
    found = findings(watch, 0, 100)
    for name in ("id", "size"):
        counts = Counter(row[name] for row in rows if name in row)
        assert found[name, "unique"].measured == sum(counts.values()) - len(counts)
        assert found[name, "unique"].events == sum(counts.values())
    unknown = [row["customer"] for row in rows if row.get("customer", "x") != "x"]
    assert found["customer", "references"].measured == len(unknown)
    assert found["customer", "references"].is_broken == bool(unknown)
    nulls = sum("size" not in row for row in rows)
    share = found["size", "null_share"]
    assert share.measured == pytest.approx(nulls / len(rows) if rows else 0.0)
    assert share.is_broken == (len(rows) >= 20 and nulls / len(rows) > 0.25)
    assert findings(watch, 100, 200)["id", "unique"].events == 0


def test_what_is_referred_to_may_come_later_in_the_window():
    customers = book("x")
    watch = Expectations(WATCHED, {("customers", "id"): customers})
    watch.add([{"id": "1", "customer": "late"}, {"id": "2", "customer": "never"}], [10, 20])
    customers.add([customers.mark("late")])
    found = findings(watch, 0, 100)["customer", "references"]
    assert (found.measured, found.example, found.is_broken) == (1, "never", True)


def test_there_is_no_verdict_while_the_past_is_being_read_or_does_not_fit():
    for known, said in ((book("x", whole=False), "still being read"), (KnownValues(b"s", 1), "more values than")):
        if not known.is_whole and said.startswith("more"):
            known.is_whole = True
            known.add(map(known.mark, "xyz"))
            assert known.is_full and len(known) == 1
        watch = Expectations(WATCHED, {("customers", "id"): known})
        watch.add([{"id": "1", "customer": "q"}], [10])
        found = findings(watch, 0, 100)["customer", "references"]
        assert not found.is_broken and "no verdict" in found.note and said in found.note


def test_silence_is_measured_across_windows_and_from_the_first_one():
    watch = Expectations(WATCHED, {})
    assert findings(watch, 5_000, 6_000)["", "freshness"].measured == pytest.approx(0.001)
    quiet = findings(watch, 6_000, 7_000)["", "freshness"]
    assert quiet.is_broken and quiet.measured == pytest.approx(0.002)
    watch.add([{"id": "1"}, {"id": "2"}], [7_900, 7_400])
    assert findings(watch, 7_000, 8_000)["", "freshness"].measured == pytest.approx(0.0024)
    kept = findings(watch, 8_000, 8_900)["", "freshness"]
    assert not kept.is_broken and kept.measured == pytest.approx(0.001)


def test_silence_counts_from_when_the_clock_was_heard_of_and_from_before_the_rule():
    watch = Expectations(WATCHED, {})
    watch.begin(5_600)
    assert findings(watch, 5_000, 6_000)["", "freshness"].measured == pytest.approx(0.0004)
    calm = Expectations(replace(WATCHED, freshness_us=0), {})
    calm.add([{"id": "1"}], [5_200])
    calm.follow(WATCHED, {})
    assert findings(calm, 5_000, 6_000)["", "freshness"].measured == pytest.approx(0.0008)


def test_memory_is_bounded_and_says_so(monkeypatch):
    monkeypatch.setattr(expectations, "MAX_VALUES", 100)
    monkeypatch.setattr(expectations, "MAX_UNMATCHED", 10)
    watch = Expectations(WATCHED, {("customers", "id"): book("x")})
    watch.add([{"id": str(i % 150), "customer": str(i)} for i in range(300)], list(range(1, 301)))
    found = findings(watch, 0, 400)
    assert found["id", "unique"].measured == 100 and "at least so many" in found["id", "unique"].note
    assert found["customer", "references"].measured == 10 and "at least" in found["customer", "references"].note


def test_a_restart_keeps_counts_and_says_what_it_forgot():
    watch = Expectations(WATCHED, {})
    watch.add([{"id": "a", "size": 1}, {"id": "a"}], [10, 20])
    again = Expectations(WATCHED, {})
    again.resume(watch.to_state())
    again.add([{"id": "a", "size": 1}], [30])
    found = findings(again, 0, 100)
    assert found["id", "unique"].measured == 1 and "restart" in found["id", "unique"].note
    assert found["size", "null_share"].events == 3


def test_personal_values_are_no_examples():
    watch = Expectations(WATCHED, {})
    watch.add([{"id": "1", "agent": "0123"}, {"id": "2", "agent": "0123"}], [1, 2])
    found = findings(watch, 0, 10)["agent", "unique"]
    assert found.is_broken and found.example == ""


def test_numbers_that_share_a_hash_are_not_repeats():
    watch = Expectations(WATCHED, {})
    watch.add([{"id": "1", "size": -1}, {"id": "2", "size": -2}], [1, 2])
    assert findings(watch, 0, 10)["size", "unique"].measured == 0


def test_known_values_survive_merges_and_restarts():
    made = KnownValues(b"k", capacity=60_000)
    for start in range(0, 50_000, 500):
        made.add(range(start, start + 500))
    assert len(made) == 50_000 and not made.is_full
    assert all(made.known(range(50_000))) and not any(made.known(range(50_000, 50_100)))
    kept = made.take_unsaved()
    assert sorted(kept) == list(range(50_000)) and made.take_unsaved() == []
    again = KnownValues(b"k", capacity=60_000)
    again.restore(kept, True)
    again.add(range(49_000, 70_000))
    assert len(again) == 60_000 and again.is_full


@pytest.mark.parametrize("count", [1, 40, 900, 30_000, 200_000])
def test_distinct_values_are_estimated_within_three_standard_errors(count):
    sketch, texts = Distinct(), Distinct()
    values = np.random.default_rng(count).normal(0, 1e6, count)
    for part in np.array_split(values, 7):
        sketch.add_numbers(part)
        texts.add_texts({f"item-{value:.6f}" for value in part})
    for made in (sketch, Distinct.from_text(texts.to_text())):
        assert made.count == pytest.approx(count, rel=0.07, abs=1)


@pytest.mark.parametrize("spread", [1.0, 1e-9, 1e12])
def test_quantiles_are_within_two_percent(spread):
    values = np.concatenate([np.random.default_rng(3).lognormal(0, 2, 20_000), -np.arange(5_000.0), np.zeros(99)])
    values *= spread
    sketch = Spread()
    for part in np.array_split(values, 11):
        sketch.add(part)
    sketch = Spread.from_state(sketch.to_state())
    assert len(sketch.bins) <= MAX_BINS
    shares = (0.01, 0.25, 0.5, 0.75, 0.99)
    exact = np.quantile(values, shares, method="inverted_cdf")
    for wanted, found in zip(exact, sketch.quantiles(shares), strict=True):
        assert found == pytest.approx(wanted, rel=0.021, abs=1e-12)
    assert math.isnan(Spread().quantiles([0.5])[0])


def test_a_field_with_many_texts_is_not_listed():
    common = Common()
    common.add({"b": 2, "a": 2, "c": 5})
    assert common.top() == [("c", 5), ("a", 2), ("b", 2)]
    common.add({str(i): 1 for i in range(40)})
    assert common.top() == [] and common.counts is None


def test_a_day_is_the_same_however_it_was_cut_and_kept():
    seeded = random.Random(5)
    rows = [
        {"id": f"o{i % 40}", "at": i + 1, "size": seeded.choice([None, 1, 5, 900]), "customer": seeded.choice("xyz")}
        for i in range(500)
    ]
    rows = [{name: value for name, value in row.items() if value is not None} for row in rows]
    whole, cut = Day(0), Day(0)
    whole.accept(WATCHED, rows)
    for start in range(0, 500, 37):
        cut.accept(WATCHED, rows[start : start + 37])
        cut = Day.from_state(cut.to_state())
    for day in (whole, cut):
        day.refuse([Violation("size", "range", "too large", "9000")])
        day.close_window(WindowLine(0, 10, 501, 1, 2500, 3, 1), [Finding("id", "unique", 9, 0, 501, True)])
    assert whole.events == cut.events == 501 and cut.quarantined == 1
    exact = [row["size"] for row in rows if "size" in row]
    for day in (whole, cut):
        size = day.fields["size"]
        assert (size.events, size.nulls, size.numbers) == (500, 500 - len(exact), len(exact))
        assert size.mean == pytest.approx(np.mean(exact)) and size.std == pytest.approx(np.std(exact))
        assert (size.low, size.high, size.distinct.count) == (1, 900, 3)
        assert day.fields["customer"].common.top() == Counter(row["customer"] for row in rows).most_common()
        assert day.fields["id"].distinct.count == pytest.approx(40, abs=2)
        assert day.broken["size", "range"].events == 1 and day.findings[0][1].rule == "unique"
    assert cut.fields["size"].quantiles() == whole.fields["size"].quantiles()
    assert whole.null_share == pytest.approx(cut.null_share) and whole.windows == cut.windows


def test_a_portrait_takes_what_contracts_let_in():
    portrait = Portrait()
    portrait.add([1e200, -1e200, 2.0, None], FieldType.NUMBER, True)
    assert (portrait.numbers, portrait.nulls, portrait.high) == (1, 1, 2.0)
    portrait = Portrait()
    portrait.add([True, False, True, None], FieldType.BOOLEAN, True)
    assert portrait.common.top() == [("true", 2), ("false", 1)]
    masked = Portrait()
    masked.add(["****1234"], FieldType.STRING, False)
    assert masked.common.top() == [] and masked.distinct.count == 1
    personal = Portrait()
    personal.add(["not a number any more", None], FieldType.NUMBER, False)
    assert (personal.numbers, personal.nulls, personal.distinct.count) == (0, 1, 1)


def test_few_days_are_open_and_the_others_are_handed_on():
    days = Daybook()
    for number in (1, 2, 3, 4, 1):
        days.at(number * DAY_US + 5).refuse([])
    assert [day.start_us // DAY_US for day in days.open_days()] == [2, 3, 4]
    changed = days.take_changed()
    assert [day.start_us // DAY_US for day in changed] == [1, 2, 3, 4]
    assert changed[1].events == 2  # what came for the day before all open ones
    assert days.take_changed() == []
    days.give_back(changed)
    assert len(days.take_changed()) == 4
