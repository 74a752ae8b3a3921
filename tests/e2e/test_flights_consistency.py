"""Online = offline on real events: flights streamed out of order within the lateness, read at random times, recomputed.

The room's own parts on real Valkey and ClickHouse. What is not equal must be explained by the position of a partition
that was ahead; once all is drained nothing may be left over.
"""

import random
import uuid
import zlib
from collections import Counter
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
import redis.asyncio
from millrace.bus.events import Message
from millrace.bus.memory import MemoryBus
from millrace.bus.ports import TopicSpec
from millrace.bus.topics import data_topic
from millrace.definitions.load import load_text
from millrace.definitions.model import Project
from millrace.runtime.definitions import Definition
from millrace.stores.clickhouse import ClickHouse
from millrace.stores.objects import MemoryObjects

from examples.flights.events import events
from services.feature_store.adapters.features_redis import LIVE, RedisFeatures
from services.feature_store.adapters.history_clickhouse import ClickHouseHistory
from services.feature_store.adapters.history_erasing import ClickHouseErasing
from services.feature_store.adapters.keys_redis import RedisKeys
from services.feature_store.adapters.marks_redis import RedisMarks
from services.feature_store.adapters.rates_clickhouse import ClickHouseRates
from services.feature_store.adapters.reads_clickhouse import ClickHouseReads
from services.feature_store.adapters.snapshots_catalogue import ClickHouseSnapshots
from services.feature_store.adapters.spool_files import FileSpools
from services.feature_store.adapters.timeline_shelf import ThreadShelf
from services.feature_store.bootstrap import MIGRATIONS, FeatureStore, Neighbours
from services.feature_store.domain.consistency import BAD, Outcome
from services.feature_store.settings import Settings
from tests.support.poll import until
from tests.unit.feature_store.test_consistency import tasks
from tests.unit.feature_store.world import HOUR_US, MINUTE_US, ListModels, ListShadows, ListSpine, event, heartbeat

pytestmark = [pytest.mark.stack, pytest.mark.timeout(3600)]

PROJECT = Path(__file__).resolve().parents[2] / "examples" / "flights" / "project.yaml"
PARTITIONS = 3
SLICE_US = 30 * MINUTE_US
SETTLE_EVERY = 10  # slices; in between reads meet whatever has been applied
EVERYTHING = {"consistency_share": 1.0, "consistency_reads_per_s": 1e6, "consistency_settle_s": 0.0}


@asynccontextmanager
async def room(stack, folder: Path):
    """The room's parts, running, in databases of their own; yields them with the project."""
    client = redis.asyncio.from_url(stack.redis)
    clickhouse = ClickHouse(stack.clickhouse, database=f"flights_{uuid.uuid4().hex[:8]}")
    await clickhouse.start(MIGRATIONS)
    text = PROJECT.read_text(encoding="utf-8")
    project = load_text(text.replace("project: flights", f"project: f{uuid.uuid4().hex[:8]}", 1))
    bus = MemoryBus()
    await bus.ensure_topics([TopicSpec(data_topic(project.name, s.name), PARTITIONS) for s in project.sources])
    neighbours = Neighbours(
        bus=bus,
        online=RedisFeatures(client),
        history=ClickHouseHistory(clickhouse),
        spines=ListSpine(),
        objects=MemoryObjects(),
        shelf=ThreadShelf(),
        spools=FileSpools(folder),
        keys=RedisKeys(client),
        rates=ClickHouseRates(clickhouse),
        models=ListModels(),
        erasing=ClickHouseErasing(clickhouse),
        snapshots=ClickHouseSnapshots(clickhouse),
        read_log=ClickHouseReads(clickhouse),
        marks=RedisMarks(client, LIVE),
        shadows=ListShadows(),
    )
    store = FeatureStore(Settings(**EVERYTHING), neighbours)
    await store.learn(project.name, Definition(1, "sha256:1", project))
    try:
        async with tasks(store.writer.run, store.consumers.run_online, store.consumers.history.run):
            yield store, bus, project
    finally:
        await client.aclose()
        await clickhouse.close()


def shuffled(
    project: Project, months: tuple[int, ...], days: int, seeded: random.Random
) -> list[tuple[int, str, Message]]:
    """(visible time, flight announced or "", event) in the order of visible time: of every second event the arrival is
    put off, up to its source's lateness."""
    made = []
    recorded = events(months)
    end_us = recorded[0].available_us + days * 24 * HOUR_US
    sources = {source.name: source for source in project.sources if project.views_of(source.name)}
    for one in recorded:
        source = sources.get(one.source)
        if source is None or one.available_us > end_us:
            continue
        row = msgspec.json.decode(one.json)
        event_us = row[source.event_time]
        visible_us = max(one.available_us, event_us + 1)
        if seeded.random() < 0.5:
            visible_us += int(seeded.random() * max(event_us + source.lateness_us - visible_us, 0))
        partition = zlib.crc32(str(row[source.key]).encode()) % PARTITIONS
        topic = data_topic(project.name, one.source)
        announced = row["flight_id"] if one.source == "schedule" else ""
        made.append((visible_us, announced, event(topic, one.id, row, event_us, visible_us, partition=partition)))
    made.sort(key=lambda item: (item[0], item[2].event.id))
    return made


async def streamed(
    stack, folder: Path, months: tuple[int, ...], days: int, seed: int, read_every: int
) -> dict[str, object]:
    """Streams, reads, drains, checks; the counts."""
    seeded = random.Random(seed)
    async with room(stack, folder) as (store, bus, project):
        stream = shuffled(project, months, days, seeded)
        topics = [data_topic(project.name, s.name) for s in project.sources if project.views_of(s.name)]
        now_us, begin, known, reads = stream[0][0] // SLICE_US * SLICE_US, 0, [], 0
        for number in range(1, 10**9):
            if begin >= len(stream):
                break
            now_us += SLICE_US
            end = next((i for i in range(begin, len(stream)) if stream[i][0] > now_us), len(stream))
            await bus.publish([message for _, _, message in stream[begin:end]])
            known = (known + [name for _, name, _ in stream[begin:end] if name])[-600:]
            begin = end
            even = number % SETTLE_EVERY == 0
            places = [(t, p) for t in topics for p in range(PARTITIONS) if even or seeded.random() < 0.7]
            await bus.publish([heartbeat(topic, partition, now_us) for topic, partition in places])
            if number % read_every == 0 or even:
                asked = seeded.sample(known, min(5, len(known)))
                reads += len(asked)
                await store.reads.read(project.name, asked, (), now_us if even else 0, 120.0)
            if even:
                await store.sampler.flush()  # the task that does it each second is not part of this test
        await bus.publish([heartbeat(topic, p, now_us) for topic in topics for p in range(PARTITIONS)])
        found = await checked(store, project.name, now_us)
    compared = sum(found.values())
    return {
        "events": len(stream),
        "reads": reads,
        "values": compared,
        **{outcome.name.lower(): found[outcome] for outcome in Outcome},
    }


async def checked(store: FeatureStore, project: str, now_us: int) -> Counter[int]:
    """Values by outcome, once history is whole and every sampled read is checked."""
    feeds = store.feeds.project(project).sources.values()
    marks = [(feed.table, p) for feed in feeds for p in range(PARTITIONS)]
    await until(lambda: min(store.writer.visible_us(*mark) for mark in marks) >= now_us, 300, what="history is whole")
    await store.sampler.flush()

    async def done() -> bool:
        await store.checker.check()
        return (await store.consistency.report(project)).counts.pending == 0

    await until(done, 1800, what="every read is checked")
    report = await store.consistency.report(project)
    assert report.counts.skipped == report.dropped == 0
    assert not report.examples, report.examples[:3]
    return sum((Counter(dict(tally.by_outcome)) for tally in report.tallies), Counter())


async def test_online_equals_offline_for_some_days(stack, tmp_path):
    figures = await streamed(stack, tmp_path, (7,), 2, seed=1, read_every=3)
    assert figures["reads"] > 100
    assert figures["equal"] > figures["values"] / 2
    assert sum(figures[outcome.name.lower()] for outcome in BAD) == 0


@pytest.mark.prove
async def test_online_equals_offline_for_a_quarter(stack, tmp_path, proof_figures):
    proof_figures |= await streamed(stack, tmp_path, (7, 8, 9), 92, seed=2, read_every=7)
    assert proof_figures["ahead"] > 0
    assert sum(proof_figures[outcome.name.lower()] for outcome in BAD) == 0
