"""Forgetting at the desk: what is asked of the rooms, what moves a request on, what is kept of it."""

import json
from dataclasses import replace

import pytest
from millrace.bus.effects import Effects
from millrace.bus.events import Batch, Record
from millrace.definitions.model import Clock, Field, FieldType, Pii
from millrace.runtime.definitions import Definition
from millrace.runtime.errors import Invalid
from millrace.runtime.forgetting import receipt_message
from millrace.runtime.forgotten import Forgotten
from millrace.wire.ingestion.v1.forgetting_pb2 import Forget, ForgetReceipt, StoreReceipt, Superseded

from services.ingestion.adapters.forgets_sql import SqlForgets
from services.ingestion.errors import NoSuchRequest, NotForgettable, UnknownProject, Unreadable
from services.ingestion.handlers.forgetting import ROOMS, ForgetDesk
from services.ingestion.handlers.lanes import ACCEPTED
from services.ingestion.handlers.revealing import RevealDesk
from tests.support.topics import partitioned
from tests.unit.ingestion.world import HOUR, SENSOR, T0, World, incoming, project, reading

SECRET = b"s" * 32


@pytest.fixture
async def world(tmp_path):
    made = World(tmp_path)
    await made.start(project())
    yield made
    await made.stop()


async def desk_of(world: World) -> ForgetDesk:
    desk = ForgetDesk(
        world.plane,
        world.bus,
        SqlForgets(world.database),
        world.keys,
        world.notes,
        partitioned(),
        lambda: world.wall_us,
    )
    await desk.open(SECRET)
    return desk


def requests(world: World) -> list[Forget]:
    """What the topic says, oldest first."""
    return [Forget.FromString(r.data) if r.data else Forget() for r in world.bus.records("data.forget")]


async def answer(world: World, desk: ForgetDesk, rooms, phase, **stores) -> None:
    """Receipts of these rooms, through the topic."""
    request = requests(world)[-1]
    world.wall_us += 1_000_000
    receipts = [
        ForgetReceipt(id=request.id, room=room, replica=room, phase=phase, answered_us=world.wall_us,
                      stores=[StoreReceipt(store=f"{room}: rows", deleted=3, gone_by_us=world.wall_us)], **stores)
        for room in rooms
    ]  # fmt: skip
    before = len(world.bus.records("data.forgotten"))
    await world.bus.publish([receipt_message(r) for r in receipts])
    records = world.bus.records("data.forgotten")[before:]
    await desk.on_receipts(Batch("data.forgotten", 0, tuple(records)), Effects("ingestion", lambda: world.wall_us))


async def test_a_request_goes_on_only_when_every_room_has_answered(world):
    desk = await desk_of(world)
    status = await desk.ask("plant", "pump-1", [], "asked by its owner", "ann")
    assert status.phase == Forget.ASKED
    assert list(status.missing) == list(ROOMS)
    (told,) = requests(world)
    assert {(i.field, i.entity) for i in told.identities} >= {(told.example.field, "pump-1")}

    await answer(world, desk, ROOMS[:-1], Forget.ASKED)
    assert list((await desk.status(status.id)).missing) == [ROOMS[-1]]
    assert len(requests(world)) == 1
    await answer(world, desk, ROOMS[-1:], Forget.ASKED, snapshots=[Superseded(digest="a", by="b")])
    swept = requests(world)[-1]
    assert (swept.phase, swept.snapshots[0].by) == (Forget.SWEPT, "b")
    assert swept.sealed_us > told.sealed_us

    await answer(world, desk, ROOMS, Forget.SWEPT)
    done = requests(world)[-1]
    assert done.phase == Forget.DONE
    assert not done.example.entity
    assert not any(one.entity for one in done.identities)
    kept = Forgotten()
    kept.put(done)
    assert kept.is_example("plant", "pump-1", told.example.cut_us, 0), "its digest is known"
    final = await desk.status(status.id)
    assert final.is_intact
    assert final.done_us
    assert final.gone_by_us > final.done_us, "topics hold it for longer"
    assert b"pump-1" not in final.SerializeToString()
    assert b"pump-1" not in (world.folder / "ingestion.db").read_bytes()


async def test_the_proof_does_not_fit_a_record_that_was_changed(world):
    desk = await desk_of(world)
    ids = []
    for entity in ("pump-1", "pump-2"):
        ids.append((await desk.ask("plant", entity, [], "asked", "ann")).id)
        await answer(world, desk, ROOMS, Forget.ASKED)
        await answer(world, desk, ROOMS, Forget.SWEPT)
    assert all([(await desk.status(i)).is_intact for i in ids])
    async with world.database.transaction() as transaction:
        await transaction.execute("UPDATE forgets SET reason = 'another' WHERE id = :id", {"id": ids[1]})
    assert [(await desk.status(i)).is_intact for i in ids] == [True, False]
    async with world.database.transaction() as transaction:
        await transaction.execute("UPDATE forgets SET proof = 'x' WHERE id = :id", {"id": ids[0]})
    assert not (await desk.status(ids[1])).is_intact, "each proof stands on the one before"


async def test_asking_again_finds_the_request_that_is_under_way(world):
    desk = await desk_of(world)
    first = await desk.ask("plant", "pump-1", [], "asked", "ann")
    assert (await desk.ask("plant", "pump-1", [], "asked", "bob")).id == first.id
    assert (await desk.ask("plant", "pump-2", [], "asked", "bob")).id != first.id
    assert [s.id for s in await desk.all("plant", "pump-1")] == [first.id]
    assert await desk.all("plant", "pump-3") == []


async def test_asking_under_another_name_is_another_request(world):
    desk = await desk_of(world)
    by_field = await desk.ask("plant", "hot", ["kind"], "asked", "ann")
    by_entity = await desk.ask("plant", "hot", [], "asked", "ann")  # what the first one does not name
    assert by_entity.id != by_field.id
    assert {identity.field for identity in requests(world)[-1].identities} == {"sensor"}
    assert (await desk.ask("plant", "hot", ["kind"], "again", "bob")).id == by_field.id
    assert (await desk.ask("plant", "hot", [], "again", "bob")).id == by_entity.id


async def test_what_could_not_be_told_is_told_later_also_by_the_next_process(world):
    desk = await desk_of(world)
    await desk.ask("plant", "pump-1", [], "asked", "ann")
    await answer(world, desk, ROOMS[1:], Forget.ASKED)
    await world.plane.close()
    await world.start()
    again = await desk_of(world)
    assert world.plane.forgotten
    await answer(world, again, ROOMS[:1], Forget.ASKED)
    assert requests(world)[-1].phase == Forget.SWEPT


async def test_digests_are_let_go_when_the_longest_topic_has(world):
    desk = await desk_of(world)
    status = await desk.ask("plant", "pump-1", [], "asked", "ann")
    await answer(world, desk, ROOMS, Forget.ASKED)
    await answer(world, desk, ROOMS, Forget.SWEPT)
    await desk.tick()
    assert requests(world)[-1].phase == Forget.DONE
    world.wall_us = (await desk.status(status.id)).gone_by_us + 1
    await desk.tick()
    assert world.bus.records("data.forget")[-1].data == b""
    assert not world.plane.forgotten
    assert (await desk.status(status.id)).is_intact, "the proof stays"


@pytest.mark.parametrize(
    ("ask", "error"),
    [
        (("nothing", "pump-1", [], "asked", ""), UnknownProject),
        (("plant", "pump-1", ["nonsense"], "asked", ""), NotForgettable),
        (("plant", "pump-1", [], " ", ""), Invalid),
        (("plant", "", [], "asked", ""), Invalid),
    ],
)
async def test_a_question_that_cannot_be_answered_is_refused(world, ask, error):
    desk = await desk_of(world)
    with pytest.raises(error):
        await desk.ask(*ask)
    assert requests(world) == []
    with pytest.raises(NoSuchRequest):
        await desk.status("unknown")


async def test_the_cut_lies_between_what_was_and_what_comes(world):
    desk = await desk_of(world)
    lease = await world.plane.acquire_clock("plant", "test", 60_000)
    await world.plane.play(
        "plant", lease.lease_id, T0 + HOUR, {"readings": [incoming(reading("pump-1", T0), available_us=T0 + 1)]}
    )
    await desk.ask("plant", "pump-1", [], "asked", "ann")
    (request,) = requests(world)
    (outcome,) = await world.plane.publish("plant", "readings", [incoming(reading("pump-1", T0 + 1))])
    assert outcome.kind == ACCEPTED
    old, new = sorted(world.data(), key=lambda r: int(r.header("visible_us")))
    known = Forgotten()
    known.put(request)
    assert [known.is_row("plant", "readings", json.loads(r.data), int(r.header("visible_us"))) for r in (old, new)] == [
        True,
        False,
    ]


async def test_a_hashed_name_is_found_by_what_its_producer_calls_it(world):
    desk = await desk_of(world)
    lease = await world.plane.acquire_clock("plant", "test", 60_000)
    events = [incoming(reading("pump-1", T0, operator=name), available_us=T0 + 1) for name in ("ann", "bob")]
    await world.plane.play("plant", lease.lease_id, T0 + HOUR, {"readings": events})
    await desk.ask("plant", "ann", ["operator"], "asked", "admin")
    (request,) = requests(world)
    assert not request.HasField("example"), "operators are not what is predicted about"
    known = Forgotten()
    known.put(request)
    found = [known.is_row("plant", "readings", json.loads(r.data), int(r.header("visible_us"))) for r in world.data()]
    assert sorted(found) == [False, True]
    with pytest.raises(NotForgettable):
        await desk.ask("plant", "0123456789", ["phone"], "a masked value names nobody", "admin")


async def test_projects_hash_the_same_name_differently(world):
    await world.plane.follow_definition("mill", Definition(1, "", project(clock=Clock.WALL, name="mill")))
    await world.plane.follow_definition("works", Definition(1, "", project(clock=Clock.WALL, name="works")))
    hashes = set()
    for name in ("mill", "works"):
        await world.plane.publish(name, "readings", [incoming(reading("pump-1", T0, operator="ann"))])
        hashes.add(json.loads(world.data(name=name)[0].data)["operator"])
    assert len(hashes) == 2


async def test_what_waited_in_a_raw_topic_is_not_let_in_afterwards(world):
    desk = await desk_of(world)
    lease = await world.plane.acquire_clock("plant", "test", 60_000)
    await world.plane.play("plant", lease.lease_id, T0 + HOUR, {})
    bodies = [json.dumps(reading(sensor, T0)).encode() for sensor in ("pump-1", "pump-2")]
    records = [
        Record("raw.plant.readings", 0, offset, None, (), body, world.wall_us // 1000)
        for offset, body in enumerate(bodies)
    ]
    world.wall_us += 1_000_000
    await desk.ask("plant", "pump-1", [], "asked", "ann")
    effects = Effects("ingestion", lambda: world.wall_us)
    await world.plane.on_raw(Batch("raw.plant.readings", 0, tuple(records)), effects)
    assert [json.loads(r.data)["sensor"] for r in world.data()] == ["pump-2"]
    back = Record("raw.plant.readings", 0, 5, None, (), bodies[0], world.wall_us // 1000 + 1000, via="retry.ingestion")
    await world.plane.on_raw(Batch("raw.plant.readings", 0, (back,), via="retry.ingestion"), effects)
    assert len(world.data()) == 1, "a dead letter that is handed back was sent before"
    later = Record("raw.plant.readings", 0, 9, None, (), bodies[0], world.wall_us // 1000 + 1000)
    await world.plane.on_raw(Batch("raw.plant.readings", 0, (later,)), effects)
    assert sorted(json.loads(r.data)["sensor"] for r in world.data()) == ["pump-1", "pump-2"], "a new life"


SECRET_SENSOR = replace(SENSOR, fields=(*SENSOR.fields, Field("address", FieldType.STRING, pii=Pii.ENCRYPT)))


async def sealed(world: World, *sensors: str, address: str = "Mill Lane 1") -> list[str]:
    """Published with an address each; what the topic says of it."""
    await world.plane.follow_definition(
        "works", Definition(1, "", project(clock=Clock.WALL, name="works", sources=(SECRET_SENSOR,)))
    )
    events = [incoming(reading(s, T0 + i, address=address)) for i, s in enumerate(sensors)]
    before = len(world.data(name="works"))
    assert {o.kind for o in await world.plane.publish("works", "readings", events)} == {ACCEPTED}
    records = sorted(world.data(name="works"), key=lambda r: (r.timestamp_ms, r.offset))[before:]
    return [json.loads(r.data)["address"] for r in records]


async def test_encrypted_fields_leave_the_door_unreadable_and_are_shown_to_those_who_may(world):
    values = await sealed(world, "pump-1", "pump-2", "pump-1")
    assert all(v.startswith("enc:1:") for v in values)
    assert len(set(values)) == 2, "the same text of the same entity is the same, of another it is not"
    assert all(b"Mill Lane" not in r.data for r in world.data(name="works"))
    reveals = RevealDesk(world.plane, SqlForgets(world.database), world.keys, lambda: world.wall_us)
    reveals.open(SECRET)
    ours = next(r for r in world.data(name="works") if b"pump-1" in r.data)
    value = {"address": json.loads(ours.data)["address"]}
    assert await reveals.reveal("works", "readings", "pump-1", value, "case 42", "ann") == {"address": "Mill Lane 1"}
    for source, entity, fields in (
        ("readings", "pump-2", value),  # another entity's key
        ("readings", "pump-3", value),  # nobody
        ("readings", "pump-1", {"operator": "x"}),  # not encrypted
        ("readings", "pump-1", {"address": "plain"}),
    ):
        with pytest.raises(Unreadable):
            await reveals.reveal("works", source, entity, fields, "case 42", "ann")
    with pytest.raises(Invalid):
        await reveals.reveal("works", "readings", "pump-1", value, "", "ann")
    (noted,) = await reveals.revealed("works")
    assert (noted.actor, noted.reason, noted.fields) == ("ann", "case 42", ("address",))


async def test_forgetting_destroys_the_key_and_a_new_life_gets_another(world):
    (old,) = await sealed(world, "pump-1")
    desk = await desk_of(world)
    await desk.ask("works", "pump-1", [], "asked", "ann")
    with pytest.raises(Unreadable, match="forgotten"):
        await world.keys.unseal("works", "pump-1", {"works/readings/address": old})
    (new,) = await sealed(world, "pump-1")
    assert new != old
    assert await world.keys.unseal("works", "pump-1", {"works/readings/address": new}) == {
        "works/readings/address": "Mill Lane 1"
    }
    with pytest.raises(Unreadable):
        await world.keys.unseal("works", "pump-1", {"works/readings/address": old})


async def test_data_docs_show_a_forgotten_entity_no_more(world):
    both = [incoming(reading(sensor, T0), available_us=T0 + 1) for sensor in ("pump-1", "pump-2")]
    await world.plane.publish("plant", SENSOR.name, both)
    await world.notes.close()
    [lane] = [lane for lane in world.plane.lanes_of("plant") if lane.name == SENSOR.name]
    day_us = (await world.notes.days(lane, 1))[0].start_us
    assert "pump-1" in str((await world.notes.day(lane, day_us)).to_state())
    await (await desk_of(world)).ask("plant", "pump-1", [], "asked by its owner", "ann")
    assert "pump-1" not in str((await world.notes.day(lane, day_us)).to_state())
    async with world.database.read() as reading_:
        kept = await reading_.rows("SELECT state FROM day_profiles")
    assert kept and not [row for row in kept if "pump-1" in row["state"]]
    assert [row for row in kept if "pump-2" in row["state"]]
