"""A small project and its events, the room on a memory bus, and doubles of what lies outside."""

import asyncio
import json
import tempfile
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
from millrace.bus.events import Batch, Event, Message
from millrace.bus.memory import MemoryBus
from millrace.bus.ports import TopicSpec
from millrace.definitions.keys import composite_key, entity_key
from millrace.definitions.load import load_text
from millrace.definitions.model import Project
from millrace.runtime.definitions import Definition
from millrace.runtime.errors import Unavailable
from millrace.stores.errors import StoreUnavailable
from millrace.stores.objects import MemoryObjects

from services.feature_store.adapters.features_redis import RedisFeatures
from services.feature_store.adapters.keys_redis import RedisKeys
from services.feature_store.adapters.snapshots_catalogue import CataloguedObjects
from services.feature_store.adapters.spool_files import FileSpools
from services.feature_store.adapters.timeline_shelf import ThreadShelf
from services.feature_store.bootstrap import FeatureStore, Neighbours
from services.feature_store.domain.consistency import CheckedRead, Finding, SampledRead
from services.feature_store.domain.lineage import ModelVersion
from services.feature_store.domain.snapshot import Manifest
from services.feature_store.domain.values import Position
from services.feature_store.domain.views import MOST_PARTITIONS
from services.feature_store.ports import (
    RETRIED,
    Census,
    Example,
    Extent,
    KeptObject,
    ModelBook,
    OnlineStore,
    Range,
    ReadCounts,
    Stretch,
    Table,
    Tally,
    TimelineShelf,
    Weight,
    history_schema,
    timeline_schema,
)
from services.feature_store.settings import Settings

HOUR_US = 3_600_000_000
MINUTE_US = 60_000_000
START_US = 1_000 * HOUR_US

YAML = """
project: shop
description: Will an order be paid late?
clock: replay
sources:
  orders:
    event_type: shop.order.placed
    key: order_id
    event_time: placed_at
    fields:
      order_id: {type: string, required: true}
      placed_at: {type: timestamp, required: true}
      customer: {type: string}
      amount: {type: number}
      express: {type: boolean}
      channel: {type: string}
    lateness: 1h
  payments:
    event_type: shop.payment.made
    key: order_id
    event_time: paid_at
    fields:
      order_id: {type: string, required: true}
      paid_at: {type: timestamp, required: true}
      customer: {type: string, required: true}
      delay: {type: number}
      channel: {type: string}
    lateness: 1h
predict:
  source: orders
  entity: order_id
  moment: placed_at
features:
  order@1:
    source: orders
    entity: order_id
    latest: [customer, amount, express, channel]
    derive:
      hour: hour(placed_at)
    ttl: 2d
  habits@1:
    source: payments
    entity: customer
    where: delay != null
    hop: 10m
    windows: [1h, 3h]
    aggregates:
      payments: count()
      named: count(channel)
      delay_sum: sum(delay)
      delay_mean: mean(delay)
      delay_std: std(delay)
      delay_max: max(delay)
      delay_last: last(delay)
      delay_first: first(delay)
      recent: last_k(delay, 2)
      delay_p75: quantile(delay, 0.75)
      channels: distinct(channel)
    ttl: 5h
  channel_habits@1:
    source: payments
    entity: [customer, channel]
    hop: 10m
    windows: [3h]
    aggregates: {payments: count(), delay_mean: mean(delay)}
label:
  source: payments
  key: order_id
  value: delay >= 5
  horizon: 12h
  missing: censored
model:
  name: late-payment
  task: binary
  template: {kind: linear}
  inputs:
    - order.customer
    - order.amount
    - order.express
    - order.hour
    - {view: habits, through: order.customer}
    - {view: channel_habits, through: [order.customer, order.channel]}
  baselines: [constant]
training:
  triggers: {new_labels: 100}
  window: 60d
  min_rows: 10
gate: {metric: auc, floors: {auc: 0.5}}
rollout: {strategy: direct}
monitors: {}
"""


def shop(name: str = "shop") -> Project:
    """The project under a name of its own."""
    return load_text(YAML.replace("project: shop", f"project: {name}"))


def event(topic: str, identity: str, row: Mapping[str, object], event_us: int, visible_us: int, **where) -> Message:
    """One checked and stamped event, as ingestion appends it."""
    extensions = {"visible_us": str(visible_us), "event_us": str(event_us)}
    content = Event(identity, "shop.event", "test", json.dumps(row).encode(), time_us=visible_us, extensions=extensions)
    return Message(topic, content, key=str(row.get("order_id", "")).encode(), **where)


def heartbeat(topic: str, partition: int, visible_us: int) -> Message:
    """The project's clock has come to `visible_us`."""
    content = Event(
        f"beat-{topic}-{partition}-{visible_us}",
        "millrace.ingestion.clock.advanced.v1",
        "test",
        json.dumps({"visible_us": visible_us}).encode(),
    )
    return Message(topic, content, key=b"", partition=partition)


def order(number: int, at_us: int, *, customer: str | None = "ann", amount: float | None = 9.5, **where) -> Message:
    """An order, visible a second after it was placed."""
    row = {"order_id": f"o{number}", "placed_at": at_us, "customer": customer, "amount": amount, "express": True}
    row["channel"] = f"c{number % 4}" if number % 5 else None
    return event("data.shop.orders", f"order-{number}", row, at_us, at_us + 1_000_000, **where)


def payment(
    number: int, at_us: int, delay: float | None, *, customer: str = "ann", late_us: int = MINUTE_US, **where
) -> Message:
    """A payment, visible `late_us` after it was made."""
    row = {
        "order_id": f"o{number}",
        "paid_at": at_us,
        "customer": customer,
        "delay": delay,
        "channel": f"c{number % 3}",
    }
    return event("data.shop.payments", f"payment-{number}", row, at_us, at_us + late_us, **where)


@dataclass
class ListHistory:
    """History in a list: everything that was inserted, each event once. Ranges are left to the caller's rule."""

    rows: dict[Table, list[dict]] = field(default_factory=dict)
    inserts: list[int] = field(default_factory=list)
    failures: int = 0
    timelines: list[Stretch] = field(default_factory=list)

    async def ensure(self, table: Table) -> None:
        """Nothing to create."""
        self.rows.setdefault(table, [])

    async def positions(self, table: Table) -> dict[int, Position]:
        """By what is there."""
        found: dict[int, Position] = {}
        for row in self.rows[table]:
            if not row["_via"]:
                before = found.get(row["_partition"], Position(-1, 0))
                now = Position(row["_offset"], row["_visible_us"])
                found[row["_partition"]] = Position(*map(max, before, now))
        return found

    async def insert(self, table: Table, rows: pa.Table) -> None:
        """Append; fails `failures` times first."""
        if self.failures:
            self.failures -= 1
            raise StoreUnavailable("history is away")
        self.inserts.append(rows.num_rows)
        known = {row["_event_id"] for row in self.rows.setdefault(table, [])}
        self.rows[table] += [row for row in rows.to_pylist() if row["_event_id"] not in known]

    async def read(self, table: Table, fields: Sequence[str], span: Range) -> pa.Table:
        """All events visible by the range's end."""
        rows = [row for row in self.rows.get(table, []) if row["_visible_us"] <= span.visible_to_us]
        rows.sort(key=lambda row: (row["_event_us"], row["_event_id"]))
        types = dict(table.fields)
        return pa.Table.from_pylist(rows, schema=history_schema([(name, types[name]) for name in fields]))

    async def census(self, table: Table) -> Census:
        """By what is there."""
        found: dict[int, tuple[int, int]] = {}
        rows = self.rows.get(table, [])
        for row in rows:
            if not row["_via"]:
                count, last = found.get(row["_partition"], (0, -1))
                found[row["_partition"]] = (count + 1, max(last, row["_offset"]))
        return Census(found, sum(1 for row in rows if row["_via"]))

    async def extent(self, table: Table, label: str) -> Extent | None:
        """By what is there."""
        rows = self._labelled(table, label)
        if not rows:
            return None
        return Extent(len(rows), Position(max(r["_offset"] for r in rows), max(r["_visible_us"] for r in rows)))

    async def part(self, table, fields, label, upto, entity_fields, part) -> pa.Table:
        """The events of the part."""
        types = dict(table.fields)
        rows = []
        for row in self._labelled(table, label):
            key = composite_key([row[name] for name in entity_fields])
            if row["_offset"] <= upto and key is not None and zlib.crc32(key.encode()) % part[1] == part[0]:
                rows.append(row | {"_seq": row["_offset"] * MOST_PARTITIONS + row["_partition"], "_identity": 0})
        schema = timeline_schema([(name, types[name]) for name in fields])
        return pa.Table.from_pylist(rows, schema=schema.append(pa.field("_event_id", pa.string())))

    def _labelled(self, table: Table, label: str) -> list[dict]:
        rows = self.rows.get(table, [])
        if label == RETRIED:
            return [row for row in rows if row["_via"]]
        return [row for row in rows if not row["_via"] and row["_partition"] == int(label)]

    async def weigh(self, table: Table, fields: Sequence[str], stretch: Stretch) -> Weight:
        """Eight bytes a cell."""
        rows = len(self._within(table, stretch))
        return Weight(rows, rows * 8 * len(fields))

    async def cuts(self, table: Table, stretch: Stretch, pieces: int) -> list[int]:
        """Every so many events."""
        times = sorted(row["_event_us"] for row in self._within(table, stretch))
        return sorted({times[len(times) * i // pieces] for i in range(1, pieces)}) if times else []

    async def timeline(self, table: Table, fields: Sequence[str], stretch: Stretch) -> pa.Table:
        """The events of the stretch."""
        self.timelines.append(stretch)
        types = dict(table.fields)
        rows = [
            {
                **row,
                "_seq": row["_offset"] * MOST_PARTITIONS + row["_partition"],
                "_identity": zlib.crc32(row["_event_id"].encode()),
            }
            for row in self._within(table, stretch)
        ]
        return pa.Table.from_pylist(rows, schema=timeline_schema([(name, types[name]) for name in fields]))

    def _within(self, table: Table, stretch: Stretch) -> list[dict]:
        part, parts = stretch.part
        return [
            row
            for row in self.rows.get(table, [])
            if stretch.from_us <= row["_event_us"] < stretch.to_us
            and row["_visible_us"] <= stretch.visible_to_us
            and zlib.crc32(str([row[f] for f in stretch.entity_fields]).encode()) % parts == part
            and (
                not stretch.after
                if row["_via"]
                else stretch.after.get(row["_partition"], -1)
                < row["_offset"]
                <= stretch.upto.get(row["_partition"], -1)
            )
        ]


@dataclass
class ListErasing:
    """Deletion from a ListHistory."""

    history: ListHistory

    async def touched(self, table, field, entity, until_us, of):
        """As Erasing.touched."""
        found = {composite_key([r[name] for name in of]) for r in self._matching(table, field, entity, until_us)}
        return sorted(found - {None})

    async def events(self, table, entity_fields, entities, from_us):
        """As Erasing.events."""
        rows = [
            row
            for row in self.history.rows.get(table, [])
            if composite_key([row[name] for name in entity_fields]) in entities and row["_event_us"] >= from_us
        ]
        rows.sort(key=lambda row: (row["_partition"], row["_offset"]))
        return pa.Table.from_pylist(rows, schema=history_schema(table.fields))

    async def erase(self, project, source, field, entity, until_us):
        """As Erasing.erase."""
        erased = 0
        for table in self.history.rows:
            if (table.project, table.source) == (project, source):
                gone = self._matching(table, field, entity, until_us)
                erased += len(gone)
                self.history.rows[table] = [row for row in self.history.rows[table] if row not in gone]
        return erased

    async def erase_reads(self, project, entity):
        """As Erasing.erase_reads: reads are kept in the ListReads of a test, and not in history."""
        return 0

    async def expire(self, project, source, before_us):
        """As Erasing.expire."""
        expired = 0
        for table, rows in self.history.rows.items():
            if (table.project, table.source) == (project, source):
                self.history.rows[table] = [row for row in rows if row["_visible_us"] >= before_us]
                expired += len(rows) - len(self.history.rows[table])
        return expired

    def _matching(self, table, field, entity, until_us):
        rows = self.history.rows.get(table, [])
        return [r for r in rows if entity_key(r.get(field)) == entity and r["_visible_us"] <= until_us]


@dataclass
class ListSnapshots:
    """A SnapshotBook in memory."""

    manifests: dict[str, Manifest | None] = field(default_factory=dict)
    gone: dict[str, str] = field(default_factory=dict)

    async def note(self, digest, manifest):
        """As SnapshotBook.note."""
        self.manifests[digest] = manifest

    async def kept(self):
        """As SnapshotBook.kept."""
        return [KeptObject(digest, manifest) for digest, manifest in self.manifests.items() if digest not in self.gone]

    async def supersede(self, digest, by):
        """As SnapshotBook.supersede."""
        self.gone[digest] = by

    async def superseded_by(self, digest):
        """As SnapshotBook.superseded_by."""
        return self.gone.get(digest)


@dataclass
class ListReads:
    """Sampled reads in a list; results by read."""

    reads: list[SampledRead] = field(default_factory=list)
    checked: dict[str, CheckedRead] = field(default_factory=dict)

    async def append(self, reads: Sequence[SampledRead]) -> None:
        """Keep them."""
        self.reads += reads

    async def pending(self, since_us: int, until_us: int, limit: int) -> list[SampledRead]:
        """In the order logged."""
        found = [r for r in self.reads if r.id not in self.checked and since_us <= r.logged_us < until_us]
        return sorted(found, key=lambda r: (r.logged_us, r.id))[:limit]

    async def record(self, checked: Sequence[CheckedRead]) -> None:
        """Each once."""
        self.checked |= {one.read.id: one for one in checked}

    async def tallies(self, project: str, from_us: int, to_us: int) -> list[Tally]:
        """By feature; all on one day."""
        found: dict[str, Counter[int]] = {}
        largest: dict[str, float] = {}
        for finding in self.findings(project):
            if from_us <= finding.as_of_us < to_us:
                found.setdefault(finding.feature, Counter())[int(finding.outcome)] += 1
                largest[finding.feature] = max(finding.difference, largest.get(finding.feature, 0.0))
        return [Tally(name, "2024-01-01", dict(counts), largest[name]) for name, counts in sorted(found.items())]

    async def examples(self, project: str, from_us: int, to_us: int, limit: int) -> list[Example]:
        """None: those are the store's own affair."""
        return []

    async def counts(self, project: str, since_us: int) -> ReadCounts:
        """Of all."""
        skipped = sum(bool(one.skipped) for one in self.checked.values())
        return ReadCounts(len(self.checked) - skipped, skipped, len(self.reads) - len(self.checked))

    def findings(self, project: str = "shop") -> list[Finding]:
        """Of all checked reads."""
        return [f for one in self.checked.values() if one.read.project == project for f in one.findings]


@dataclass
class ListSpine:
    """Labelled examples from a list of (entity, moment)."""

    examples: list[tuple[str, int]] = field(default_factory=list)

    async def spine(self, project: str, from_us: int, to_us: int, as_of_us: int) -> pa.Table:
        """All of them, in no particular order."""
        entities, moments = zip(*self.examples, strict=True) if self.examples else ((), ())
        size = len(entities)
        return pa.table(
            {
                "entity": pa.array(entities, pa.string()),
                "moment_us": pa.array(moments, pa.int64()),
                "label": pa.array([float(int(entity[1:]) % 2) for entity in entities], pa.float64()),
                "outcome": pa.array(["observed"] * size, pa.string()),
                "origin": pa.array(["late_truth"] * size, pa.string()),
                "confidence": pa.array([1.0] * size, pa.float64()),
                "visible_us": pa.array(moments, pa.int64()),
            }
        )


@dataclass
class ListRates:
    """Rates from the list of history."""

    history: ListHistory

    async def per_hour(self, table: Table, until_us: int) -> float | None:
        """Over the day before."""
        rows = self.history.rows.get(table, [])
        times = [r["_event_us"] for r in rows if until_us - 24 * HOUR_US <= r["_event_us"] < until_us]
        return len(times) / ((until_us - min(times)) / HOUR_US) if times else None


@dataclass
class ListModels:
    """What a registry would say, from lists; `problem` is raised instead."""

    projects: dict[int, Project] = field(default_factory=dict)
    known: list[ModelVersion] = field(default_factory=list)
    problem: str = ""

    async def definitions(self, project: str) -> dict[int, Project]:
        """By version."""
        if self.problem:
            raise Unavailable(self.problem)
        return self.projects

    async def versions(self, project: str, models: Sequence[str]) -> list[ModelVersion]:
        """Of these models."""
        return [version for version in self.known if version.model in models]


@dataclass
class World:
    """The room and what it stands on."""

    bus: MemoryBus
    store: FeatureStore
    online: OnlineStore
    history: ListHistory
    spines: ListSpine
    objects: MemoryObjects
    reads: ListReads
    project: Project
    models: ListModels

    async def publish(self, *messages: Message, until_us: int = 0) -> None:
        """Append, and heartbeats at `until_us` to every partition."""
        beats = []
        if until_us:
            topics = [f"data.{self.project.name}.{s.name}" for s in self.project.sources]
            beats = [heartbeat(topic, partition, until_us) for topic in topics for partition in (0, 1)]
        await self.bus.publish([*messages, *beats])

    def history_has(self, until_us: int) -> bool:
        """Whether every table holds its source's partitions up to then; the room's watermark is the online one."""
        feeds = self.store.feeds.project(self.project.name).sources.values()
        marks = [self.store.writer.visible_us(feed.table, part) for feed in feeds for part in range(feed.partitions)]
        return min(marks) >= until_us

    def batch(self, topic: str, partition: int) -> Batch:
        """Everything in one partition as one batch."""
        return Batch(topic, partition, tuple(r for r in self.bus.records(topic) if r.partition == partition))

    async def learn(self, project: Project, version: int) -> None:
        """Apply another definition."""
        self.project = project
        self.models.projects[version] = project
        await self.store.learn(project.name, Definition(version, f"sha256:{version}", project))


async def make(
    client,
    *,
    bus: MemoryBus | None = None,
    history: ListHistory | None = None,
    registry: ModelBook | None = None,
    shelf: TimelineShelf | None = None,
    reads: ListReads | None = None,
    **settings,
) -> World:
    """The room, not yet running; `registry` is asked instead of the world's `models`."""
    bus, history, spines, objects = bus or MemoryBus(), history or ListHistory(), ListSpine(), MemoryObjects()
    reads = reads or ListReads()
    # Two partitions, whatever the embedded default is: the merging of partitions is what these tests are about.
    await bus.ensure_topics([TopicSpec(f"data.{shop().name}.{s.name}", 2) for s in shop().sources])
    online = RedisFeatures(client)
    models = ListModels()
    spools = FileSpools(Path(tempfile.gettempdir()) / "millrace-test-spools")
    snapshots = ListSnapshots()
    neighbours = Neighbours(
        bus,
        online,
        history,
        spines,
        CataloguedObjects(objects, snapshots),
        shelf or ThreadShelf(),
        spools,
        RedisKeys(client),
        ListRates(history),
        registry or models,
        ListErasing(history),
        snapshots,
        reads,
    )
    store = FeatureStore(Settings(**settings), neighbours)
    world = World(bus, store, online, history, spines, objects, reads, shop(), models)
    await world.learn(world.project, 1)
    return world


@asynccontextmanager
async def running(world: World):
    """The room's tasks, for the time of the block."""
    runs = (world.store.writer.run, world.store.consumers.run_online, world.store.consumers.history.run)
    tasks = [asyncio.ensure_future(run()) for run in runs]
    try:
        yield world
    finally:
        for task in tasks:
            task.cancel()
        for task in tasks:
            with suppress(asyncio.CancelledError):
                await task


def values(answer) -> dict[str, list]:
    """Feature name to values; NaN is None."""
    return {
        feature.name: [None if v is None or v != v else v for v in cells.values.tolist()]
        for feature, cells in zip(answer.plan.features, answer.cells, strict=True)
    }


def statuses(answer) -> dict[str, list[int]]:
    """Feature name to statuses."""
    return {f.name: c.status.tolist() for f, c in zip(answer.plan.features, answer.cells, strict=True)}


def with_view(project: Project, **changes) -> Project:
    """The project with a further version of `habits`."""
    old = project.view("habits")
    return replace(project, views=(*project.views, replace(old, version=old.version + 1, **changes)))


def column(items: Sequence[int]) -> np.ndarray:
    """int64 array."""
    return np.array(items, dtype=np.int64)
