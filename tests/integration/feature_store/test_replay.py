"""The same log run twice, into stores of their own: the tables are the same to the byte."""

import random
import uuid
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
import redis.asyncio
from millrace.bus.memory import MemoryBus
from millrace.stores.clickhouse import ClickHouse

from services.feature_store.adapters.history_clickhouse import ClickHouseHistory
from services.feature_store.bootstrap import MIGRATIONS
from tests.support.poll import until
from tests.unit.feature_store.test_consistency import tasks
from tests.unit.feature_store.world import HOUR_US, MINUTE_US, START_US, World, make, order, payment

pytestmark = pytest.mark.stack
EVENTS = 600


def log(seed: int) -> list:
    """Orders and payments of a few customers in the order of their visible times, some of them late."""
    seeded = random.Random(seed)
    messages, visible_us = [], START_US
    for n in range(EVENTS):
        visible_us += seeded.randrange(1, 20 * 1_000_000)
        late_us = seeded.randrange(1, 3 * HOUR_US if n % 50 == 0 else HOUR_US)
        customer = seeded.choice(("ann", "bob", "cyd"))
        if n % 3:
            delay = None if n % 7 == 0 else seeded.gauss(0, 9)
            made = payment(n, visible_us - late_us, delay, customer=customer, late_us=late_us, partition=n % 2)
        else:
            made = order(n // 9, visible_us - 1_000_000, customer=customer, amount=seeded.random(), partition=n % 2)
        messages.append(replace(made, event=replace(made.event, id=f"event-{n}")))
    return messages


@asynccontextmanager
async def stores(stack, database: int):
    """An empty Redis database and an empty ClickHouse database."""
    client = redis.asyncio.from_url(stack.redis.replace("/0", f"/{database}"))
    clickhouse = ClickHouse(stack.clickhouse, database=f"replay_{uuid.uuid4().hex[:8]}")
    await client.flushdb()
    await clickhouse.start(MIGRATIONS)
    try:
        yield client, clickhouse
    finally:
        await client.flushdb()
        await client.aclose()
        await clickhouse.close()


async def run_log(client, clickhouse, messages, **settings) -> tuple[dict[bytes, bytes], list[dict]]:
    """Everything in Redis, and every row of the history tables, sorted. The log is there before anybody reads it.

    First the online group reads it, and then the other: a view that finds history there begins with that, and sums of
    the same terms in another order may have another last digit (decision 0024).
    """
    world: World = await make(client, bus=MemoryBus(), history=ClickHouseHistory(clickhouse), **settings)
    end_us = START_US + EVENTS * MINUTE_US
    await world.publish(*messages, until_us=end_us)
    async with tasks(world.store.consumers.run_online):
        await until(lambda: world.store.watermarks_us() == {"shop": end_us}, 30)
    async with tasks(world.store.writer.run, world.store.consumers.history.run):
        await until(lambda: world.history_has(end_us), 30)
    found: list[dict] = []
    for feed in world.store.feeds.project("shop").sources.values():
        found += await clickhouse.query_rows(f"SELECT * FROM `{feed.table.name}` FINAL ORDER BY _event_us, _event_id")
    keys = sorted(await client.keys())
    return dict(zip(keys, await client.mget(keys), strict=True)), found


@pytest.mark.parametrize("seed", range(2))
async def test_the_log_run_twice_gives_the_same_bytes(stack, seed):
    messages = log(seed)
    async with stores(stack, 1) as first, stores(stack, 2) as second:
        rows, history = await run_log(*first, messages)
        again, same = await run_log(*second, messages)
    assert len(history) == EVENTS
    assert history == same
    assert rows == again
    assert len(rows) > 60


@pytest.mark.parametrize("cut", [{"batch_records": 7, "flush_rows": 11}, {"batch_records": 1}])
async def test_however_the_log_is_cut_into_batches_the_bytes_are_the_same(stack, cut):
    """Batches are cut by what has come when one is read; nothing may depend on that."""
    messages = log(7)
    async with stores(stack, 1) as first, stores(stack, 2) as second:
        rows, history = await run_log(*first, messages)
        again, same = await run_log(*second, messages, **cut)
    assert history == same
    assert rows == again
