"""Eight writers at once on one store: the newest event wins and every event counts once, whoever was faster."""

import asyncio
import random

import pytest
from millrace.bus.effects import Effects
from millrace.runtime.errors import Policy, RoomError

from tests.unit.feature_store.world import HOUR_US, MINUTE_US, START_US, World, make, order, payment, running, values

WRITERS = 8
EVENTS = 60
TOPICS = ("data.shop.orders", "data.shop.payments")


async def raced(client, seed: int) -> int:
    """Each writer has the whole log in batches of its own cut, as a zombie and its successors would; returns how often
    one was refused."""
    seeded = random.Random(seed)
    first = await make(client)
    happened = seeded.sample(range(EVENTS), EVENTS)
    messages = [
        message
        for n, minute in enumerate(happened)
        for message in (
            order(1, START_US + minute // 3 * MINUTE_US, amount=float(n), partition=n % 2),
            payment(n, START_US + minute * MINUTE_US, float(n), partition=n % 2),
        )
    ]
    await first.publish(*messages)
    writers = [first, *[await make(client, bus=first.bus) for _ in range(WRITERS - 1)]]
    for world in writers:
        await world.store.online.start_offsets([(topic, partition) for topic in TOPICS for partition in (0, 1)])
    refused = sum(
        await asyncio.gather(*(write(world, random.Random(f"{seed} {i}")) for i, world in enumerate(writers)))
    )
    # Ties of event time go to the higher offset, then to the higher partition.
    newest = max(range(EVENTS), key=lambda n: (happened[n] // 3, n // 2, n % 2))
    async with running(first):
        await first.publish(until_us=START_US + 2 * HOUR_US)
        answer = values(await first.store.reads.read("shop", ["o1"], (), START_US + 2 * HOUR_US, 10.0))
    assert answer["order.amount"] == [float(newest)]
    assert answer["habits.payments_3h"] == [EVENTS]
    assert answer["habits.delay_sum_3h"] == [EVENTS * (EVENTS - 1) / 2]
    assert answer["habits.delay_last_3h"] == [float(happened.index(EVENTS - 1))]
    assert answer["habits.delay_first_3h"] == [float(happened.index(0))]
    return refused


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


async def test_the_newest_wins_whoever_is_faster(redis_client):
    for seed in range(3):
        await redis_client.flushall()
        await raced(redis_client, seed)


@pytest.mark.prove
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("start", range(4))
async def test_the_newest_wins_in_a_hundred_races(redis_client, start, proof_figures):
    refused = 0
    for seed in range(25):
        await redis_client.flushall()
        refused += await raced(redis_client, start * 25 + seed)
    proof_figures |= {"races": 25, "writers": WRITERS, "events": 25 * 2 * EVENTS, "refused": refused, "wrong": 0}
