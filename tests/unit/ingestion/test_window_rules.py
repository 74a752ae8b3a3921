"""Rules of whole windows through the plane: what is published when one ends, and what outlives a restart."""

from dataclasses import replace

import pytest
from millrace.bus.events import Event, Message
from millrace.definitions.model import Clock, Field, FieldType, Reference, Source
from millrace.runtime.definitions import Definition
from millrace.wire.ingestion.v1.events_pb2 import ViolationWindow

from services.ingestion.handlers.docs import DataDocs
from services.ingestion.handlers.messages import data
from tests.unit.ingestion.world import HOUR, T0, incoming, project

SENSORS = Source(
    "sensors",
    "plant.sensor.placed",
    "id",
    "at",
    (Field("id", FieldType.STRING, required=True), Field("at", FieldType.TIMESTAMP, required=True)),
)
READINGS = Source(
    "readings",
    "plant.reading.taken",
    "reading",
    "at",
    (
        Field("reading", FieldType.STRING, required=True, unique=True),
        Field("at", FieldType.TIMESTAMP, required=True),
        Field("sensor", FieldType.STRING, references=Reference("sensors", "id")),
        Field("degrees", FieldType.NUMBER, max_null_share=0.1),
    ),
    freshness_us=2 * HOUR,
)
PLANT = project(sources=(SENSORS, READINGS))
WINDOW = 6 * HOUR


class Driver:
    """A leased clock over a world."""

    def __init__(self, world, lease):
        self.world, self.lease, self.version = world, lease, 1

    async def move(self, now_us: int) -> None:
        await self.world.plane.clocks.advance("plant", self.lease.lease_id, now_us)

    async def sensors(self, *names: str, at: int) -> None:
        await self._publish("sensors", [{"id": name, "at": at} for name in names], at)

    async def readings(self, *rows: dict, at: int) -> None:
        await self._publish("readings", [{"at": at, **row} for row in rows], at)

    async def _publish(self, source: str, rows: list[dict], at: int) -> None:
        events = [incoming(row, f"{source}-{at}-{i}") for i, row in enumerate(rows)]
        outcomes = await self.world.plane.publish("plant", source, events)
        assert {outcome.kind for outcome in outcomes} == {"accepted"}

    def windows(self, source: str = "readings") -> list[ViolationWindow]:
        told = [ViolationWindow.FromString(r.data) for r in self.world.bus.records("data.violations")]
        return [window for window in told if window.source == source]

    def findings(self, place: int = -1) -> dict:
        return {(f.field, f.rule): f for f in self.windows()[place].findings}


async def driver(world, *projects) -> Driver:
    await world.start(*(projects or (PLANT,)))
    await world.books.filled()
    lease = await world.plane.acquire_clock("plant", "test", 60_000)
    made = Driver(world, lease)
    await made.move(T0)
    return made


async def test_a_window_tells_what_its_rules_measured_and_refuses_nothing(world):
    drive = await driver(world)
    await drive.readings({"reading": "a", "sensor": "s1", "degrees": 3}, {"reading": "a", "sensor": "s9"}, at=T0)
    await drive.readings(*({"reading": f"r{i}", "sensor": "s1"} for i in range(30)), at=T0 + 1)
    await drive.sensors("s1", at=T0 + 2)  # after those that refer to it, within the window
    await drive.move(T0 + WINDOW)
    found = drive.findings()
    # Texts may name an entity: an event, and whatever alert comes of it, could not take them back.
    assert (found["reading", "unique"].measured, found["reading", "unique"].example) == (1, "")
    assert (found["sensor", "references"].measured, found["sensor", "references"].example) == (1, "")
    (lane,) = [lane for lane in world.plane.lanes_of("plant") if lane.name == "readings"]
    shown = {(f.field, f.rule): f.example for _, f in lane.watch.days.at(T0).findings}
    assert (shown["reading", "unique"], shown["sensor", "references"]) == ("a", "s9")  # as the data docs have it
    assert found["degrees", "null_share"].measured == pytest.approx(31 / 32)
    assert found["", "freshness"].measured == pytest.approx(WINDOW / 1e6)
    assert all(f.is_broken for f in found.values())
    window = drive.windows()[-1]
    assert (window.events, window.quarantined) == (32, 0)
    assert {(v.field, v.rule, v.events) for v in window.violations} == {
        ("reading", "unique", 1),
        ("sensor", "references", 1),
        ("degrees", "null_share", 31),
        ("", "freshness", 1),
    }


async def test_a_window_that_keeps_its_rules_says_so(world):
    drive = await driver(world)
    await drive.sensors("s1", at=T0)
    for hour in range(6):
        rows = [{"reading": f"{hour}-{i}", "sensor": "s1", "degrees": 1.0} for i in range(5)]
        await drive.readings(*rows, at=T0 + hour * HOUR)
        await drive.move(T0 + (hour + 1) * HOUR)
    found = drive.findings()
    assert len(found) == 4 and not any(f.is_broken for f in found.values())
    assert found["", "freshness"].measured == pytest.approx(HOUR / 1e6)
    assert not drive.windows()[-1].violations


@pytest.mark.parametrize("is_killed", [True, False])
async def test_what_is_referred_to_is_known_after_a_restart(world, is_killed):
    drive = await driver(world)
    await drive.sensors("s1", "s2", at=T0)
    if not is_killed:
        await world.plane.close()
    await world.start()
    await world.books.filled()
    assert world.books.filling() == []
    await drive.readings({"reading": "a", "sensor": "s2"}, {"reading": "b", "sensor": "s3"}, at=T0 + 5)
    await drive.move(T0 + WINDOW)
    found = drive.findings()["sensor", "references"]
    assert (found.measured, found.example, found.note) == (1, "", "")


async def test_a_rule_that_is_new_reads_the_whole_past_first(world):
    plain = replace(READINGS, fields=tuple(replace(f, references=None) for f in READINGS.fields))
    drive = await driver(world, project(sources=(SENSORS, plain)))
    await drive.sensors("old", at=T0)
    await drive.move(T0 + WINDOW)
    await world.plane.follow_definition("plant", Definition(2, "", PLANT))
    await world.books.filled()
    await drive.readings({"reading": "a", "sensor": "old"}, {"reading": "b", "sensor": "new"}, at=T0 + WINDOW + 1)
    await drive.move(T0 + 2 * WINDOW)
    assert drive.findings()["sensor", "references"].measured == 1
    await world.plane.follow_definition("plant", Definition(3, "", project(sources=(SENSORS, plain))))
    assert await world.books._store.load(("plant", "sensors", "id")) == ([], False)


async def test_counts_of_an_open_window_outlive_a_kill(world):
    drive = await driver(world)
    await drive.readings({"reading": "a"}, {"reading": "a"}, at=T0 + 1)
    await drive.move(T0 + HOUR)
    await world.start()
    await drive.readings({"reading": "a"}, at=T0 + HOUR + 1)
    await drive.move(T0 + WINDOW)
    found = drive.findings()
    assert found["reading", "unique"].measured == 1 and "restart" in found["reading", "unique"].note
    assert found["degrees", "null_share"].events == 3
    assert found["", "freshness"].measured == pytest.approx(5 * HOUR / 1e6, rel=1e-3)


async def test_another_contract_watches_from_then_on(world):
    drive = await driver(world)
    await drive.readings({"reading": "a"}, {"reading": "a"}, at=T0)
    fields = tuple(replace(f, unique=False, max_null_share=None) for f in READINGS.fields)
    calm = project(sources=(SENSORS, replace(READINGS, fields=fields, freshness_us=0)))
    await world.plane.follow_definition("plant", Definition(2, "", calm))
    await drive.move(T0 + WINDOW)
    assert set(drive.findings()) == {("sensor", "references")}


async def test_days_are_kept_over_restarts_and_told(world):
    drive = await driver(world)
    await drive.sensors("s1", at=T0)
    await drive.readings(*({"reading": f"{i}", "sensor": "s1", "degrees": i} for i in range(40)), at=T0)
    await world.plane.publish("plant", "readings", [incoming({"reading": "x"}), incoming({"reading": "y", "at": "z"})])
    await drive.move(T0 + WINDOW)
    await world.plane.close()
    await world.start()
    await drive.readings({"reading": "later", "sensor": "nobody"}, at=T0 + WINDOW)
    for hour in range(7, 27):
        await drive.move(T0 + hour * HOUR)
    docs = await DataDocs(world.plane, world.plane._outside.notes).source("plant", "readings")
    assert [(row.start_us, row.events, row.quarantined, row.broken) for row in docs.days] == [(T0, 43, 2, 5)]
    assert docs.day is not None and docs.day.fields["degrees"].numbers == 40
    assert {(name, rule) for name, rule in docs.day.broken} == {("at", "required"), ("at", "type")}
    assert [(f.field, f.rule) for _, f in docs.day.findings].count(("sensor", "references")) == 1
    assert len(docs.day.windows) == 4 and docs.version == 1


async def test_an_idle_source_on_the_wall_clock_is_stale_by_itself(world):
    await world.start(project(Clock.WALL, "live", (SENSORS, READINGS)))
    world.wall_us = T0
    await world.plane.beat()
    for _ in range(3):
        world.wall_us += WINDOW
        await world.plane.beat()
    told = [ViolationWindow.FromString(r.data) for r in world.bus.records("data.violations")]
    stale = [f for w in told if w.source == "readings" for f in w.findings if f.rule == "freshness"]
    assert [f.is_broken for f in stale] == [True, True, True]
    assert [f.measured for f in stale] == [pytest.approx(n * WINDOW / 1e6) for n in (1, 2, 3)]


async def test_records_that_are_no_rows_do_not_stop_the_filling(world):
    plain = replace(READINGS, fields=tuple(replace(f, references=None) for f in READINGS.fields))
    await world.start(project(sources=(SENSORS, plain)))
    odd = Event("odd", "foreign", "test", b"\xff not json")
    await world.bus.publish([Message("data.plant.sensors", odd, b"k", 0)])
    await world.plane.follow_definition("plant", Definition(2, "", PLANT))
    await world.books.filled()
    assert world.books.of("plant")["sensors", "id"].is_whole


def test_records_say_which_definition_wrote_them():
    from services.ingestion.domain.contracts import Contract, Row
    from services.ingestion.handlers.judge import judge

    judged = judge(Contract(SENSORS, b"s", 7), incoming({"id": "a", "at": T0}), T0, T0)
    assert isinstance(judged.verdict, Row)
    message = data("data.plant.sensors", 0, "t", judged, "a", T0, T0, ("", ""))
    assert message.event.extensions["schema_version"] == "7"


async def test_what_waits_to_be_looked_at_is_bounded_by_bytes(world):
    drive = await driver(world)
    watch = world.plane.lanes_of("plant")[1].watch
    await drive.readings(*({"reading": f"{i}", "sensor": "x" * 200_000} for i in range(40)), at=T0)
    assert len(watch._waiting.rows) == 0 and watch.days.open_days()[0].events == 40
