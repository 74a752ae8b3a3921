"""Dropping a view: nothing of it survives, and nothing that is needed can be dropped."""

from dataclasses import replace

import pytest
from millrace.definitions.load import load_text
from millrace.runtime.errors import Invalid, Unavailable

from services.feature_store.domain.lineage import ModelVersion
from services.feature_store.errors import StillWritten, UnknownProject, UnknownView, ViewInUse
from services.feature_store.ports import RETRIED
from tests.support.poll import until
from tests.unit.feature_store.doubles import ListHistory
from tests.unit.feature_store.test_online import PAYMENTS, effects
from tests.unit.feature_store.world import (
    HOUR_US,
    MINUTE_US,
    START_US,
    YAML,
    make,
    order,
    payment,
    running,
    shop,
    values,
    with_view,
)

AT_US = START_US + HOUR_US


async def drop(world, view="habits@1", force=False):
    return [step async for step in world.store.drops.drop("shop", view, force=force, actor="eve")]


async def of(client, view: str) -> int:
    """Everything in the store that carries the view's name, by the server's own count."""
    return len([key for key in await client.keys("*") if f":{view}:".encode() in key])


async def fed(world) -> None:
    """Rows and positions of all views in both partitions, and those of a record handed back from the dead letters."""
    await world.publish(
        order(1, START_US),
        *(payment(n, START_US + n * MINUTE_US, float(n), customer=f"c{n}", partition=n % 2) for n in range(40)),
        until_us=AT_US,
    )
    await until(lambda: world.store.watermarks_us().get("shop", 0) >= AT_US, 10)
    again = replace(world.batch(PAYMENTS, 0).cut(0, 2), via="retry.feature_store")
    await world.store.online.handle(again, effects())


async def test_nothing_of_a_dropped_view_survives_and_nothing_else_is_touched(redis_client):
    world = await make(redis_client)
    await world.learn(with_view(shop(), ttl_us=0), 2)
    async with running(world):
        await fed(world)
        assert await of(redis_client, "habits@1") == 40 + 2 + 5  # rows, positions, two retried rows, ids and position
        kept = {key for key in await redis_client.keys("*") if b":habits@1:" not in key}
        retried = [key for key in await redis_client.keys("*") if b"/r}:habits@1:" in key]
        assert RETRIED == "r" and len(retried) == 5
        await world.learn(without(world.project, "habits@1"), 3)
        steps = await drop(world)
    assert await of(redis_client, "habits@1") == 0
    assert set(await redis_client.keys("*")) == kept
    assert steps[-1].done and steps[-1].deleted == 47 and not any(step.done for step in steps[:-1])
    assert all(0 < step.scanned <= step.total for step in steps)


def without(project, view_id: str):
    """The definition that the view was taken out of."""
    return replace(project, views=tuple(v for v in project.views if f"{v.name}@{v.version}" != view_id))


async def test_a_running_consumer_does_not_bring_it_back_and_the_others_go_on(redis_client):
    world = await make(redis_client)
    await world.learn(with_view(shop(), ttl_us=0), 2)
    async with running(world):
        await fed(world)
        old_feed = world.store.feeds.topics[PAYMENTS]
        await world.learn(without(world.project, "habits@1"), 3)
        await drop(world)
        # A batch that was in hand when the definition changed.
        await world.publish(payment(50, START_US + 50 * MINUTE_US, 1.0, customer="c1", partition=1))
        with pytest.raises(Exception, match="habits@1"):
            await world.store.online._apply(
                old_feed, old_feed.reader.decode(world.batch(PAYMENTS, 1), effects().reject)
            )
        await world.publish(payment(51, START_US + 51 * MINUTE_US, 1.0, customer="c1"), until_us=AT_US + HOUR_US)
        await until(lambda: world.store.watermarks_us().get("shop", 0) >= AT_US + HOUR_US, 10)
        assert await of(redis_client, "habits@1") == 0
        answer = await world.store.reads.read("shop", ["c1"], ("habits.payments_3h",), 0, 1.0, by="customer")
    assert values(answer)["habits.payments_3h"] == [3]


async def test_a_view_that_is_declared_again_is_filled_from_the_log(redis_client):
    world = await make(redis_client)
    both = with_view(shop(), ttl_us=0)
    await world.learn(both, 2)
    async with running(world):
        await fed(world)
        await world.learn(without(both, "habits@1"), 3)
        await drop(world)
        await world.learn(both, 4)
        names = ("habits@1.payments_3h", "habits@2.payments_3h")
        answer = await world.store.reads.read("shop", ["c1", "c7"], names, AT_US, 10.0, by="customer")
        again = values(answer)
    assert again["habits@1.payments_3h"] == [1, 1] and again["habits@2.payments_3h"] == [1, 1]


class CountingHistory(ListHistory):
    """Counts the parts of history that rows are made from."""

    def __init__(self) -> None:
        super().__init__()
        self.parts = 0

    async def part(self, *arguments):
        self.parts += 1
        return await super().part(*arguments)


async def test_a_view_that_comes_and_goes_is_filled_from_history_each_time(redis_client):
    history = CountingHistory()
    world = await make(redis_client, history=history)
    both = with_view(shop(), ttl_us=0)
    await world.learn(both, 2)
    async with running(world):
        await fed(world)
        await until(lambda: world.history_has(AT_US), 10)
        for version in (3, 5):
            await world.learn(without(both, "habits@1"), version)
            await drop(world)
            history.parts = 0
            await world.learn(both, version + 1)
            assert await of_c1(world, AT_US) == [1]
            assert history.parts, "read from the log alone"


async def test_a_view_that_another_process_emptied_is_filled_from_history_here_too(redis_client):
    history = CountingHistory()
    world = await make(redis_client, history=history)
    both = with_view(shop(), ttl_us=0)
    await world.learn(without(both, "habits@1"), 2)
    async with running(world):
        await fed(world)
        await until(lambda: world.history_has(AT_US), 10)
        await world.learn(both, 3)  # filled beside the other view
        assert await of_c1(world, AT_US) == [1]
        history.parts = 0
        await redis_client.delete(*[key for key in await redis_client.keys("*") if b":habits@1:" in key])
        later_us = AT_US + 10 * MINUTE_US
        again = [payment(60 + n, AT_US + n, 1.0, customer="c1", partition=n) for n in (0, 1)]
        await world.publish(*again, until_us=later_us)
        assert await of_c1(world, later_us) == [3]
    assert history.parts, "read from the log alone"


async def of_c1(world, at_us: int) -> list:
    answer = await world.store.reads.read("shop", ["c1"], ("habits@1.payments_3h",), at_us, 20.0, by="customer")
    return values(answer)["habits@1.payments_3h"]


async def test_what_is_needed_is_not_dropped_and_the_refusal_names_who_needs_it(redis_client):
    world = await make(redis_client)
    with pytest.raises(ViewInUse, match=r"habits@1 is declared by shop \(used by model late-payment\): take it out"):
        await drop(world)
    with pytest.raises(ViewInUse):
        await drop(world, force=True)
    second = load_text(YAML.replace("habits@1", "habits@2"))
    world.models.known = [
        ModelVersion("late-payment", 3, "champion", 2),
        ModelVersion("late-payment", 2, "retired", 1),
        ModelVersion("late-payment", 1, "rejected", 1),
    ]
    await world.learn(second, 2)
    async with running(world):
        with pytest.raises(ViewInUse, match=r"needed by late-payment version 2 \(retired\): "):
            await drop(world)
        assert (await drop(world, force=True))[-1].done
        world.models.problem = "the registry is away"
        with pytest.raises(Unavailable, match=r"force drops it all the same.*the registry is away"):
            await drop(world)


async def test_what_never_was_is_not_dropped(redis_client):
    world = await make(redis_client)
    for view in ("habits", "habits@", "Habits@1", "habits@1*"):
        with pytest.raises(Invalid, match="is not name@version"):
            await drop(world, view)
    with pytest.raises(UnknownView, match=r"never declared a view habbits@1 \(did you mean habits@1\?\)"):
        await drop(world, "habbits@1")
    with pytest.raises(UnknownProject):
        _ = [step async for step in world.store.drops.drop("shops", "habits@1", force=False, actor="")]


async def test_an_interrupted_drop_is_repeated(redis_client):
    world = await make(redis_client)
    await world.learn(with_view(shop(), ttl_us=0), 2)
    async with running(world):
        await fed(world)
        await redis_client.mset({f"millrace:{{shop/payments/0}}:habits@1:of:more{n}": b"x" for n in range(5_000)})
        await world.learn(without(world.project, "habits@1"), 3)
        drops = world.store.drops.drop("shop", "habits@1", force=False, actor="")
        async for step in drops:
            if step.deleted > 500:
                break
        await drops.aclose()
        left = await of(redis_client, "habits@1")
        assert 0 < left < 5_047
        assert (await drop(world))[-1].deleted == left
        assert await of(redis_client, "habits@1") == 0


async def test_names_that_look_alike_are_left_alone(redis_client):
    world = await make(redis_client)
    await world.learn(without(with_view(shop(), ttl_us=0), "habits@1"), 2)
    await world.learn(replace(world.project, name="shop"), 3)
    others = [
        "millrace:{shop/payments/0}:habits@2:of:}:habits@1:of:x",
        "millrace:{shop/payments/0}:habits@11:of:ann",
        "millrace:{shops/payments/0}:habits@1:of:ann",
        "millrace:{shop/payments/0}:nohabits@1:of:ann",
        "elsewhere:{shop/payments/0}:habits@1:of:ann",
    ]
    await redis_client.mset(dict.fromkeys(others, b"x"))
    assert (await drop(world))[-1].deleted == 0
    assert {key.decode() for key in await redis_client.keys("*")} == set(others)


async def test_a_replica_that_keeps_writing_it_is_told_of(redis_client):
    world = await make(redis_client)
    await world.learn(without(with_view(shop(), ttl_us=0), "habits@1"), 2)
    key = "millrace:{shop/payments/0}:habits@1:of:ann"
    await redis_client.set(key, b"x")
    with pytest.raises(StillWritten, match="a replica still runs an older definition"):
        async for _ in world.store.drops.drop("shop", "habits@1", force=False, actor=""):
            await redis_client.set(key, b"x")
