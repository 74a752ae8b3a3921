"""An event that is too large to be carried: quarantined with its beginning, its neighbours accepted."""

import msgspec
import pytest
from millrace.bus.events import Event, Message
from millrace.wire.ingestion.v1.events_pb2 import Quarantined

from services.ingestion.entrypoints.consumer import raw_worker
from services.ingestion.handlers.judge import KEPT_BYTES, MAX_EVENT_BYTES, MAX_ID_CHARACTERS, Incoming
from tests.contract.bus.support import running
from tests.support.poll import until
from tests.unit.ingestion.world import T0, incoming, project, reading

LARGE = msgspec.json.encode(reading("s2", T0 - 1, note="x" * 5_000_000))


@pytest.fixture
async def plane(world):
    made = await world.start(project())
    lease = await made.acquire_clock("plant", "test", 30_000)
    await made.clocks.advance("plant", lease.lease_id, T0)
    return made


def letters(world) -> list[Quarantined]:
    return [Quarantined.FromString(record.data) for record in world.bus.records("quarantine")]


async def test_an_oversized_event_does_not_fail_its_neighbours(world, plane):
    events = [incoming(reading("s1", T0 - 1), "a"), incoming(LARGE, "b"), incoming(reading("s3", T0 - 1), "c")]
    outcomes = await plane.publish("plant", "readings", events)
    assert [outcome.kind for outcome in outcomes] == ["accepted", "quarantined", "accepted"]
    (letter,) = letters(world)
    assert (letter.event_id, letter.field, letter.rule) == ("b", "", "size")
    assert letter.payload == LARGE[:KEPT_BYTES]
    assert letter.reason == outcomes[1].reason
    assert f"{len(LARGE)} bytes" in letter.reason
    assert f"the first {KEPT_BYTES} are kept" in letter.reason


async def test_the_limit_is_met_exactly(world, plane):
    empty = len(msgspec.json.encode(reading("s", T0 - 1, x="")))
    for over, kind in ((0, "accepted"), (1, "quarantined")):
        event = incoming(reading("s", T0 - 1, x="x" * (MAX_EVENT_BYTES - empty + over)))
        (outcome,) = await plane.publish("plant", "readings", [event])
        assert outcome.kind == kind


async def test_decoded_rows_keys_and_ids_count_as_well(world, plane):
    key = "s" * (MAX_EVENT_BYTES // 2)  # fits into the JSON, but would travel three times
    row = Incoming(value=reading("s1", T0 - 1, kind="x" * MAX_EVENT_BYTES))
    for event in (row, incoming(reading(key, T0 - 1)), incoming(reading("s1", T0 - 1), "i" * (MAX_ID_CHARACTERS + 1))):
        (outcome,) = await plane.publish("plant", "readings", [event])
        assert (outcome.kind, outcome.field, len(outcome.id)) == ("quarantined", "", 32)
    assert [letter.rule for letter in letters(world)] == ["size"] * 3
    assert world.data() == []


async def test_an_oversized_event_of_an_unknown_source_fits_into_its_letter(world, plane):
    (outcome,) = await plane.publish("plant", "no" * 5_000_000, [incoming(LARGE, "i" * 5_000_000)])
    assert outcome.kind == "quarantined"
    (record,) = world.bus.records("quarantine")
    assert len(record.data) < 2 * MAX_EVENT_BYTES
    assert "are kept" in letters(world)[0].reason


async def test_an_oversized_raw_record_ends_in_quarantine_and_its_partition_moves_on(world, plane):
    for name, data in (("a", LARGE), ("b", msgspec.json.encode(reading("s1", T0 - 1)))):
        world.broker.append(Message("raw.plant.readings", Event(name, "t", "s", data), key=b"k"))
    worker = raw_worker(world.bus, plane)
    await worker.set_topics(plane.raw_topics())
    async with running(worker.run):
        await until(lambda: worker.handled_records == 2 and worker.lag_records == 0)
    assert [(letter.event_id, letter.rule) for letter in letters(world)] == [("a", "size")]
    assert [record.event.id for record in world.data()] == ["b"]
    assert worker.dead_letters == 0
