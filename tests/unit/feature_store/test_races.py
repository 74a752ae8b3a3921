"""Eight writers at once on one store, each a process: the newest event wins and every event counts once."""

import asyncio
import multiprocessing
import random
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor

import pytest
from millrace.bus.effects import Effects
from millrace.bus.events import Message
from millrace.runtime.errors import Policy, RoomError
from millrace.stores.redis import connect

from tests.support.poll import until
from tests.unit.feature_store.world import HOUR_US, MINUTE_US, START_US, World, make, order, payment, running, values

WRITERS = 8
EVENTS = 60
TOPICS = ("data.shop.orders", "data.shop.payments")
AT_THE_START = "writers at the start"


@pytest.fixture(scope="module")
def writers() -> Iterator[ProcessPoolExecutor]:
    """Processes of their own, so that nothing but the store's server puts their calls in an order."""
    with ProcessPoolExecutor(WRITERS, multiprocessing.get_context("spawn")) as pool:
        yield pool


def log_of(happened: list[int]) -> list[Message]:
    """Orders of one key, with ties of event time, and payments, over two partitions."""
    return [
        message
        for n, minute in enumerate(happened)
        for message in (
            order(1, START_US + minute // 3 * MINUTE_US, amount=float(n), partition=n % 2),
            payment(n, START_US + minute * MINUTE_US, float(n), partition=n % 2),
        )
    ]


async def raced(client, url: str, writers: ProcessPoolExecutor, seed: int) -> int:
    """Each writer has the whole log in batches of its own cut, as a zombie and its successors would; returns how often
    one was refused."""
    happened = random.Random(seed).sample(range(EVENTS), EVENTS)
    await client.flushall()
    loop = asyncio.get_running_loop()
    calls = [loop.run_in_executor(writers, race, url, happened, f"{seed} {i}") for i in range(WRITERS)]
    refused = sum(await asyncio.gather(*calls))
    # Ties of event time go to the higher offset, then to the higher partition.
    newest = max(range(EVENTS), key=lambda n: (happened[n] // 3, n // 2, n % 2))
    world = await make(client)
    await world.publish(*log_of(happened))
    async with running(world):
        await world.publish(until_us=START_US + 2 * HOUR_US)
        answer = values(await world.store.reads.read("shop", ["o1"], (), START_US + 2 * HOUR_US, 10.0))
    assert answer["order.amount"] == [float(newest)]
    assert answer["habits.payments_3h"] == [EVENTS]
    assert answer["habits.delay_sum_3h"] == [EVENTS * (EVENTS - 1) / 2]
    assert answer["habits.delay_last_3h"] == [float(happened.index(EVENTS - 1))]
    assert answer["habits.delay_first_3h"] == [float(happened.index(0))]
    return refused


def race(url: str, happened: list[int], seed: str) -> int:
    """One writer, in its process."""
    return asyncio.run(raced_by_one(url, happened, random.Random(seed)))


async def raced_by_one(url: str, happened: list[int], seeded: random.Random) -> int:
    """Waits until all are there, then writes; how often it was refused."""
    client = connect(url)
    try:
        world = await make(client)
        await world.publish(*log_of(happened))
        await world.store.online.start_offsets([(topic, partition) for topic in TOPICS for partition in (0, 1)])
        await client.incr(AT_THE_START)

        async def all_are_there() -> bool:
            return int(await client.get(AT_THE_START)) == WRITERS

        await until(all_are_there, 180.0, what="all writers are at the start")
        return await write(world, seeded)
    finally:
        await client.aclose()


async def write(world: World, seeded: random.Random) -> int:
    """Handles the log of every partition in random batches; what is refused is repeated, as the worker does."""
    refused = 0
    for topic in seeded.sample(TOPICS, 2):
        for partition in seeded.sample((0, 1), 2):
            whole = world.batch(topic, partition)
            begin = 0
            while begin < len(whole.records):
                end = min(begin + seeded.randrange(1, 6), len(whole.records))
                try:
                    await world.store.online.handle(whole.cut(begin, end), Effects("feature_store", lambda: 0))
                except RoomError as error:
                    assert error.policy is Policy.RETRY
                    refused += 1
                else:
                    begin = end
    return refused


async def test_the_newest_wins_whoever_is_faster(redis_client, valkey_url, writers):
    for seed in range(3):
        await raced(redis_client, valkey_url, writers, seed)


@pytest.mark.prove
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("start", range(4))
async def test_the_newest_wins_in_a_hundred_races(redis_client, valkey_url, writers, start, proof_figures):
    refused = sum([await raced(redis_client, valkey_url, writers, start * 25 + i) for i in range(25)])
    proof_figures |= {"races": 25, "writers": WRITERS, "events": 25 * 2 * EVENTS, "refused": refused, "wrong": 0}
