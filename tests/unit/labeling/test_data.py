"""Data records in, labels out."""

import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from millrace.bus.events import Batch
from millrace.definitions.model import Missing
from millrace.wire.labeling.v1.events_pb2 import Label, LabelHeartbeat

from services.labeling.adapters.labels_sql import _CORRECTED, _TRUTHS_OF_DUE
from services.labeling.errors import BadRecord
from services.labeling.handlers.messages import CLOCK_TYPE
from tests.unit.labeling.conftest import Bench, open_database
from tests.unit.labeling.world import (
    DELIVERIES,
    HORIZON_US,
    MINUTE_US,
    ORDERS,
    Logs,
    OneProject,
    clock,
    data_message,
    delivery,
    effects,
    handed_back,
    heartbeat,
    labels_in,
    order,
)

T0 = 1_000 * MINUTE_US
DUE = T0 + HORIZON_US


def facts(label: Label) -> tuple:
    return (label.key.entity, label.key.moment_us, Label.Outcome.Name(label.outcome), label.value, label.revision)


async def test_truth_that_is_there_in_time_is_out_at_maturity_and_not_before(bench: Bench) -> None:
    await bench.feed(order("a", T0, T0 - 50), delivery("a", 30, T0 + 40), *clock(DUE - 1))
    assert labels_in(await bench.published()) == []
    await bench.feed(*clock(DUE))
    (label,) = labels_in(await bench.published())
    assert facts(label) == ("a", T0, "OBSERVED", 1.0, 0)
    assert (label.visible_us, label.matured_us, label.event_us) == (DUE, DUE, T0 + 40)
    assert (label.origin, label.confidence) == (Label.LATE_TRUTH, 1.0)


async def test_truth_that_never_comes_is_censored_or_the_declared_default(make_bench) -> None:
    for missing, expected in ((Missing.CENSORED, "CENSORED"), (Missing.DEFAULT, "OBSERVED")):
        bench = await make_bench(OneProject(missing))
        await bench.feed(order("a", T0, T0 - 50), *clock(DUE))
        (label,) = labels_in(await bench.published())
        assert facts(label) == ("a", T0, expected, 0.0, 0)
        if missing is Missing.DEFAULT:
            assert label.origin == Label.DECLARED_DEFAULT


async def test_an_unknowable_truth_is_censored_even_where_a_default_is_declared(make_bench) -> None:
    bench = await make_bench(OneProject(Missing.DEFAULT))
    await bench.feed(order("a", T0, T0 - 50), delivery("a", None, T0 + 5), *clock(DUE))
    (label,) = labels_in(await bench.published())
    assert facts(label) == ("a", T0, "CENSORED", 0.0, 0)


async def test_a_late_or_changed_truth_is_a_correction_and_a_repeated_one_is_none(bench: Bench) -> None:
    await bench.feed(order("a", T0, T0 - 50), *clock(DUE))
    await bench.feed(delivery("a", 30, DUE + 7), *clock(DUE + 10))
    await bench.feed(delivery("a", 31, DUE + 20), delivery("a", 2, DUE + 25), *clock(DUE + 30))
    labels = labels_in(await bench.published())
    assert [facts(label)[2:] for label in labels] == [("CENSORED", 0.0, 0), ("OBSERVED", 1.0, 1), ("OBSERVED", 0.0, 2)]
    assert [label.visible_us for label in labels] == [DUE, DUE + 7, DUE + 25]
    assert [label.matured_us for label in labels] == [DUE] * 3


async def test_a_truth_in_a_faster_partition_does_not_leak_into_the_first_label(bench: Bench) -> None:
    await bench.feed(order("a", T0, T0 - 50), delivery("a", 30, DUE + 5), *clock(DUE + 10))
    assert [facts(label)[2:] for label in labels_in(await bench.published())] == [
        ("CENSORED", 0.0, 0),
        ("OBSERVED", 1.0, 1),
    ]


async def test_the_watermark_waits_for_every_partition(bench: Bench) -> None:
    await bench.feed(order("a", T0, T0 - 50), *clock(DUE)[:-1])
    assert await bench.published() == []
    assert bench.handler.watermarks_us["shop"] == -1
    await bench.feed(clock(DUE)[-1])
    assert bench.handler.watermarks_us["shop"] == DUE
    assert len(labels_in(await bench.published())) == 1


async def test_what_happened_before_the_moment_is_no_truth_about_it(bench: Bench) -> None:
    await bench.feed(order("a", T0, T0 - 50), delivery("a", 30, T0 + 9, event_us=T0 - 1), *clock(DUE))
    (label,) = labels_in(await bench.published())
    assert facts(label)[2] == "CENSORED"


async def test_heartbeats_follow_the_labels_they_cover_one_per_partition(bench: Bench) -> None:
    await bench.feed(order("a", T0, T0 - 50), order("b", T0 + 1, T0 - 40), *clock(DUE))
    events = await bench.published()
    kinds = [event.type == CLOCK_TYPE for event in events]
    first_label = kinds.index(False)
    assert kinds[first_label:] == [False, True, True]
    beats = [LabelHeartbeat.FromString(event.data).visible_us for event in events if event.type == CLOCK_TYPE]
    assert beats == sorted(beats)
    assert beats[-1] == DUE


async def test_the_cause_of_a_label_is_its_truth_or_else_its_example(bench: Bench) -> None:
    await bench.feed(order("a", T0, T0 - 50, event_id="ask-a"), order("b", T0, T0 - 40, event_id="ask-b"))
    await bench.feed(delivery("a", 30, T0 + 5, event_id="truth-a"), *clock(DUE))
    causes = {label.key.entity: event.causation_id
              for event in await bench.published() if event.type != CLOCK_TYPE
              for label in labels_in([event])}  # fmt: skip
    assert causes == {"a": "truth-a", "b": "ask-b"}


async def test_a_repeated_batch_changes_nothing(bench: Bench) -> None:
    await bench.feed(order("a", T0, T0 - 50), delivery("a", 30, T0 + 5), *clock(DUE))
    before = len(await bench.published())
    for place, log in bench.logs.partitions.items():
        await bench.handler.handle(bench.logs.batch(place, 0, len(log)), effects())
    assert len(await bench.published()) == before


async def test_a_record_stamped_within_closed_time_counts_just_after_it(bench: Bench) -> None:
    await bench.feed(order("a", T0, T0 - 50), *clock(DUE))
    await bench.feed(delivery("a", 30, DUE), *clock(DUE + 5))
    labels = labels_in(await bench.published())
    assert [(facts(label)[2], label.visible_us) for label in labels] == [("CENSORED", DUE), ("OBSERVED", DUE + 1)]


async def test_a_record_handed_back_is_a_correction_not_a_change_of_the_past(bench: Bench) -> None:
    await bench.feed(order("a", T0, T0 - 50), *clock(DUE + 100))
    stray = Logs()
    stray.append([delivery("a", 30, T0 + 5)])
    await bench.handler.handle(handed_back(stray.batch((DELIVERIES, 0), 0, 1)), effects())
    await bench.feed(*clock(DUE + 200))
    labels = labels_in(await bench.published())
    assert [(facts(label)[2], label.visible_us) for label in labels] == [("CENSORED", DUE), ("OBSERVED", DUE + 101)]


@pytest.mark.parametrize(
    "row, message",
    [({"order_id": "a", "promised_at": 1.5}, "not a timestamp"), ({"order_id": "a", "promised_at": "x"}, "timestamp")],
)
async def test_a_row_that_makes_no_sense_is_refused_with_nothing_kept(bench: Bench, row: dict, message: str) -> None:
    with pytest.raises(BadRecord, match=message):
        await bench.feed(order("b", T0, T0), data_message(ORDERS, row, T0, "bad", 0))
    assert (await bench.book.counts("shop")).pending == 0


async def test_a_body_that_is_no_object_and_a_record_without_a_time_are_refused(bench: Bench) -> None:
    good = order("a", T0, T0)
    logs = Logs()
    logs.append([good])
    (record,) = logs.partitions[ORDERS, 0]
    from msgspec import structs

    headless = structs.replace(record, headers=tuple(h for h in record.headers if h[0] != "visible_us"), _event=[])
    for broken in (structs.replace(record, data=b"[1]", _event=[]), headless):
        with pytest.raises(BadRecord):
            await bench.handler.handle(Batch(ORDERS, 0, (broken,)), effects())


async def test_a_long_backlog_matures_in_portions_with_the_same_labels(make_bench) -> None:
    streams = [await make_bench(most_examples=most) for most in (3, 1000)]
    messages = [m for i in range(40) for m in (order(f"o{i}", T0 + i // 2, T0 - 50 + i), delivery(f"o{i}", i, T0 + 90))]
    for bench in streams:
        await bench.feed(*messages, *clock(DUE + 1000))
    small, large = [[facts(label) for label in labels_in(await bench.published())] for bench in streams]
    assert small == large
    assert len(small) == 40


async def test_a_restart_in_the_middle_of_a_backlog_catches_up_by_itself(make_bench) -> None:
    bench = await make_bench(most_examples=5)
    bench.handler.catch_up = _nothing  # the process dies after the first transaction of the advance
    await bench.feed(*[order(f"o{i}", T0 + i, T0 - 50 + i) for i in range(40)], *clock(DUE + 1000))
    assert len(labels_in(await bench.published())) < 40
    restarted = type(bench.handler)(bench.book, bench.projects, most_examples=5)
    await restarted.start()
    await restarted.catch_up("shop")
    assert len(labels_in(await bench.published())) == 40


async def _nothing(project: str) -> None:
    return None


async def test_counts(bench: Bench) -> None:
    await bench.feed(*[order(name, T0, T0 - 50) for name in "abc"], order("d", T0 + HORIZON_US, T0))
    await bench.feed(delivery("a", 30, T0 + 5), *clock(DUE), delivery("b", 1, DUE + 5), *clock(DUE + 9))
    counts = await bench.book.counts("shop")
    assert (counts.pending, counts.matured, counts.censored, counts.corrected) == (1, 3, 1, 1)


moments = st.integers(0, 6).map(lambda i: T0 + i * 10 * MINUTE_US)
steps = st.integers(0, 40).map(lambda i: T0 + i * 10 * MINUTE_US)
names = st.sampled_from("abc")
orders = st.builds(lambda n, m, v, p: (v, order(n, m, v, p)), names, moments, steps, st.integers(0, 1))
deliveries = st.builds(
    lambda n, late, v, p: (v, delivery(n, late, v, p, event_id=f"delivery-{n}-{v}-{p}-{late}")),
    names, st.sampled_from([None, 0.0, 20.0]), steps, st.integers(0, 1),
)  # fmt: skip
beats = st.builds(
    lambda t, v, p: (v, heartbeat(t, v, p)), st.sampled_from([ORDERS, DELIVERIES]), steps, st.integers(0, 1)
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(records=st.lists(orders | deliveries | beats, max_size=30), seed=st.integers(0, 2**16))
async def test_labels_do_not_depend_on_how_records_were_batched(records: list, seed: int) -> None:
    logs = Logs()
    logs.append([message for _, message in sorted(records, key=lambda pair: pair[0])])
    logs.append(clock(T0 + 1000 * MINUTE_US))
    runs = [await _played(logs, random.Random(n), most) for n, most in ((seed, 2), (seed + 1, 1000), (seed + 2, 1))]
    assert runs[0] == runs[1] == runs[2]


async def _played(logs: Logs, chance: random.Random, most_examples: int) -> list:
    """The labels of one way to cut the partitions into batches and to interleave them."""
    database = await open_database()
    bench = Bench(database, OneProject(), most_examples)
    left = {place: 0 for place in logs.partitions}
    while left:
        place = chance.choice(sorted(left))
        stop = min(len(logs.partitions[place]), left[place] + chance.randint(1, 6))
        await bench.handler.handle(logs.batch(place, left[place], stop), effects())
        left[place] = stop
        if stop == len(logs.partitions[place]):
            del left[place]
    events = [event for event in await bench.published() if event.type != CLOCK_TYPE]
    await database.stop()
    return [(event.id, event.causation_id, event.data) for event in events]


async def test_the_truths_of_what_is_due_are_found_by_their_entity(bench: Bench) -> None:
    """Not by reading every truth for every example: that was 40 times slower with 20,000 of each."""
    arguments = {"project": "shop", "watermark_us": 1, "previous_us": 0}
    async with bench.database.read() as transaction:
        plans = {
            sql: [row["detail"] for row in await transaction.rows("EXPLAIN QUERY PLAN " + sql, arguments)]
            for sql in (_TRUTHS_OF_DUE, _CORRECTED)
        }
    assert any("SEARCH t" in line and "entity=?" in line for line in plans[_TRUTHS_OF_DUE])
    assert any("SEARCH e" in line and "entity=?" in line for line in plans[_CORRECTED])
