"""Sampled online reads against history: nothing differs by itself, and what was altered is found."""

import asyncio
import random
from collections import Counter
from contextlib import asynccontextmanager, suppress
from dataclasses import replace

import pytest
from millrace.definitions.model import FieldType
from millrace.runtime.errors import Unavailable
from prometheus_client import REGISTRY

from services.feature_store.domain.consistency import (
    BAD,
    Cell,
    Outcome,
    SampledRead,
    Standing,
    is_same,
    lookup_name,
    outcome_of,
    sampled,
)
from services.feature_store.domain.inputs import Feature, InputsPlan, Lookup
from services.feature_store.domain.values import Position, Status
from services.feature_store.domain.views import CompiledView
from services.feature_store.handlers.consistency import LOGGED_LATE_US, WHOLE_LOOK_ROUNDS, findings_of
from services.feature_store.handlers.sampling import BUDGET_S, ReadSampler, SampleLimits
from tests.support.poll import until
from tests.unit.feature_store.world import (
    HOUR_US,
    MINUTE_US,
    START_US,
    ListReads,
    World,
    heartbeat,
    make,
    order,
    payment,
    running,
    shop,
)

PRESENT, MISSING, EXPIRED = Status.PRESENT, Status.MISSING, Status.EXPIRED
ALL = {"consistency_share": 1.0, "consistency_reads_per_s": 1e6, "consistency_settle_s": 0.0}
CUSTOMERS = ("ann", "bob", "cyd")
ORDERS = 12
SLICES = 16
DAY_US = 24 * HOUR_US


async def shuffled_slices(world: World, seeded: random.Random, *, even: bool) -> int:
    """Publishes slices of events in any order within the lateness and reads in between; returns the last time.

    Unless `even`, partitions advance by themselves, so that a read finds one ahead of another.
    """
    number, at_us = ORDERS, START_US
    await world.publish(*(order(n, START_US - MINUTE_US, customer=seeded.choice(CUSTOMERS)) for n in range(ORDERS)))
    for _ in range(SLICES):
        begin_us, at_us = at_us, at_us + 10 * MINUTE_US
        seen = sorted(seeded.randrange(begin_us + 1, at_us) for _ in range(8))
        for visible_us in seen:
            number += 1
            late_us = seeded.randrange(1, HOUR_US)
            customer = seeded.choice(CUSTOMERS)
            delay = None if seeded.random() < 0.1 else round(seeded.gauss(0, 9), 3)
            where = {"partition": seeded.randrange(2)}
            await world.publish(
                payment(number, visible_us - late_us, delay, customer=customer, late_us=late_us, **where)
            )
        topics = ("data.shop.orders", "data.shop.payments")
        moved = [(topic, p) for topic in topics for p in (0, 1) if even or seeded.random() < 0.6]
        await world.bus.publish([heartbeat(topic, p, at_us) for topic, p in moved])
        await until(lambda moved=moved, to_us=at_us: applied(world, moved, to_us), 10, what="what moved is applied")
        asked = [f"o{n}" for n in seeded.sample(range(ORDERS + 2), 5)]
        await world.store.reads.read("shop", asked, (), at_us if even else 0, 10.0)
    await world.publish(until_us=at_us)
    return at_us


def applied(world: World, partitions: list[tuple[str, int]], to_us: int) -> bool:
    """Whether the views have come so far in these partitions of topics."""
    feeds = world.store.feeds.topics
    places = [feeds[topic].place(view, str(p)) for topic, p in partitions for view in feeds[topic].views]
    return not places or world.store.progress.visible_us(places) >= to_us


async def checked(world: World) -> Counter[Outcome]:
    """Checks until nothing waits; what came of the values."""

    async def done() -> bool:
        await world.store.sampler.flush()
        await world.store.checker.check()
        return len(world.reads.checked) == len(world.reads.reads)

    await until(done, 30, what="all sampled reads are checked")
    assert not [one.skipped for one in world.reads.checked.values() if one.skipped]
    return Counter(finding.outcome for finding in world.reads.findings())


def bad(world: World) -> set[str]:
    return {finding.feature for finding in world.reads.findings() if finding.outcome in BAD}


@pytest.mark.parametrize("seed", range(2))
async def test_reads_at_even_times_equal_history(redis_client, seed):
    world = await make(redis_client, **ALL)
    async with running(world):
        at_us = await shuffled_slices(world, random.Random(seed), even=True)
        await until(lambda: world.history_has(at_us))
        found = await checked(world)
    assert len(world.reads.reads) == SLICES * 5
    assert found == {Outcome.EQUAL: SLICES * 5 * len(world.store.feeds.project("shop").plan.features)}
    present = sum(finding.online.status == PRESENT for finding in world.reads.findings())
    assert present > found.total() / 2


@pytest.mark.parametrize("seed", range(2))
async def test_what_a_partition_was_ahead_with_is_explained_by_its_position(redis_client, seed):
    """Read while one partition is ahead of another, an answer need not be history's; it is what had been applied."""
    world = await make(redis_client, **ALL)
    async with running(world):
        at_us = await shuffled_slices(world, random.Random(seed), even=False)
        await until(lambda: world.history_has(at_us))
        found = await checked(world)
    assert set(found) <= {Outcome.EQUAL, Outcome.AHEAD}, bad(world)
    assert found[Outcome.AHEAD] > 0
    assert found[Outcome.EQUAL] > found.total() / 4


def altered(project, feature: str):
    """The project with one transform 1 % off, under the same name and version."""

    def view(old):
        aggregates = tuple(
            replace(a, expression=f"({a.expression}) * 1.01") if f"{old.name}.{a.name}" == feature else a
            for a in old.aggregates
        )
        derive = tuple((n, f"({e}) * 1.01" if f"{old.name}.{n}" == feature else e) for n, e in old.derive)
        return replace(old, aggregates=aggregates, derive=derive)

    return replace(project, views=tuple(view(old) for old in project.views))


@asynccontextmanager
async def tasks(*runs):
    """The tasks, for the time of the block."""
    started = [asyncio.ensure_future(run()) for run in runs]
    try:
        yield
    finally:
        for task in started:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


ALTERED = [f"habits.delay_{name}" for name in ("sum", "mean", "std", "max", "first", "last")] + ["order.hour"]


@pytest.mark.parametrize("feature", ALTERED)
async def test_a_transform_altered_by_one_percent_online_is_caught(redis_client, feature):
    """One process serves a view whose transform is 1 % off; another checks what it answered."""
    reads = ListReads()
    honest = await make(redis_client, reads=reads, **ALL)
    serving = await make(redis_client, bus=honest.bus, history=honest.history, reads=reads, **ALL)
    await serving.learn(altered(serving.project, feature), 1)
    keeping = (honest.store.writer.run, honest.store.consumers.history.run)
    async with tasks(serving.store.consumers.run_online, *keeping):
        at_us = await shuffled_slices(serving, random.Random(feature), even=True)
        await until(lambda: honest.history_has(at_us))
        await serving.store.sampler.flush()
        found = await checked(honest)
    assert {name.removesuffix("_1h").removesuffix("_3h") for name in bad(honest)} == {feature}
    differing = [f for f in reads.findings() if f.outcome in BAD and f.difference]
    assert differing and all(f.outcome is Outcome.MISMATCH for f in differing)
    assert all(f.difference == pytest.approx(0.01 / 1.01, rel=1e-6) for f in differing)
    assert found[Outcome.EQUAL] > found.total() / 2
    report = await honest.store.consistency.report("shop")
    assert report.differing == len([f for f in reads.findings() if f.outcome in BAD])
    assert max(t.largest_difference for t in report.tallies) == pytest.approx(0.01 / 1.01, rel=1e-6)


@pytest.mark.parametrize(
    ("ttl_us", "later_us", "outcome", "said"),
    [(HOUR_US, 2 * HOUR_US, Outcome.MISSING, EXPIRED), (90 * DAY_US, 3 * DAY_US, Outcome.EXTRA, PRESENT)],
)
async def test_a_value_on_one_side_alone_is_missing_or_extra(redis_client, ttl_us, later_us, outcome, said):
    """The process that serves has another TTL than is declared, two days."""
    reads = ListReads()
    honest = await make(redis_client, reads=reads, **ALL)
    serving = await make(redis_client, bus=honest.bus, history=honest.history, reads=reads, **ALL)
    views = [replace(v, ttl_us=ttl_us) if v.name == "order" else v for v in serving.project.views]
    await serving.learn(replace(serving.project, views=tuple(views)), 1)
    at_us = START_US + later_us
    async with tasks(serving.store.consumers.run_online, honest.store.writer.run, honest.store.consumers.history.run):
        await serving.publish(order(1, START_US), until_us=at_us)
        await serving.store.reads.read("shop", ["o1"], ("order.amount", "order.customer"), at_us, 9.0)
        await until(lambda: honest.history_has(at_us))
        await serving.store.sampler.flush()
        await checked(honest)
    assert {f.feature: f.outcome for f in reads.findings()} == {"order.amount": outcome, "order.customer": outcome}
    assert [f.online.status for f in reads.findings()] == [said, said]


async def test_nothing_is_said_before_history_holds_it(redis_client):
    """A read whose events history has yet to write differs, and waits; it is not called a mismatch."""
    world = await make(redis_client, **ALL)
    now_us = START_US + HOUR_US
    async with tasks(world.store.consumers.run_online):
        await world.publish(order(1, START_US), payment(1, START_US, 3.0), until_us=now_us)
        await world.store.reads.read("shop", ["o1"], (), now_us, 10.0)
    await world.store.sampler.flush()
    assert await world.store.checker.check() == 0
    async with running(world):
        await until(lambda: world.history_has(now_us))
        assert set(await checked(world)) == {Outcome.EQUAL}


async def test_views_that_are_no_longer_declared_are_passed_over(redis_client):
    world = await make(redis_client, **ALL)
    async with running(world):
        await world.publish(order(1, START_US), until_us=START_US + HOUR_US)
        await world.store.reads.read("shop", ["o1"], (), START_US + HOUR_US, 10.0)
        await world.store.sampler.flush()
        await world.store.feeds.learn("shop", None)
        assert await world.store.checker.check() == 1
    assert [one.skipped for one in world.reads.checked.values()] == ["it is no longer declared"]


async def test_a_check_holds_no_more_history_than_its_bound(redis_client):
    """Reads are checked by fewer at a time; the one whose entity alone has too much is passed over, and says why."""
    world = await make(redis_client, historical_events=12, **ALL)
    now_us = START_US + HOUR_US
    async with running(world):
        await world.publish(*(order(n, START_US, customer="bob" if n == 3 else "ann") for n in range(4)))
        await world.publish(*(payment(n, START_US + n, 1.0, customer="ann" if n < 2 else "bob") for n in range(32)))
        await world.publish(until_us=now_us)
        await world.store.reads.read("shop", [f"o{n}" for n in range(4)], (), now_us, 10.0)
        await world.store.sampler.flush()
        await until(lambda: world.history_has(now_us))
        assert await world.store.checker.check() == 4
    skipped = {one.read.entity: one.skipped for one in world.reads.checked.values()}
    assert [skipped[f"o{n}"] for n in range(3)] == [""] * 3
    assert "habits@1: these entities have 30 events in history, 12 are read" in skipped["o3"]
    assert {finding.outcome for finding in world.reads.findings()} == {Outcome.EQUAL}


async def test_rounds_begin_where_something_may_still_wait_and_now_and_then_before_all(redis_client):
    world = await make(redis_client, **ALL)
    asked_us: list[int] = []
    pending = world.reads.pending

    async def heard(since_us, until_us, limit):
        asked_us.append(until_us - since_us)
        return await pending(since_us, until_us, limit)

    world.reads.pending = heard
    now_us = START_US + HOUR_US
    async with running(world):
        await world.publish(order(1, START_US), payment(1, START_US, 3.0), until_us=now_us)
        await world.store.reads.read("shop", ["o1"], (), now_us, 10.0)
        await checked(world)
        [read] = world.reads.reads
        asked_us.clear()
        await world.store.checker.check()
        assert max(asked_us) <= 2 * LOGGED_LATE_US
        # What another process held back while it had no store is older than that.
        late = replace(read, id="late", logged_us=read.logged_us - 10 * LOGGED_LATE_US)
        await world.reads.append([late])
        assert await world.store.checker.check() == 0
        rounds = 0
        while "late" not in world.reads.checked:
            await world.store.checker.check()
            rounds += 1
            assert rounds < WHOLE_LOOK_ROUNDS


async def test_a_read_that_waits_is_asked_for_in_every_round(redis_client):
    world = await make(redis_client, **ALL)
    now_us = START_US + HOUR_US
    async with tasks(world.store.consumers.run_online):
        await world.publish(order(1, START_US), payment(1, START_US, 3.0), until_us=now_us)
        await world.store.reads.read("shop", ["o1"], (), now_us, 10.0)
    await world.store.sampler.flush()
    read = world.reads.reads[0]
    world.reads.reads[0] = replace(read, logged_us=read.logged_us - 10 * LOGGED_LATE_US)
    for _ in range(3):
        assert await world.store.checker.check() == 0
    async with running(world):
        await until(lambda: world.history_has(now_us))
        await world.store.checker.check()
    assert len(world.reads.checked) == 1


async def test_the_metric_counts_by_feature_and_outcome(redis_client):
    def value() -> float:
        labels = {"project": "shop", "feature": "order.amount", "outcome": "equal"}
        return REGISTRY.get_sample_value("millrace_feature_consistency_cells_total", labels) or 0.0

    world, before = await make(redis_client, **ALL), value()
    async with running(world):
        await world.publish(order(1, START_US), until_us=START_US + HOUR_US)
        await world.store.reads.read("shop", ["o1", "o2"], (), START_US + HOUR_US, 10.0)
        await until(lambda: world.history_has(START_US + HOUR_US))
        await checked(world)
    assert value() == before + 2


def test_of_a_key_all_reads_are_sampled_or_none():
    keys = [f"pump-{n}" for n in range(20_000)]
    tenth = sampled("shop", keys, 0.1)
    assert 0.09 < len(tenth) / len(keys) < 0.11
    assert set(tenth) <= set(sampled("shop", keys, 0.2))
    assert sampled("shop", keys, 1.0) == list(range(len(keys)))
    assert sampled("shop", keys, 0.0) == []
    assert sampled("shop", [keys[place] for place in tenth], 0.1) == list(range(len(tenth)))
    assert sampled("stall", keys, 0.1) != tenth


def test_the_sample_is_bounded_and_what_is_beyond_is_counted():
    now_s = [100.0]
    sampler = ReadSampler(ListReads(), SampleLimits(1.0, reads_per_s=0.3), now_s=lambda: now_s[0])
    assert sampler.choose("shop", ["a", "b", "c", "d", "e"]) == [0, 1, 2]
    assert sampler.choose("shop", ["a"]) == []
    assert sampler.dropped == 3
    now_s[0] += BUDGET_S
    assert sampler.choose("shop", ["a"]) == [0]


async def test_reads_wait_while_their_store_is_away(redis_client):
    world = await make(redis_client, **ALL)
    real = world.reads.append

    async def away(reads):
        raise Unavailable("ClickHouse is away")

    async with running(world):
        await world.publish(order(1, START_US), until_us=START_US + HOUR_US)
        world.reads.append = away
        await world.store.reads.read("shop", ["o1"], (), START_US + HOUR_US, 10.0)
        await world.store.sampler.flush()
        assert world.store.sampler.problem == "ClickHouse is away"
        world.reads.append = real
        await world.store.sampler.flush()
    assert (len(world.reads.reads), world.store.sampler.problem) == (1, "")


def test_what_is_the_same():
    def number(value, status=PRESENT, age_us=5):
        return Cell(value, status, age_us)

    assert is_same(number(3.0), number(3.0))
    assert not is_same(number(3.0), number(4.0))
    assert not is_same(number(float(2**40)), number(float(2**40 + 1)))  # 1e-12 apart, but whole
    assert is_same(number(0.1), number(0.1 * (1 + 5e-10)))
    assert not is_same(number(0.1), number(0.1 * (1 + 2e-9)))
    assert is_same(number(0.0), number(2e-12), slack=1e-11)
    assert not is_same(number(3.0), number(3.0, age_us=6))
    assert outcome_of(number("a"), number("b")) is Outcome.MISMATCH
    assert outcome_of(Cell(None, MISSING, -1), number(1.0)) is Outcome.MISSING
    assert outcome_of(number(1.0), Cell(None, EXPIRED, 9)) is Outcome.EXTRA
    assert outcome_of(Cell(None, MISSING, -1), Cell(None, EXPIRED, 9)) is Outcome.MISMATCH


@pytest.mark.parametrize(
    ("lateness_us", "ahead_us", "column", "excused"),
    [
        (0, 0, "payments_3h", False),
        (0, 1, "payments_3h", False),  # a microsecond drops no tile
        (0, HOUR_US, "payments_3h", True),
        (0, HOUR_US, "payments_1h", False),  # the tiles of the longer window are still there
        (HOUR_US, HOUR_US, "payments_3h", False),
        (HOUR_US, 2 * HOUR_US, "payments_3h", True),
        (0, 100 * HOUR_US, "latest", False),
    ],
)
def test_a_partition_that_is_ahead_excuses_only_what_its_dropped_tiles_explain(lateness_us, ahead_us, column, excused):
    project = shop()
    latest = next(view for view in project.views if not view.is_windowed)
    view = latest if column == "latest" else project.view("habits")
    compiled = CompiledView(view, lateness_us)
    place = 0 if column == "latest" else view.columns.index(column)
    plan = InputsPlan((Feature("f", FieldType.NUMBER, Lookup(compiled), place),))
    as_of_us = 1_000 * HOUR_US
    positions = {"0": Position(5, as_of_us), "1": Position(9, as_of_us + ahead_us)}
    online, offline = Cell(10.1, PRESENT, 5), Cell(10.0, PRESENT, 5)
    standings = {lookup_name(plan.features[0].lookup): Standing(as_of_us, positions)}
    read = SampledRead("r", "shop", 1, "ann", 0, ("f",), (online,), standings)
    (found,) = findings_of(plan, read, [offline], [offline])
    assert found.outcome is (Outcome.AHEAD if excused else Outcome.MISMATCH)
