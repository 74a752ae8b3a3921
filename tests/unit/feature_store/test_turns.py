"""Requests of one moment share a look at the store: each gets its own, nobody pays for another's fault."""

import asyncio

import pytest

from services.feature_store.errors import RowCorrupt
from tests.unit.feature_store.world import HOUR_US, START_US, make, order, payment, running, statuses, values

ORDERS = 40
AT_US = START_US + HOUR_US


@pytest.fixture
async def world(redis_client):
    world = await make(redis_client)
    async with running(world):
        await world.publish(
            *(order(n, START_US + n, customer="ann" if n % 2 else "bob", amount=float(n)) for n in range(ORDERS)),
            *(payment(n, START_US + n, float(n)) for n in range(5)),
            until_us=AT_US,
        )
        await ask(world, ["o1"])
        yield world


async def ask(world, entities, features=()):
    return await world.store.reads.read("shop", entities, features, AT_US, 10.0)


def looks(world, monkeypatch) -> list[int]:
    """How many keys each look at the store named, from now on."""
    named: list[int] = []
    read = world.online.read

    async def counted(places, wanted):
        named.append(len(wanted))
        return await read(places, wanted)

    monkeypatch.setattr(world.online, "read", counted)
    return named


async def test_each_gets_what_it_would_get_alone(world, monkeypatch):
    asked = [[f"o{(n * 7 + i) % (ORDERS + 3)}" for i in range(1 + n % 4)] for n in range(60)]
    alone = [await ask(world, entities) for entities in asked]
    named = looks(world, monkeypatch)
    together = await asyncio.gather(*(ask(world, entities) for entities in asked))
    assert len(named) < 2 * len(asked) / 4, "a request looks twice: for its views, then for those it joins"
    for one, other, entities in zip(alone, together, asked, strict=True):
        assert values(one) == values(other)
        assert statuses(one) == statuses(other)
        assert other.block.status.shape[1] == len(entities)
        assert other.block.texts == one.block.texts
        assert other.block.numbers.tobytes() == one.block.numbers.tobytes()
        assert other.block.ages_us.tobytes() == one.block.ages_us.tobytes()


async def test_plans_do_not_mix(world):
    some, all_ = ("order.amount",), ()
    answers = await asyncio.gather(*(ask(world, [f"o{n}"], some if n % 2 else all_) for n in range(20)))
    for n, answer in enumerate(answers):
        assert len(answer.plan.features) == (1 if n % 2 else len(world.project.model.inputs))
        assert values(answer)["order.amount"] == [float(n)]


async def test_one_row_that_cannot_be_read_fails_those_alone_who_asked_for_it(world, redis_client):
    [key] = [key async for key in redis_client.scan_iter(match=b"millrace:{shop/orders/*}:order@1:of:o7")]
    await redis_client.set(key, b"not a row")
    answers = await asyncio.gather(*(ask(world, [f"o{n}"]) for n in range(20)), return_exceptions=True)
    assert isinstance(answers[7], RowCorrupt)
    good = [values(answer)["order.amount"] for n, answer in enumerate(answers) if n != 7]
    assert good == [[float(n)] for n in range(20) if n != 7]


async def test_who_gives_up_does_not_take_the_others_along(world):
    tasks = [asyncio.ensure_future(ask(world, [f"o{n}"])) for n in range(20)]
    await asyncio.sleep(0)
    for task in tasks[::2]:
        task.cancel()
    done = await asyncio.gather(*tasks, return_exceptions=True)
    assert [values(answer)["order.amount"] for answer in done[1::2]] == [[float(n)] for n in range(1, 20, 2)]
    assert any(isinstance(one, asyncio.CancelledError) for one in done[::2])
    assert values(await ask(world, ["o3"]))["order.amount"] == [3.0]


async def test_a_turn_is_bounded(world, monkeypatch):
    named = looks(world, monkeypatch)
    keys = [f"o{n}" for n in range(ORDERS)]
    answers = await asyncio.gather(*(ask(world, keys * 10) for _ in range(8)))
    assert {len(answer.block.status[0]) for answer in answers} == {10 * ORDERS}
    assert max(named) <= 1_000 * 3
