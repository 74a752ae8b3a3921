"""Who is asked for, when, in what requests, and what is said of failures."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from millrace.client.moments import Moments

from tests.unit.client.conftest import SLICE, T0


class Asked:
    """Answers every request at once, and remembers it; entities in `broken` fail."""

    def __init__(self, broken=()):
        self.requests = []
        self.broken = broken

    async def __call__(self, due):
        self.requests.append(list(due))
        return ["no features" if entity in self.broken else "" for _, entity in due]


async def test_examples_are_asked_in_the_order_of_their_moments(project, announced):
    asked = Asked()
    moments = Moments(project, asked, items_per_request=10, concurrency=1)
    for entity, slices in [("c", 3), ("a", 1), ("d", 4), ("b", 1)]:
        moments.see("schedule", announced(entity, T0 + slices * SLICE + 1))
    assert moments.next_us() == T0 + SLICE
    assert await moments.ask_due(T0 + 3 * SLICE) == 3
    assert asked.requests == [[(T0 + SLICE, "a"), (T0 + SLICE, "b"), (T0 + 3 * SLICE, "c")]]
    assert (moments.asked, moments.next_us()) == (3, T0 + 4 * SLICE)
    assert await moments.ask_due(T0 + 3 * SLICE) == 0
    assert len(asked.requests) == len(moments.latencies_s) == 1


@settings(deadline=None)  # the machine may be busy
@given(st.lists(st.integers(0, 20), max_size=60), st.integers(1, 7), st.integers(1, 5), st.integers(0, 20))
async def test_every_due_example_is_asked_once_in_bounded_requests(project, announced, offsets, size, concurrency, now):
    asked = Asked()
    moments = Moments(project, asked, items_per_request=size, concurrency=concurrency)
    for number, offset in enumerate(offsets):
        moments.see("schedule", announced(f"p{number}", T0 + offset * SLICE))
    due = sorted((T0 + offset * SLICE, f"p{n}") for n, offset in enumerate(offsets) if offset <= now)
    assert await moments.ask_due(T0 + now * SLICE) == len(due)
    assert sorted(pair for request in asked.requests for pair in request) == due
    assert len(asked.requests) == -(-len(due) // size)
    assert all(len(request) <= size for request in asked.requests)
    assert await moments.ask_due(T0 + 20 * SLICE) == len(offsets) - len(due)


async def test_no_more_requests_are_under_way_than_allowed(project, announced):
    under_way, most, full, go_on = 0, 0, asyncio.Event(), asyncio.Event()

    async def ask(due):
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        if under_way == 3:
            full.set()
        await go_on.wait()
        under_way -= 1
        return [""] * len(due)

    moments = Moments(project, ask, items_per_request=2, concurrency=3)
    for number in range(20):
        moments.see("schedule", announced(f"p{number}", T0))
    asking = asyncio.create_task(moments.ask_due(T0))
    await asyncio.wait_for(full.wait(), 10)
    go_on.set()
    assert await asking == 20
    assert most == 3
    assert len(moments.latencies_s) == 10


async def test_failures_name_the_entity(project, announced):
    moments = Moments(project, Asked(broken=("p1", "p4")), items_per_request=3, concurrency=1)
    for number in range(5):
        moments.see("schedule", announced(f"p{number}", T0))
    await moments.ask_due(T0)
    assert moments.failures == ["p1: no features", "p4: no features"]
    assert moments.asked == 5


async def test_an_answer_for_each_is_insisted_on(project, announced):
    async def forgetful(due):
        return []

    moments = Moments(project, forgetful)
    moments.see("schedule", announced("p", T0))
    with pytest.raises(ValueError, match="shorter"):
        await moments.ask_due(T0)


async def test_what_is_forgotten_is_not_asked(project, announced):
    asked = Asked()
    moments = Moments(project, asked)
    for number in range(4):
        moments.see("schedule", announced(f"p{number}", T0 + number * SLICE))
    assert moments.forget(T0 + SLICE) == 2
    assert moments.forget(T0 + SLICE) == 0
    await moments.ask_due(T0 + 3 * SLICE)
    assert [entity for _, entity in asked.requests[0]] == ["p2", "p3"]


async def test_an_example_announced_late_is_asked_for_its_moment_but_not_before_it_is_available(project, announced):
    asked = Asked()
    moments = Moments(project, asked)
    moments.see("schedule", announced("late", T0), T0 + SLICE + 1)
    assert moments.next_us() == T0 + SLICE + 1
    assert await moments.ask_due(T0 + SLICE) == 0
    assert await moments.ask_due(T0 + 2 * SLICE) == 1
    assert asked.requests == [[(T0, "late")]]


async def test_what_is_due_at_the_start_or_before_is_left_out(project, announced):
    asked = Asked()
    moments = Moments(project, asked, after_us=T0 + SLICE)
    for number in range(3):
        moments.see("schedule", announced(f"p{number}", T0 + number * SLICE))
    moments.see("schedule", announced("late", T0), T0 + SLICE + 1)
    assert moments.forget(T0 + SLICE) == 0
    await moments.ask_due(T0 + 2 * SLICE)
    assert [entity for _, entity in asked.requests[0]] == ["late", "p2"]


@pytest.mark.parametrize(
    "payload",
    [
        b'{"parcel_id": "p", "scheduled_dispatch": null}',
        b'{"parcel_id": "p"}',
        b'{"scheduled_dispatch": 1372636800000000}',
        b'{"parcel_id": null, "scheduled_dispatch": 1372636800000000}',
        b'{"parcel_id": "", "scheduled_dispatch": 1372636800000000}',
        b'{"parcel_id": "p", "scheduled_dispatch": "soon"}',
        b'{"parcel_id": "p", "scheduled_dispatch": "2013-07-01T00:00:00"}',
        b'{"parcel_id": "p", "scheduled_dispatch": [1]}',
        b'{"parcel_id": "p", "scheduled_dispatch": 1e400}',
        b"[]",
        b"{",
        b"\xff",
    ],
)
def test_what_names_no_example_asks_for_nothing(project, payload):
    moments = Moments(project, Asked())
    moments.see("schedule", payload)
    assert moments.next_us() is None


def test_other_sources_ask_for_nothing(project, announced):
    moments = Moments(project, Asked())
    moments.see("weather", announced("p", T0))
    assert moments.next_us() is None


@pytest.mark.parametrize("moment", ["2013-07-01T00:10:00Z", "2013-07-01T02:29:59.999999+02:00"])
def test_times_may_be_written_as_text(project, announced, moment):
    moments = Moments(project, Asked())
    moments.see("schedule", announced("p", moment))
    assert moments.next_us() == T0


@pytest.mark.parametrize(("key", "text"), [(7, "7"), (7.0, "7"), (7.5, "7.5"), (True, "true"), ("7.0", "7.0")])
async def test_keys_are_written_as_the_platform_writes_them(project, announced, key, text):
    asked = Asked()
    moments = Moments(project, asked)
    moments.see("schedule", announced(key, T0))
    await moments.ask_due(T0)
    assert asked.requests == [[(T0, text)]]
