"""Training sets: the online rule at every moment, deterministic snapshots, verified reading."""

import io

import numpy as np
import pyarrow as pa
import pytest
from millrace.stores.errors import ObjectCorrupt, ObjectMissing

from services.feature_store.adapters.reader_thread import ThreadReader
from services.feature_store.adapters.timeline_shelf import ProcessShelf
from services.feature_store.domain.snapshot import AS_HAPPENED, Manifest
from services.feature_store.errors import EmptyTrainingSet, SnapshotCorrupt, TooLate
from services.feature_store.handlers.training import Ask, Moments
from tests.support.poll import until
from tests.unit.feature_store.world import (
    HOUR_US,
    MINUTE_US,
    START_US,
    make,
    order,
    payment,
    running,
    values,
)

END_US = START_US + 6 * HOUR_US
ASK = Ask("shop", START_US, END_US, END_US, as_happened=False)


async def filled(client, *, shuffled: bool = False, **settings):
    """A world whose history holds orders of two customers and payments that came late by up to an hour."""
    world = await make(client, **settings)
    messages = [order(n, START_US + n * 10 * MINUTE_US, customer="ann" if n % 3 else "bob") for n in range(30)]
    messages += [
        payment(
            n,
            START_US + n * 3 * MINUTE_US,
            n / 4,
            customer="ann" if n % 2 else "bob",
            late_us=(n % 7) * 9 * MINUTE_US + 1,
        )
        for n in range(100)
    ]
    if shuffled:
        messages = [messages[i] for i in np.random.default_rng(5).permutation(len(messages))]
    async with running(world):
        await world.publish(*messages, until_us=END_US)
        await until(lambda: world.store.watermarks_us() == {"shop": END_US})
    world.spines.examples = [(f"o{n}", START_US + n * 10 * MINUTE_US + 5 * MINUTE_US) for n in range(30)]
    return world


async def whole(world, digest: str) -> bytes:
    return b"".join([piece async for piece in world.store.training.read(digest)])


async def built(world, ask: Ask = ASK) -> tuple[str, pa.Table, list]:
    steps = [step async for step in world.store.training.create(ask)]
    data = await whole(world, steps[-1].digest)
    return steps[-1].digest, pa.ipc.open_stream(io.BytesIO(data)).read_all(), steps


async def test_a_training_set_says_what_was_known_at_each_moment(redis_client):
    world = await filled(redis_client)
    _, table, steps = await built(world)
    assert table.num_rows == 30
    assert table.column_names[:6] == ["entity", "moment_us", "label", "outcome", "origin", "confidence"]
    assert table.column_names[6:] == world.store.feeds.project("shop").plan.names
    assert [step.rows_done for step in steps][-1] == steps[0].rows_total == 30
    for row in table.to_pylist():
        number, at_us = int(row["entity"][1:]), row["moment_us"]
        customer = "ann" if number % 3 else "bob"
        assert row["order.customer"] == customer
        assert row["order.express"] == 1.0
        begin_us = (at_us - HOUR_US) // (10 * MINUTE_US) * 10 * MINUTE_US
        known = [
            n / 4
            for n in range(100)
            if ("ann" if n % 2 else "bob") == customer
            and begin_us <= START_US + n * 3 * MINUTE_US < at_us
            and START_US + n * 3 * MINUTE_US + (n % 7) * 9 * MINUTE_US + 1 <= at_us
        ]
        if known:
            assert row["habits.payments_1h"] == len(known)
            assert row["habits.delay_sum_1h"] == pytest.approx(sum(known), rel=1e-9)
            assert row["habits.delay_max_1h"] == max(known)


async def test_the_same_inputs_make_the_same_digest(redis_client):
    one = await filled(redis_client)
    await redis_client.flushall()
    other = await filled(redis_client, shuffled=True)
    other.spines.examples.reverse()
    digests = {(await built(world))[0] for world in (one, one, other)}
    assert len(digests) == 1
    happened, _, steps = await built(one, Ask("shop", START_US, END_US, END_US, as_happened=True))
    assert happened not in digests
    assert steps[-1].manifest.rule == AS_HAPPENED


async def test_chunks_come_back_as_one_stream_and_every_byte_is_verified(redis_client):
    world = await filled(redis_client, snapshot_chunk_rows=7)
    digest, table, _ = await built(world)
    manifest = Manifest.from_bytes(await world.objects.get(digest))
    assert (len(manifest.chunks), table.num_rows) == (5, 30)
    chunk = manifest.chunks[2]
    kept = world.objects.contents[chunk]
    world.objects.contents[chunk] = kept[:-1] + b"x"
    with pytest.raises(ObjectCorrupt):
        await whole(world, digest)
    del world.objects.contents[chunk]
    with pytest.raises(ObjectMissing):
        await whole(world, digest)
    with pytest.raises(SnapshotCorrupt):
        await whole(world, await world.objects.put(b'{"format":"something"}'))


async def test_nothing_labelled_and_history_that_is_not_there_yet_are_said(redis_client):
    world = await filled(redis_client, training_wait_s=0.05)
    with pytest.raises(TooLate):
        await built(world, Ask("shop", START_US, END_US, END_US + 1, as_happened=False))
    world.spines.examples = []
    with pytest.raises(EmptyTrainingSet):
        await built(world)
    assert world.store.training.building == 0


async def test_online_equals_history_at_its_as_of(redis_client):
    """Read online after every slice; ask history for the same later: equal cells, statuses and ages."""
    world = await make(redis_client)
    rng = np.random.default_rng(11)
    feed = world.store.feeds.project("shop")
    logged = []
    async with running(world):
        for step in range(1, 25):
            at_us = START_US + step * 20 * MINUTE_US
            since = [int(t) for t in rng.integers(at_us - 90 * MINUTE_US, at_us - 1, size=8)]
            await world.publish(
                *(
                    payment(step * 100 + i, t, float(rng.normal()), late_us=max(at_us - t, 1))
                    for i, t in enumerate(since)
                ),
                *([order(step, at_us - 10 * MINUTE_US)] if step % 3 else []),
                until_us=at_us,
            )
            entities = [f"o{n}" for n in range(1, 26)]
            logged.append((at_us, entities, await world.store.reads.read("shop", entities, (), at_us, 10.0)))
        await until(lambda: world.history_has(at_us))
        for at_us, entities, online in logged:
            moments = Moments(entities, np.full(len(entities), at_us), 0, as_happened=False)
            cells = await world.store.historian.cells(feed, feed.plan, moments, ThreadReader())
            for feature, one, other in zip(feed.plan.features, online.cells, cells, strict=True):
                assert one.status.tolist() == other.status.tolist(), feature.name
                assert one.age_us.tolist() == other.age_us.tolist(), feature.name
                same = [
                    a == b or a == pytest.approx(b, rel=1e-9, nan_ok=True)
                    for a, b in zip(one.values, other.values, strict=True)
                ]
                assert all(same), feature.name
    assert any(v is not None for v in values(logged[-1][2])["habits.delay_mean_1h"])


async def test_children_give_what_threads_give_and_a_dead_one_is_replaced(redis_client):
    shelf = ProcessShelf(2)
    try:
        world = await filled(redis_client, shelf=shelf)
        child, table, _ = await built(world)
        for process in [p for pool in shelf._children if pool for p in pool._processes.values()]:
            process.kill()
        again, _, _ = await built(world)
    finally:
        await shelf.close()
    await redis_client.flushall()
    thread, other, _ = await built(await filled(redis_client))
    assert child == again == thread
    assert table.equals(other)


def test_a_manifest_is_canonical():
    manifest = Manifest("shop", 1, "sha256:1", 1, 2, 3, "rule", (("a", "double"),), 4, ("sha256:2",))
    assert Manifest.from_bytes(manifest.to_bytes()) == manifest
    assert manifest.to_bytes().startswith(b'{"as_of_us":3,"chunks":["sha256:2"],"columns":[["a","double"]],')
    for bad in (b"[]", b"{}", b'{"format":"millrace.snapshot/1"}', b"\xff"):
        with pytest.raises(ValueError):
            Manifest.from_bytes(bad)
