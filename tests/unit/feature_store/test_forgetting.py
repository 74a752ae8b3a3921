"""Forgetting in the feature store: as if the entity had never been, online, in history and in snapshots."""

import asyncio
import io
import json
from dataclasses import replace

import pyarrow as pa
import pytest
from millrace.bus.events import Event, Message
from millrace.bus.topics import load_topics
from millrace.client.features import Features
from millrace.runtime.forgetting import TOPIC
from millrace.runtime.forgotten import entity_digest
from millrace.stores.errors import ObjectMissing
from millrace.wire.ingestion.v1.forgetting_pb2 import Forget, Identity

from services.feature_store.errors import SnapshotSuperseded
from services.feature_store.handlers.training import Ask
from tests.support.poll import until
from tests.unit.feature_store.test_spines import served
from tests.unit.feature_store.world import HOUR_US, MINUTE_US, START_US, make, order, payment, running, values

ORDERS = [f"o{n}" for n in range(12)]
CUSTOMERS = ("ann", "bob", "cyd")
CUT_US = START_US + 3 * HOUR_US
ASK = Ask("shop", START_US, CUT_US, CUT_US, as_happened=False)


def request(entity: str, field: str = "order_id", phase: int = Forget.ASKED) -> Forget:
    """As ingestion asks."""
    digest = entity_digest(b"salt", entity)
    made = Forget(id=f"forget-{entity}", project="shop", phase=phase, salt=b"salt", sealed_us=1)
    for source in ("orders", "payments"):
        made.identities.append(Identity(source=source, field=field, entity=entity, digest=digest, cut_us=CUT_US))
    if field == "order_id":
        made.example.CopyFrom(made.identities[0])
    return made


def shopping(*, without: str = "") -> list[Message]:
    """Orders of three customers, each paid once; without those that name `without`."""
    messages = []
    for n in range(12):
        at_us, customer = START_US + n * 10 * MINUTE_US, CUSTOMERS[n % 3]
        messages.append(order(n, at_us, customer=customer))
        messages.append(payment(n, at_us + 5 * MINUTE_US, float(n * n), customer=customer))
    return [m for m in messages if without not in json.loads(m.event.data).values()]


async def told(world, *messages: Message, until_us: int = CUT_US) -> None:
    await world.publish(*messages, until_us=until_us)
    await until(lambda: world.store.watermarks_us() == {"shop": until_us} and world.history_has(until_us))


async def online(world, entities=ORDERS) -> dict[str, list]:
    return values(await world.store.reads.read("shop", list(entities), (), 0, 5.0))


async def keys_with(client, text: str) -> list[str]:
    return [key.decode() async for key in client.scan_iter() if text in key.decode()]


@pytest.mark.parametrize(("entity", "field"), [("o4", "order_id"), ("o0", "order_id"), ("bob", "customer")])
async def test_features_are_what_they_were_had_it_never_been(redis_client, entity, field):
    plain = await make(redis_client)
    async with running(plain):
        await told(plain, *shopping(without=entity))
        wanted = await online(plain)
    await redis_client.flushall()

    world = await make(redis_client)
    async with running(world):
        await told(world, *shopping())
        assert await online(world) != wanted
        done = await world.store.forgetting.obey(request(entity, field))
        assert await online(world) == wanted
        assert {s.store: s.deleted for s in done.stores}["feature_store: history rows"] == (
            8 if field == "customer" else 2
        )
        again = await world.store.forgetting.obey(request(entity, field))
        assert not any(s.deleted for s in again.stores), "a repeat finds nothing"
        assert await online(world) == wanted
    assert await keys_with(redis_client, f":of:{entity}") == []
    assert not any(entity in row.values() for rows in world.history.rows.values() for row in rows)


async def test_the_log_read_from_its_beginning_does_not_bring_it_back(redis_client):
    world = await make(redis_client)
    async with running(world):
        await told(world, *shopping())
        asked = request("o4")
        world.store.forgets.forgotten.put(asked)
        await world.store.forgetting.obey(asked)
        before = await online(world)
        await redis_client.flushall()
        await told(world, until_us=CUT_US + HOUR_US)  # the worker notices, and reads from the beginning
        after = await online(world)
        assert after["order.amount"] == before["order.amount"]
        assert await keys_with(redis_client, ":of:o4") == []

        await told(world, order(4, CUT_US + HOUR_US, amount=77.0), until_us=CUT_US + 2 * HOUR_US)
        assert (await online(world, ["o4"]))["order.amount"] == [77.0], "what comes later is a new life"
        await world.store.forgetting.obey(asked)
        assert (await online(world, ["o4"]))["order.amount"] == [77.0], "also when a request is obeyed once more"


async def test_copies_in_kept_shadows_go_whole(redis_client):
    world = await make(redis_client)
    world.shadows.kept = {"monday": "shop", "july": "shop", "other": "somebody else's"}
    async with running(world):
        await told(world, *shopping())
        done = await world.store.forgetting.obey(request("o4"))
        again = await world.store.forgetting.obey(request("o4"))
    (receipt,) = [s for s in done.stores if s.store == "feature_store: kept shadows"]
    assert (receipt.deleted, receipt.how) == (2, "dropped: july, monday")
    assert world.shadows.kept == {"other": "somebody else's"}
    assert not [s for s in again.stores if "shadows" in s.store]


async def test_a_room_that_was_away_obeys_before_it_reads_old_records(redis_client):
    world = await make(redis_client)
    await world.bus.ensure_topics(load_topics().static())
    done = request("o4", phase=Forget.DONE)
    for one in (*done.identities, done.example):
        one.entity = ""
    data = Event("1", "test", "test", done.SerializeToString())
    await world.bus.publish([Message(TOPIC, data, key=done.id.encode())])
    world.store.consumers.run_online = world.store.forgets.after(world.store.consumers.run_online)
    world.store.consumers.history.run = world.store.forgets.after(world.store.consumers.history.run)
    following = asyncio.ensure_future(world.store.forgets.run())
    try:
        async with running(world):
            await told(world, *shopping())
            assert (await online(world, ["o4", "o5"]))["order.amount"] == [None, 9.5]
    finally:
        following.cancel()
    assert await keys_with(redis_client, ":of:o4") == []


async def test_snapshots_are_rewritten_and_the_old_ones_say_by_what(redis_client):
    world = await make(redis_client, snapshot_chunk_rows=4)
    async with running(world):
        await told(world, *shopping())
        world.spines.examples = [(o, START_US + (n * 10 + 7) * MINUTE_US) for n, o in enumerate(ORDERS)]
        old = [step async for step in world.store.training.create(ASK)][-1]
        done = await world.store.forgetting.obey(request("o4"))
        (superseded,) = done.snapshots
        assert superseded.digest == old.digest
        with pytest.raises(SnapshotSuperseded, match=superseded.by):
            await anext(world.store.training.read(old.digest))
        with pytest.raises(ObjectMissing):
            await world.objects.get(old.digest)
        rows = await rows_of(world, superseded.by)
        assert rows["entity"].to_pylist() == [o for o in ORDERS if o != "o4"]
        assert len(world.objects.contents) == 4, "one manifest, three chunks, of which two are the old ones"
        assert (await world.store.forgetting.obey(request("o9"))).snapshots[0].digest == superseded.by
        assert (await world.store.forgetting.obey(request("o404"))).snapshots == []


async def test_a_name_under_a_heading_of_a_user_s_own_is_null_and_a_number_names_where_it_is_the_field(redis_client):
    spine = pa.table(
        {
            "entity": ["o1", "o2", "o3", "bob"],
            "moment": pa.array([START_US + 2 * HOUR_US] * 4, pa.timestamp("us", tz="UTC")),
            "buyer": ["ann", "bob", None, "cyd"],
            "ticket": [1, 2**53 + 1, 2**53, None],
            "rank": [1, 2**53, 2**53 + 1, 2**53 + 1],
        }
    )
    world = await make(redis_client)
    async with running(world):
        await told(world, *shopping())
        async with served(world) as address, Features(address, "shop") as features:
            first = await features.training_set(spine=spine)
            (named,) = (await world.store.forgetting.obey(request("bob", "customer"))).snapshots
            assert named.digest == first.digest
            rows = await rows_of(world, named.by)
            assert rows.select(["entity", "buyer", "rank"]).to_pydict() == {
                # o1 was bob's, as one of its features says; an example that is called bob is not the customer.
                "entity": ["o2", "o3", "bob"],
                "buyer": [None, None, "cyd"],
                "rank": [2**53, 2**53 + 1, 2**53 + 1],
            }
            (numbered,) = (await world.store.forgetting.obey(request(str(2**53 + 1), "ticket"))).snapshots
            assert numbered.digest == named.by
            rows = await rows_of(world, numbered.by)
            assert rows["ticket"].to_pylist() == [2**53, None]
            assert rows["rank"].to_pylist() == [2**53 + 1] * 2, "the same number under another heading is a coincidence"


async def rows_of(world, digest: str) -> pa.Table:
    data = b"".join([piece async for piece in world.store.training.read(digest)])
    return pa.ipc.open_stream(io.BytesIO(data)).read_all()


async def test_history_goes_when_its_source_says_so_by_the_project_s_clock(redis_client):
    world = await make(redis_client)
    short = [replace(s, retention_us=24 * HOUR_US) for s in world.project.sources]
    await world.learn(replace(world.project, sources=tuple(short)), 2)
    async with running(world):
        await told(world, *shopping())
        feed = world.store.feeds.topics["data.shop.orders"]
        assert await world.store.retention.expire(feed) == 0, "however long the wall has gone on"
        await told(world, until_us=START_US + 25 * HOUR_US)
        assert await world.store.retention.expire(feed) == 6
        assert len(world.history.rows[feed.table]) == 6
        assert await world.store.retention.expire(feed) == 0
