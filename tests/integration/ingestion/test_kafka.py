"""Ingestion over the real broker: order, repeats and monotone time across a restart without goodbye."""

import time
import uuid
from dataclasses import replace

import pytest
from aiokafka import AIOKafkaProducer
from millrace.bus.kafka import KafkaBus
from millrace.bus.ports import TopicSpec
from millrace.stores.sql import Database
from millrace.wire.ingestion.v1.events_pb2 import ViolationWindow

from services.ingestion.adapters.keys_sql import SqlKeys
from services.ingestion.adapters.ledger_sql import SqlLedger
from services.ingestion.adapters.profiles_sql import SqlProfiles
from services.ingestion.adapters.references_store import ReferenceStore
from services.ingestion.adapters.tails_bus import BusTails
from services.ingestion.handlers.notes import Notes
from services.ingestion.handlers.plane import Ingestion, Limits, Outside
from services.ingestion.handlers.references import ReferenceBooks
from tests.support.topics import partitioned
from tests.unit.ingestion.test_window_rules import READINGS, SENSORS
from tests.unit.ingestion.world import HOUR, MIGRATIONS, T0, incoming, project, reading

pytestmark = pytest.mark.stack
NAME = "plant-on-kafka"


async def plane_over(bus, folder, one=None):
    from millrace.runtime.definitions import Definition

    database = Database(f"sqlite:///{folder / 'ingestion.db'}", room="ingestion")
    await database.start(MIGRATIONS)
    topics = partitioned()
    await bus.ensure_topics(topics.static())
    books = ReferenceBooks(ReferenceStore(database, bus), 1_000)
    notes = Notes(SqlProfiles(database, 10), books)
    outside = Outside(bus, SqlLedger(database), BusTails(bus), topics, notes, SqlKeys(database))
    plane = Ingestion(outside, Limits(), lambda: time.time_ns() // 1000)
    await plane.open(b"s")
    one = one or project(name=NAME)
    await plane.follow_definition(one.name, Definition(1, "", one))
    await books.filled()
    return plane, database


def without_references(source):
    return tuple(replace(field, references=None) for field in source.fields)


async def records(bus, topic):
    reader = bus.reader([topic])
    await reader.start()
    found = []
    while await reader.behind():
        found += [r for batch in await reader.poll(5000, 200) for r in batch.records]
    await reader.stop()
    return found


async def test_time_is_monotone_and_repeats_are_known_after_a_kill(stack, tmp_path):
    bus = KafkaBus(stack.kafka, "test-ingestion")
    plane, database = await plane_over(bus, tmp_path)
    lease = await plane.acquire_clock(NAME, "test", 60_000)
    await plane.clocks.advance(NAME, lease.lease_id, T0)
    events = [incoming(reading(f"s{i}", T0 + i), f"e{i}", T0 + 10 * i) for i in range(3000)]
    outcomes = await plane.publish(NAME, "readings", events)
    assert {o.kind for o in outcomes} == {"accepted"}
    await plane.clocks.advance(NAME, lease.lease_id, T0 + HOUR)

    again, second_database = await plane_over(bus, tmp_path)  # the first one never said goodbye
    outcomes = await again.publish(NAME, "readings", events[-500:])
    assert {o.kind for o in outcomes} == {"duplicate"}
    await again.publish(NAME, "readings", [incoming(reading("s1", T0), "late", T0)])

    found = await records(bus, f"data.{NAME}.readings")
    assert len([r for r in found if r.key]) == 3001
    for partition in (0, 1):
        stamps = [int(r.header("visible_us")) for r in found if r.partition == partition]
        assert stamps == sorted(stamps) and stamps[-1] >= T0 + HOUR
    for one in (plane, again):
        await one.close()
    for one in (database, second_database):
        await one.stop()
    await bus.stop()


async def test_values_that_are_referred_to_are_read_back_from_the_topic(stack, tmp_path):
    name = f"refs-{uuid.uuid4().hex[:8]}"
    bus = KafkaBus(stack.kafka, "test-references")
    plain = project(name=name, sources=(SENSORS, replace(READINGS, fields=without_references(READINGS))))
    plane, first = await plane_over(bus, tmp_path, plain)
    lease = await plane.acquire_clock(name, "test", 60_000)
    await plane.clocks.advance(name, lease.lease_id, T0)
    sensors = [incoming({"id": f"s{i}", "at": T0}, f"s{i}") for i in range(3_000)]
    assert {o.kind for o in await plane.publish(name, "sensors", sensors)} == {"accepted"}

    again, second = await plane_over(bus, tmp_path, project(name=name, sources=(SENSORS, READINGS)))
    readings = [incoming({"reading": f"r{i}", "at": T0, "sensor": f"s{i}"}, f"r{i}") for i in range(2_990, 3_010)]
    await again.publish(name, "readings", readings)
    await again.clocks.advance(name, lease.lease_id, T0 + 6 * HOUR)
    told = [ViolationWindow.FromString(r.data) for r in await records(bus, "data.violations")]
    (found,) = [f for w in told if w.project == name for f in w.findings if f.rule == "references" and f.events]
    assert (found.measured, found.events, found.note) == (10, 20, "")
    await again.close()
    for database in (first, second):
        await database.stop()
    await bus.stop()


async def test_what_came_raw_carries_the_brokers_time_also_in_a_topic_that_was_there(stack, tmp_path):
    """A producer's own time would be past retention at once, or before an entity was forgotten."""
    name = f"plant-{uuid.uuid4().hex[:8]}"
    topic = f"raw.{name}.readings"
    bus = KafkaBus(stack.kafka, "test-raw")
    await bus.ensure_topics([TopicSpec(topic, 2)])  # as an earlier version made it
    plane, database = await plane_over(bus, tmp_path, project(name=name))
    producer = AIOKafkaProducer(bootstrap_servers=stack.kafka)
    await producer.start()
    try:
        for number in range(2):
            await producer.send_and_wait(topic, b"{}", partition=number, timestamp_ms=1_000 * number)
    finally:
        await producer.stop()
    now_ms = time.time_ns() // 1_000_000
    stamps = [record.timestamp_ms for record in await records(bus, topic)]
    assert len(stamps) == 2 and all(now_ms - 60_000 < stamp <= now_ms + 60_000 for stamp in stamps)
    await plane.close()
    await database.stop()
    await bus.stop()
