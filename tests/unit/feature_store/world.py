"""A small project and its events, the room on a memory bus, and doubles of what lies outside."""

import asyncio
import json
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from millrace.bus.events import Batch, Event, Message
from millrace.bus.memory import MemoryBus
from millrace.bus.ports import TopicSpec
from millrace.definitions.load import load_text
from millrace.definitions.model import Project
from millrace.runtime.definitions import Definition
from millrace.stores.objects import MemoryObjects

from services.feature_store.adapters.features_redis import LIVE, RedisFeatures
from services.feature_store.adapters.keys_redis import RedisKeys
from services.feature_store.adapters.marks_redis import RedisMarks
from services.feature_store.adapters.snapshots_catalogue import CataloguedObjects
from services.feature_store.adapters.spool_files import FileSpools
from services.feature_store.adapters.timeline_shelf import ThreadShelf
from services.feature_store.bootstrap import FeatureStore, Neighbours
from services.feature_store.ports import (
    ModelBook,
    OnlineStore,
    TimelineShelf,
)
from services.feature_store.settings import Settings
from tests.unit.feature_store.doubles import (
    ListErasing,
    ListHistory,
    ListModels,
    ListRates,
    ListReads,
    ListShadows,
    ListSnapshots,
    ListSpine,
)

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
    shadows: ListShadows

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
        RedisMarks(client, LIVE),
        shadows := ListShadows(),
    )
    store = FeatureStore(Settings(**settings), neighbours)
    world = World(bus, store, online, history, spines, objects, reads, shop(), models, shadows)
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
