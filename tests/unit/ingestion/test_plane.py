"""Publishing through the plane: verdicts, visible time, repeats, quarantine, windows, clocks, restarts."""

import asyncio
import time

import msgspec
import pytest
from aiokafka.partitioner import murmur2
from millrace.bus.errors import BusUnavailable
from millrace.definitions.model import Clock
from millrace.runtime.definitions import Definition
from millrace.runtime.errors import Unavailable
from millrace.wire.common.v1.common_pb2 import ClockTick
from millrace.wire.ingestion.v1.events_pb2 import Quarantined, ViolationWindow

from services.ingestion.adapters.tails_bus import BusTails
from services.ingestion.errors import (
    ClockHeld,
    ClockMovedBack,
    LaneFull,
    NoSuchLease,
    TooLarge,
    UnknownProject,
    WallClock,
)
from tests.support.poll import until
from tests.unit.ingestion.world import HEARTBEAT, HOUR, SENSOR, T0, World, incoming, project, reading


async def started(world, **how):
    plane = await world.start(project(**how))
    lease = await plane.acquire_clock("plant", "test", 30_000)
    await plane.clocks.advance("plant", lease.lease_id, T0)
    return plane, lease.lease_id


def visible(record):
    return int(record.header("visible_us"))


async def test_an_accepted_event_is_canonical_keyed_and_stamped(world):
    plane, _ = await started(world)
    event = incoming({"degrees": 7, "x": 1, "sensor": "s1", "at": "2013-07-01T00:10:00Z"}, "e1", T0 + HOUR // 4)
    assert [o.kind for o in await plane.publish("plant", "readings", [event], ("ada", "tp"))] == ["accepted"]
    (record,) = world.data()
    assert record.data == b'{"sensor":"s1","at":%d,"degrees":7.0}' % (T0 + HOUR // 6)
    assert record.key == b"s1" and record.partition == (murmur2(b"s1") & 0x7FFFFFFF) % 2
    assert record.event.time_us == visible(record) == T0 + HOUR // 4
    assert (record.event.id, record.event.type, record.event.actor) == ("e1", "plant.reading.taken", "ada")
    assert int(record.header("event_us")) == T0 + HOUR // 6


async def test_equal_keys_of_two_sources_share_a_partition_number(world):
    plane, _ = await started(world)
    for source in ("readings", "repairs"):
        await plane.publish("plant", source, [incoming(reading(f"s{i}", T0)) for i in range(20)])
    places = [{r.key: r.partition for r in world.data(source)} for source in ("readings", "repairs")]
    assert places[0] == places[1] and len(places[0]) == 20


async def test_visible_time_is_monotone_after_the_event_and_bounded(world):
    plane, _ = await started(world)
    offers = [(T0 + 60, T0 + 10), (T0 + 5, T0 + 20), (T0 + 10**15, T0), (0, T0 + 200_000_000)]
    for available, at in offers:
        await plane.publish("plant", "readings", [incoming(reading("s1", at), "", available)])
    stamps = [visible(r) for r in world.data()]
    assert stamps[:2] == [T0 + 60, T0 + 60]
    assert stamps[2] == T0 + 24 * HOUR  # a declared availability is believed for a day, no more
    assert all(visible(r) > int(r.header("event_us")) for r in world.data())
    assert stamps == sorted(stamps)


async def test_repeats_are_dropped_by_id_and_by_content(world):
    plane, _ = await started(world)
    events = [
        incoming(reading("s1", T0), "a"),
        incoming(reading("s2", T0), "a"),
        incoming(reading("s3", T0)),
        incoming(reading("s3", T0)),
    ]
    kinds = [o.kind for o in await plane.publish("plant", "readings", events)]
    assert kinds == ["accepted", "duplicate", "accepted", "duplicate"]
    again = incoming(b'{"at": %d, "sensor": "s3"}' % T0)  # the same content, written differently
    assert [o.kind for o in await plane.publish("plant", "readings", [again])] == ["duplicate"]
    assert len(world.data()) == 2


async def test_a_bad_event_is_quarantined_whole_and_holds_nothing_back(world):
    plane, _ = await started(world)
    events = [
        incoming(reading("s1", T0)),
        incoming(b"{not json"),
        incoming(reading(None, T0)),
        incoming(reading("s2", T0)),
    ]
    outcomes = await plane.publish("plant", "readings", events)
    assert [o.kind for o in outcomes] == ["accepted", "quarantined", "quarantined", "accepted"]
    letters = [Quarantined.FromString(r.data) for r in world.bus.records("quarantine")]
    assert [(q.field, q.rule) for q in letters] == [("", "json"), ("sensor", "key")]
    assert letters[0].payload == b"{not json" and letters[0].event_id
    fixed = incoming(reading("s9", T0), outcomes[2].id)
    assert [o.kind for o in await plane.publish("plant", "readings", [fixed])] == ["accepted"]


async def test_an_unknown_source_is_quarantined_and_an_unknown_project_refused(world):
    plane, _ = await started(world)
    (outcome,) = await plane.publish("plant", "nowhere", [incoming(reading("s1", T0))])
    assert outcome.kind == "quarantined" and "nowhere" in outcome.reason
    assert Quarantined.FromString(world.bus.records("quarantine")[0].data).rule == "unknown_source"
    with pytest.raises(UnknownProject):
        await plane.publish("nobody", "readings", [])


async def test_a_far_future_is_refused_by_the_projects_clock_not_the_wall(world):
    plane, _ = await started(world)
    (outcome,) = await plane.publish("plant", "readings", [incoming(reading("s1", T0 + 2 * HOUR))])
    assert (outcome.kind, outcome.field) == ("quarantined", "at")


async def test_before_the_first_move_of_its_clock_only_a_declared_availability_is_believed(world):
    plane = await world.start(project())
    lost, guessed = reading("s1", T0 - HOUR), reading("s1", world.wall_us)
    for event in (lost, guessed):
        (outcome,) = await plane.publish("plant", "readings", [incoming(event, "a")])
        assert (outcome.kind, outcome.field) == ("quarantined", "at")
        assert "has not started" in outcome.reason and "start its replay" in outcome.reason
    assert [Quarantined.FromString(r.data).rule for r in world.bus.records("quarantine")] == ["future", "future"]
    (declared,) = await plane.publish("plant", "readings", [incoming(reading("s1", T0 + 5), "b", T0 + 60)])
    assert declared.kind == "accepted"

    lease = (await plane.acquire_clock("plant", "test", 30_000)).lease_id
    await plane.clocks.advance("plant", lease, T0 + 30)
    outcomes = await plane.publish(
        "plant", "readings", [incoming(lost, "a"), incoming(reading("s2", T0), "c", T0 + 90)]
    )
    assert [o.kind for o in outcomes] == ["accepted", "accepted"]  # refused once, it may come again
    stamps = {r.event.id: visible(r) for r in world.data()}
    assert stamps == {"b": T0 + 60, "a": T0 + 60, "c": T0 + 90}


async def test_without_a_declared_availability_a_started_clock_is_the_visible_time(world):
    plane, lease = await started(world)
    await plane.publish("plant", "readings", [incoming(reading("s1", T0 - HOUR), "a")])
    await plane.clocks.advance("plant", lease, T0 + HOUR)
    await plane.publish("plant", "readings", [incoming(reading("s1", T0 - HOUR), "b")])
    assert [visible(r) for r in world.data()] == [T0, T0 + HOUR]


async def test_what_came_before_the_clock_counts_in_its_first_window(world):
    plane = await world.start(project())
    await plane.publish("plant", "readings", [incoming(reading("s1", T0)), incoming(b"bad")])
    lease = (await plane.acquire_clock("plant", "test", 30_000)).lease_id
    await plane.clocks.advance("plant", lease, T0)
    assert world.bus.records("data.violations") == []
    await plane.clocks.advance("plant", lease, T0 + 6 * HOUR)
    windows = [ViolationWindow.FromString(r.data) for r in world.bus.records("data.violations")]
    (told,) = [w for w in windows if w.source == "readings"]
    assert (told.window_start_us, told.window_end_us, told.events, told.quarantined) == (T0, T0 + 6 * HOUR, 2, 2)
    assert {(v.field, v.rule) for v in told.violations} == {("at", "future"), ("", "json")}


async def test_an_advance_tells_every_partition_before_it_returns(world):
    plane, lease = await started(world)
    await plane.publish("plant", "readings", [incoming(reading("s1", T0))])
    await plane.clocks.advance("plant", lease, T0 + HOUR)
    for source in ("readings", "repairs"):
        beats = [r for r in world.all(source) if r.event.type == HEARTBEAT and visible(r) == T0 + HOUR]
        assert {r.partition for r in beats} == {0, 1}
        assert all(msgspec.json.decode(r.data) == {"visible_us": T0 + HOUR} and r.key == b"" for r in beats)
    tick = ClockTick.FromString(world.bus.records("clocks")[-1].data)
    assert (tick.project, tick.now_us, tick.lease_id) == ("plant", T0 + HOUR, lease)
    before = len(world.all())
    await plane.clocks.advance("plant", lease, T0 + HOUR)  # renews only
    assert len(world.all()) == before
    with pytest.raises(ClockMovedBack):
        await plane.clocks.advance("plant", lease, T0)


async def test_what_arrived_is_published_before_the_time_is_told_in_one_append(world):
    plane, lease = await started(world)
    appends, publish = [], world.bus.publish

    async def noted(messages):
        appends.append([m.topic for m in messages])
        await publish(messages)

    world.bus.publish = noted
    arrivals = {
        "readings": [incoming(reading(f"s{i}", T0 + i), f"e{i}", T0 + 60) for i in range(20)] + [incoming(b"bad")],
        "unheard-of": [incoming(b"{}", "u")],
    }
    row, (told, unknown) = await plane.play("plant", lease, T0 + HOUR, arrivals)
    assert row.now_us == plane.now_us("plant") == T0 + HOUR
    assert [o.kind for o in told] == ["accepted"] * 20 + ["quarantined"]
    assert [(o.kind, "no source" in o.reason) for o in unknown] == [("quarantined", True)]
    assert sum("data.plant.readings" in topics for topics in appends) == 1  # events and heartbeats together
    for source in ("readings", "repairs"):
        for partition in (0, 1):
            records = [r for r in world.all(source) if r.partition == partition]
            assert visible(records[-1]) == T0 + HOUR and records[-1].event.type == HEARTBEAT
            assert [visible(r) for r in records] == sorted(visible(r) for r in records)
    before = len(world.all())
    row, ((again, *_), _) = await plane.play("plant", lease, T0 + HOUR, arrivals)  # its answer was lost
    assert (again.kind, row.now_us, len(world.all())) == ("duplicate", T0 + HOUR, before)


async def test_what_arrived_counts_in_the_window_that_the_move_closes(world):
    plane, lease = await started(world)
    arrivals = {"readings": [incoming(reading("s1", T0 + i), f"e{i}", T0 + 60) for i in range(5)]}
    await plane.play("plant", lease, T0 + 6 * HOUR, arrivals)
    windows = [ViolationWindow.FromString(r.data) for r in world.bus.records("data.violations")]
    (told,) = [w for w in windows if w.source == "readings"]
    assert (told.window_end_us, told.events) == (T0 + 6 * HOUR, 5)


async def test_the_clock_does_not_move_past_what_could_not_be_published(world):
    plane, lease = await started(world)
    world.broker.available = False
    arrivals = {"readings": [incoming(reading("s1", T0 + 5), "e", T0 + 60)]}
    for bound_us in (T0 + HOUR, T0 + 6 * HOUR):  # within a window, and at its end
        with pytest.raises(BusUnavailable):
            await plane.play("plant", lease, bound_us, arrivals)
        assert plane.now_us("plant") == T0
    world.broker.available = True
    _, ((outcome,),) = await plane.play("plant", lease, T0 + HOUR, arrivals)
    # The heartbeat may have arrived for all that is known: nothing behind it is visible before it.
    assert outcome.kind == "accepted" and [visible(r) for r in world.data()] == [T0 + HOUR]
    with pytest.raises(NoSuchLease):
        await plane.play("plant", "another", T0 + 2 * HOUR, {**arrivals, "unheard-of": [incoming(b"{}")]})
    assert world.bus.records("quarantine") == []  # a call that is refused leaves nothing anywhere
    with pytest.raises(TooLarge):
        await plane.play("plant", lease, T0 + 2 * HOUR, {"readings": [incoming(b"{}")] * 10_001})


async def test_a_lane_that_a_definition_closed_takes_nothing_any_more_and_says_so(world):
    plane, lease = await started(world)
    (lane,) = [lane for lane in plane.lanes_of("plant") if lane.name == "repairs"]
    await plane.follow_definition("plant", Definition(2, "", project(sources=(SENSOR,))))
    with pytest.raises(Unavailable, match="just been closed"):
        await lane.append([], then_us=T0 + HOUR)
    _, ((told,),) = await plane.play("plant", lease, T0 + HOUR, {"repairs": [incoming(b"{}", "r")]})
    assert (told.kind, plane.now_us("plant")) == ("quarantined", T0 + HOUR)


async def test_the_lease_is_single_names_its_holder_and_runs_out(world):
    plane, lease = await started(world)
    with pytest.raises(ClockHeld, match="'test'"):
        await plane.acquire_clock("plant", "other", 30_000)
    world.wall_us += 31_000_000
    other = await plane.acquire_clock("plant", "other", 30_000)
    assert other.now_us == T0
    with pytest.raises(NoSuchLease, match="other"):
        await plane.clocks.advance("plant", lease, T0 + HOUR)
    await plane.clocks.release("plant", other.lease_id)
    await plane.acquire_clock("plant", "third", 30_000)


async def test_a_wall_clock_cannot_be_driven(world):
    plane = await world.start(project(Clock.WALL))
    with pytest.raises(WallClock):
        await plane.acquire_clock("plant", "test", 1_000)


async def test_wall_time_ignores_declared_availability_and_idle_partitions_hear_the_time(world):
    plane = await world.start(project(Clock.WALL))
    world.wall_us = T0
    await plane.publish("plant", "readings", [incoming(reading("s1", T0 - 1), "", 1)])
    (record,) = world.data()
    assert visible(record) == T0
    world.wall_us = T0 + 2_000_000
    await plane.beat()
    assert {r.partition for r in world.all() if visible(r) == T0 + 2_000_000} == {0, 1}
    before = len(world.all())
    await plane.beat()  # nobody is idle now
    assert len(world.all()) == before


async def test_a_window_accounts_for_accepted_and_refused_events_and_for_nothing(world):
    plane, lease = await started(world)
    values = [reading("s1", T0, degrees=d) for d in (10, 20, 30, 200)] + [reading("s1", T0, degrees="x", kind="warm")]
    await plane.publish("plant", "readings", [incoming(value) for value in values])
    await plane.clocks.advance("plant", lease, T0 + 6 * HOUR)
    windows = [ViolationWindow.FromString(r.data) for r in world.bus.records("data.violations")]
    by_source = {w.source: w for w in windows}
    assert by_source["repairs"].events == by_source["repairs"].quarantined == 0
    window = by_source["readings"]
    assert (window.window_start_us, window.window_end_us) == (T0, T0 + 6 * HOUR)
    assert (window.events, window.quarantined) == (5, 2)
    assert {(v.field, v.rule): v.events for v in window.violations} == {
        ("degrees", "range"): 1,
        ("degrees", "type"): 1,
        ("kind", "set"): 1,
    }
    # A text may name an entity, also one in a field of numbers: it is shown in the data docs alone.
    assert {(v.field, v.rule): v.example for v in window.violations} == {
        ("degrees", "range"): "200",
        ("degrees", "type"): "",
        ("kind", "set"): "",
    }
    profile = next(p for p in window.profiles if p.field == "degrees")
    assert (profile.events, profile.nulls, profile.mean, profile.min, profile.max, profile.distinct) == (
        5,
        1,
        65,
        10,
        200,
        4,
    )
    assert profile.std == pytest.approx(78.26237921)


async def test_after_a_kill_time_stays_monotone_repeats_are_known_and_windows_go_on(world):
    plane, lease = await started(world)
    await plane.publish("plant", "readings", [incoming(reading("s1", T0 + 5), "a", T0 + HOUR), incoming(b"bad")])
    await plane.clocks.advance("plant", lease, T0 + HOUR // 2)
    plane = await world.start()  # nothing was closed
    assert plane.now_us("plant") == T0 + HOUR // 2
    with pytest.raises(ClockHeld):
        await plane.acquire_clock("plant", "other", 1_000)
    outcomes = await plane.publish(
        "plant", "readings", [incoming(reading("s1", T0 + 5), "a"), incoming(reading("s1", T0 + 6), "b")]
    )
    assert [o.kind for o in outcomes] == ["duplicate", "accepted"]
    assert visible(world.data()[-1]) == T0 + HOUR
    await plane.clocks.advance("plant", lease, T0 + 6 * HOUR)
    windows = [ViolationWindow.FromString(r.data) for r in world.bus.records("data.violations")]
    assert next((w.events, w.quarantined) for w in windows if w.source == "readings") == (3, 1)


async def test_a_lost_broker_is_said_and_an_uncertain_append_is_read_back(world):
    plane, _ = await started(world)
    publish = world.bus.publish

    async def appended_but_not_acknowledged(messages):
        await publish(messages)
        raise BusUnavailable("no acknowledgement")

    world.bus.publish = appended_but_not_acknowledged
    with pytest.raises(BusUnavailable):
        await plane.publish("plant", "readings", [incoming(reading("s1", T0), "a")])
    world.bus.publish = publish
    assert [o.kind for o in await plane.publish("plant", "readings", [incoming(reading("s1", T0), "a")])] == [
        "duplicate"
    ]
    world.broker.available = False
    with pytest.raises(BusUnavailable):
        await plane.publish("plant", "readings", [incoming(reading("s1", T0), "b")])
    world.broker.available = True
    assert [o.kind for o in await plane.publish("plant", "readings", [incoming(reading("s1", T0), "b")])] == [
        "accepted"
    ]
    assert len(world.data()) == 2


async def test_a_restart_forgets_no_id_of_the_window(tmp_path):
    """Where one key has nearly all events, and where heartbeats lie between and behind them."""
    world = World(tmp_path, recent_ids=100)
    plane, lease = await started(world)
    sent = [incoming(reading("s1" if n % 20 else f"other{n}", T0 + n), f"e{n}") for n in range(130)]
    now_us = T0
    for first in range(0, 130, 10):
        assert {o.kind for o in await plane.publish("plant", "readings", sent[first : first + 10])} == {"accepted"}
        for _ in range(5):
            now_us += HOUR
            await plane.clocks.advance("plant", lease, now_us)
    for _ in range(40):
        now_us += HOUR
        await plane.clocks.advance("plant", lease, now_us)
    plane = await world.start()
    assert {o.kind for o in await plane.publish("plant", "readings", sent[30:])} == {"duplicate"}
    await world.stop()


async def test_the_newest_ids_are_those_that_came_last_whatever_the_clock_said(tmp_path):
    """At one tick all events have one visible time, and a partition may be ahead of another."""
    world = World(tmp_path, recent_ids=100)
    plane, _ = await started(world)
    for key, at_us in (("s1", T0 + HOUR // 60), ("other", T0), ("s2", T0)):
        before_ms = time.time_ns() // 1_000_000
        await until(lambda before_ms=before_ms: time.time_ns() // 1_000_000 > before_ms, what="another millisecond")
        sent = [incoming(reading(key, at_us), f"{key}{n}") for n in range(100)]
        assert {o.kind for o in await plane.publish("plant", "readings", sent)} == {"accepted"}
    tail = await BusTails(world.bus).read("data.plant.readings", 100)
    assert {f"s2{n}" for n in range(100)} <= set(tail.ids) and "s10" not in tail.ids
    await world.stop()


async def test_what_a_restart_reads_back_is_bounded(tmp_path):
    world = World(tmp_path, recent_ids=10)
    plane, lease = await started(world)
    early = [incoming(reading("s1", T0), "early")]
    await plane.publish("plant", "readings", early)
    for hour in range(1, 120):
        await plane.clocks.advance("plant", lease, T0 + hour * HOUR)
    plane = await world.start()
    assert [o.kind for o in await plane.publish("plant", "readings", early)] == ["accepted"]
    await world.stop()


async def test_an_append_that_failed_makes_nobody_forget_earlier_ids(tmp_path):
    """All of one key lie in one of two partitions."""
    world = World(tmp_path, recent_ids=100)
    plane, _ = await started(world)
    sent = [incoming(reading("s1", T0 + n), f"e{n}") for n in range(80)]
    assert {o.kind for o in await plane.publish("plant", "readings", sent)} == {"accepted"}
    world.broker.available = False
    with pytest.raises(BusUnavailable):
        await plane.publish("plant", "readings", [incoming(reading("s1", T0), "more")])
    world.broker.available = True
    assert {o.kind for o in await plane.publish("plant", "readings", sent[:40])} == {"duplicate"}
    assert len(world.data()) == 80
    await world.stop()


async def test_bounds_send_callers_away(tmp_path):
    world = World(tmp_path, max_waiting_events=10, max_request_events=8)
    plane, _ = await started(world)
    with pytest.raises(TooLarge):
        await plane.publish("plant", "readings", [incoming(reading("s1", T0))] * 9)
    calls = [
        plane.publish("plant", "readings", [incoming(reading(f"s{i}-{j}", T0)) for j in range(6)]) for i in range(4)
    ]
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert sum(isinstance(r, LaneFull) for r in results) == 3
    assert all(r.retry_after_ms > 0 for r in results if isinstance(r, LaneFull))
    await world.stop()


async def test_many_callers_share_appends_and_each_gets_its_own_answers(world):
    plane, _ = await started(world)
    calls = [plane.publish("plant", "readings", [incoming(reading(f"s{i}", T0), f"e{i}")]) for i in range(200)]
    results = await asyncio.gather(*calls)
    assert [r[0].id for r in results] == [f"e{i}" for i in range(200)]
    assert len(world.data()) == 200


async def test_a_changed_definition_changes_the_contract_and_a_gone_one_closes(world):
    from dataclasses import replace

    from millrace.runtime.definitions import Definition

    plane, _ = await started(world)
    one = project()
    narrow = replace(one.sources[0], fields=one.sources[0].fields[:2])
    await plane.follow_definition("plant", Definition(2, "", replace(one, sources=(narrow,))))
    assert plane.versions() == {"plant": 2} and plane.raw_topics() == ["raw.plant.readings"]
    assert [o.kind for o in await plane.publish("plant", "readings", [incoming(reading("s1", T0, degrees="x"))])] == [
        "accepted"
    ]
    await plane.follow_definition("plant", None)
    with pytest.raises(UnknownProject):
        await plane.publish("plant", "readings", [])
