"""Ingestion over the real broker: order, repeats and monotone time across a restart without goodbye."""

import time

import pytest
from millrace.bus.kafka import KafkaBus
from millrace.stores.sql import Database

from services.ingestion.adapters.keys_sql import SqlKeys
from services.ingestion.adapters.ledger_sql import SqlLedger
from services.ingestion.adapters.tails_bus import BusTails
from services.ingestion.handlers.plane import Ingestion, Limits, Outside
from tests.support.topics import partitioned
from tests.unit.ingestion.world import HOUR, MIGRATIONS, T0, incoming, project, reading

pytestmark = pytest.mark.stack
NAME = "plant-on-kafka"


async def plane_over(bus, folder):
    from millrace.runtime.definitions import Definition

    database = Database(f"sqlite:///{folder / 'ingestion.db'}", room="ingestion")
    await database.start(MIGRATIONS)
    topics = partitioned()
    await bus.ensure_topics(topics.static())
    outside = Outside(bus, SqlLedger(database), BusTails(bus), topics, SqlKeys(database))
    plane = Ingestion(outside, Limits(), lambda: time.time_ns() // 1000)
    await plane.open(b"s")
    await plane.follow_definition(NAME, Definition(1, "", project(name=NAME)))
    return plane, database


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
