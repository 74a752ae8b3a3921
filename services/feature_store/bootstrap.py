"""The composition root: ports get their adapters here and nowhere else."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import grpc
from millrace.bus.kafka import KafkaBus
from millrace.bus.ports import Bus
from millrace.bus.shadow import ShadowBus, ShadowPlan
from millrace.bus.topics import load_topics
from millrace.bus.worker import Worker
from millrace.runtime.channels import channel
from millrace.runtime.clock import wall_us
from millrace.runtime.definitions import Definition, DefinitionBook
from millrace.runtime.errors import ConfigurationError
from millrace.runtime.forgetting import ForgetBook, Obeyed
from millrace.runtime.room import RoomProcess, StatusBoard
from millrace.stores.clickhouse import ClickHouse
from millrace.stores.objects import FolderObjects, Objects, open_objects
from millrace.stores.redis import connect
from millrace.wire.feature_store.v1 import service_pb2_grpc
from millrace.wire.ingestion.v1.forgetting_pb2 import Forget

from services.feature_store.adapters.features_redis import LIVE, RedisFeatures, prefix_of_shadow
from services.feature_store.adapters.history_clickhouse import ClickHouseHistory
from services.feature_store.adapters.history_erasing import ClickHouseErasing
from services.feature_store.adapters.keys_redis import RedisKeys
from services.feature_store.adapters.marks_redis import RedisMarks
from services.feature_store.adapters.models_registry import RegistryModels
from services.feature_store.adapters.rates_clickhouse import ClickHouseRates
from services.feature_store.adapters.reader_thread import ThreadReader
from services.feature_store.adapters.reads_clickhouse import ClickHouseReads
from services.feature_store.adapters.records_json import RecordReader
from services.feature_store.adapters.rows_arrow import packed_rows
from services.feature_store.adapters.shadow_clickhouse import ShadowTables, shadow_database
from services.feature_store.adapters.shadow_kept import ShelvedShadows
from services.feature_store.adapters.shadow_redis import ShadowRows
from services.feature_store.adapters.snapshots_catalogue import CataloguedObjects, ClickHouseSnapshots
from services.feature_store.adapters.spine_labeling import LabelingSpine
from services.feature_store.adapters.spool_files import FileSpools
from services.feature_store.adapters.timeline_shelf import ProcessShelf
from services.feature_store.entrypoints.catalogue import CatalogueDoor
from services.feature_store.entrypoints.consistency_pages import ConsistencyPages
from services.feature_store.entrypoints.consumer import Consumers
from services.feature_store.entrypoints.metrics import count_checked, count_expired, count_late
from services.feature_store.entrypoints.rest import FeaturePages
from services.feature_store.entrypoints.rpc import FeatureStoreService
from services.feature_store.entrypoints.shadow import read_plan, write_result
from services.feature_store.handlers.catalogue import Catalogue
from services.feature_store.handlers.consistency import CheckLimits, ConsistencyChecker
from services.feature_store.handlers.consistency_report import ConsistencyReports
from services.feature_store.handlers.drops import Drops
from services.feature_store.handlers.entities import EntityHistory
from services.feature_store.handlers.expiry import Expiry
from services.feature_store.handlers.feeds import FeedBook
from services.feature_store.handlers.filler import Filler
from services.feature_store.handlers.forgetting import Forgetting, Stores
from services.feature_store.handlers.history import FlushLimits, HistoryEvents, HistoryWriter
from services.feature_store.handlers.marks import Marks, Own
from services.feature_store.handlers.online import OnlineFeatures
from services.feature_store.handlers.progress import Progress
from services.feature_store.handlers.reads import OnlineReads
from services.feature_store.handlers.rebuilds import Rebuilds
from services.feature_store.handlers.retention import Retention
from services.feature_store.handlers.sampling import ReadSampler, SampleLimits
from services.feature_store.handlers.shadow import ShadowRun
from services.feature_store.handlers.snapshots import SnapshotRewriter
from services.feature_store.handlers.spines import Spines
from services.feature_store.handlers.statistics import FeatureStatistics
from services.feature_store.handlers.timelines import Timelines
from services.feature_store.handlers.training import Historian, SnapshotLimits, TrainingSets
from services.feature_store.ports import (
    Erasing,
    EventRates,
    History,
    KeptShadows,
    MarkStore,
    ModelBook,
    OnlineKeys,
    OnlineStore,
    ReadLog,
    ShadowRowStore,
    ShadowTableStore,
    SnapshotBook,
    SpineSource,
    Spools,
    TimelineShelf,
)
from services.feature_store.settings import ROOM, Settings

MIGRATIONS = Path(__file__).parent / "entrypoints" / "migrations"


@dataclass(slots=True)
class Neighbours:
    """What lies outside: tests put twins in."""

    bus: Bus
    online: OnlineStore
    history: History
    spines: SpineSource
    objects: Objects
    shelf: TimelineShelf
    spools: Spools
    keys: OnlineKeys
    rates: EventRates
    models: ModelBook
    erasing: Erasing
    snapshots: SnapshotBook
    read_log: ReadLog
    marks: MarkStore
    shadows: KeptShadows


class FeatureStore:
    """The parts of the room, joined."""

    def __init__(self, settings: Settings, neighbours: Neighbours) -> None:
        replica = f"{ROOM}-{settings.instance}" if settings.instance else ROOM
        self.forgets = ForgetBook(neighbours.bus, ROOM, self._obey, wall_us, replica)
        self.feeds = FeedBook(neighbours.bus, RecordReader, self.forgets.forgotten)
        self.progress = Progress()
        self.filler = Filler(
            neighbours.online, neighbours.keys, neighbours.history, packed_rows, settings.backfill_events
        )
        self.online = OnlineFeatures(neighbours.online, self.feeds, self.progress, self.filler, count_late)
        limits = FlushLimits(
            rows=settings.flush_rows,
            quiet_s=settings.flush_quiet_ms / 1000,
            most_s=settings.flush_most_ms / 1000,
            buffer_rows=settings.buffer_rows,
        )
        self.writer = HistoryWriter(neighbours.history, limits)
        self.history = HistoryEvents(neighbours.history, self.feeds, self.writer)
        self.consumers = Consumers(neighbours.bus, self.online, self.history, settings.batch_records)
        self.entities = EntityHistory(neighbours.history, settings.historical_events)
        self._join_consistency(settings, neighbours)
        self.reads = OnlineReads(neighbours.online, self.feeds, self.progress, self.sampler)
        workers = self.consumers
        own = Own(lambda: workers.online.assignment, lambda: workers.history.assignment)
        self.marks = Marks(neighbours.marks, self.feeds, self.writer, own, self.reads.look)
        hurry = self.consumers.history.hurry
        self.historian = Historian(self.entities, self.feeds, self.writer, settings.training_wait_s, hurry)
        self._join_catalogue(settings, neighbours)
        self.timelines = Timelines(neighbours.history, neighbours.shelf, settings.training_memory_mib)
        self.spines = Spines(neighbours.spines, neighbours.objects, neighbours.spools, settings.spine_upload_mib)
        sizes = SnapshotLimits(settings.snapshot_chunk_rows, settings.snapshot_chunk_mib, settings.training_memory_mib)
        self.training = TrainingSets(self.historian, self.timelines, self.spines, neighbours.objects, sizes)
        self.rebuilds = Rebuilds(self.filler, self.feeds, self.online, self.progress)
        self.retention = Retention(neighbours.erasing, self.feeds, self.writer)
        self.expiry = Expiry(neighbours.keys, neighbours.online, self.feeds, own.online, count_expired)
        self.forgetting = Forgetting(
            self.feeds,
            self.online,
            self.writer,
            Stores(
                neighbours.online,
                neighbours.erasing,
                SnapshotRewriter(neighbours.objects, neighbours.snapshots, self.training),
                self.timelines,
                neighbours.shadows,
            ),
            hurry,
            wall_us,
        )
        self.service = FeatureStoreService(
            self.reads,
            self.historian,
            self.training,
            self.spines,
            ThreadReader(),
            self.consistency,
            catalogue=CatalogueDoor(self.statistics, self.drops, self.rebuilds, settings.stats_keep_s),
            most_entities=settings.most_entities,
            read_wait_s=settings.read_wait_ms / 1000,
        )

    async def _obey(self, request: Forget) -> Obeyed:
        return await self.forgetting.obey(request)

    def _join_catalogue(self, settings: Settings, neighbours: Neighbours) -> None:
        self.statistics = FeatureStatistics(
            neighbours.keys,
            neighbours.online,
            self.feeds,
            neighbours.rates,
            self.online.spending,
            wall_us,
            sample_entities=settings.stats_sample,
            most_keys=settings.stats_keys,
        )
        forgetters = (self.progress.forget, self.statistics.forget, self.filler.forget, self.online.spending.forget)
        self.drops = Drops(neighbours.keys, self.feeds, neighbours.models, forgetters)
        self.catalogue = Catalogue(self.feeds, neighbours.models, self.statistics, self.reads, settings.stats_keep_s)

    def _join_consistency(self, settings: Settings, neighbours: Neighbours) -> None:
        limits = SampleLimits(settings.consistency_share, settings.consistency_reads_per_s)
        self.sampler = ReadSampler(neighbours.read_log, limits)
        self.checker = ConsistencyChecker(
            neighbours.read_log,
            self.entities,
            ThreadReader(),
            self.feeds,
            self.writer,
            CheckLimits(settings.consistency_every_s, settings.consistency_batch_reads, settings.consistency_settle_s),
            on_checked=count_checked,
        )
        self.consistency = ConsistencyReports(neighbours.read_log, self.feeds, self.sampler)

    async def learn(self, name: str, definition: Definition | None) -> None:
        """Take up a definition while running: new sources are consumed, new views fed from the beginning of the log."""
        before = {topic: {view.id for view in feed.views} for topic, feed in self.feeds.topics.items()}
        await self.feeds.learn(name, definition)
        after = self.feeds.topics
        rewind = any(
            {view.id for view in feed.views} - before[topic] for topic, feed in after.items() if topic in before
        )
        await self.consumers.follow(after, rewind=rewind)

    def register(self, server: grpc.aio.Server) -> None:
        """Put the gRPC service on a server."""
        service_pb2_grpc.add_FeatureStoreServicer_to_server(self.service, server)  # type: ignore[no-untyped-call]

    def watermarks_us(self) -> dict[str, int]:
        """Per project: what is online. Training sets wait for the history by themselves."""
        return self.online.visible_us()


def join(room: RoomProcess, store: FeatureStore, definitions: DefinitionBook) -> None:
    """Tasks, doors and status of the room."""
    definitions.on_change(store.learn)
    room.add_task("definitions", definitions.run)
    room.add_task("history writer", store.writer.run)
    room.add_task("other processes", store.marks.run)
    room.add_task("forgetting", store.forgets.run)
    room.add_task("obeying", store.forgets.obey_all)
    room.add_task("retention", store.retention.run)
    room.add_task("online", store.forgets.after(store.consumers.run_online))
    room.add_task("history", store.forgets.after(store.consumers.history.run))
    room.add_grpc(store.register)
    FeaturePages(store.catalogue, room.settings.monitor_http).mount(room.http)
    room.add_task("sampled reads", store.sampler.run)
    room.add_task("consistency", store.checker.run)
    ConsistencyPages(store.consistency, room.settings.monitor_http).mount(room.http)
    status = room.status
    status.definitions(definitions.versions)
    status.problem("definitions", lambda: definitions.problem)
    status.problem("history store", lambda: store.writer.problem)
    status.problem("filling from history", lambda: store.filler.problem, degrades_only=True)
    status.problem("forgetting", lambda: store.forgets.problem, degrades_only=True)
    status.problem("consistency check", lambda: store.checker.problem or store.sampler.problem, degrades_only=True)
    status.consumes(definitions)
    status.consumes(store.consumers.online)
    status.defers(store.consumers.history)
    status.deferred(lambda: store.writer.held_rows)
    status.busy(lambda: store.training.building + store.forgets.busy)
    status.watermarks(store.watermarks_us)
    _report(status, "online", store.consumers.online)
    _report(status, "history", store.consumers.history)


def _report(status: StatusBoard, name: str, worker: Worker) -> None:
    status.dead_letters(lambda: worker.dead_letters)
    status.problem(f"{name} consumer", lambda: "" if worker.state == "running" else worker.state)


def _replay(
    room: RoomProcess,
    store: FeatureStore,
    definitions: DefinitionBook,
    plan: ShadowPlan,
    beside: tuple[ShadowRowStore, ShadowTableStore],
) -> None:
    """The room replays a range and compares, and then ends by itself."""
    home, consumers = room.settings.home, store.consumers
    workers = (consumers.online, consumers.history)
    tell = partial(write_result, home)
    run = ShadowRun(plan, store.feeds, workers, store.writer, beside, tell)

    async def replay() -> None:
        if plan.keeps:
            await beside[0].keep(plan.project)
        await run.run(lambda: definitions.wait_ready(room.settings.start_deadline_s))
        room.request_stop()

    room.add_task("shadow", replay)


def build(settings: Settings | None = None) -> RoomProcess:
    """The room on its real neighbours."""
    known = settings or Settings()
    if not known.labeling_address:
        raise ConfigurationError("MILLRACE_LABELING_ADDRESS is not set: training sets get their labels from labeling")
    plan = read_plan(known.shadow_file)
    bus: Bus = KafkaBus.of_room(ROOM, known)
    bus = bus if plan is None else ShadowBus(bus, plan)
    redis = connect(known.redis_url)
    database = ROOM if plan is None else shadow_database(ROOM, plan.name)
    clickhouse = ClickHouse(known.clickhouse_url, database=database)
    labeling = channel(known.labeling_address, known)
    shelf = ProcessShelf(known.training_processes)
    spools = FileSpools(known.folder(ROOM) / "spools" / (known.instance or "main"))
    objects = open_objects(known.objects_url) if known.objects_url else FolderObjects(known.objects_path(ROOM))
    registry = channel(known.registry_address, known) if known.registry_address else None
    namespace = LIVE if plan is None else prefix_of_shadow(plan.name)
    online = RedisFeatures(redis, namespace)
    catalogue = ClickHouseSnapshots(clickhouse)
    neighbours = Neighbours(
        bus,
        online,
        ClickHouseHistory(clickhouse),
        LabelingSpine(labeling, spools),
        CataloguedObjects(objects, catalogue),
        shelf,
        spools,
        RedisKeys(redis),
        ClickHouseRates(clickhouse),
        RegistryModels(registry),
        ClickHouseErasing(clickhouse),
        catalogue,
        ClickHouseReads(clickhouse),
        RedisMarks(redis, namespace),
        ShelvedShadows(redis, clickhouse, ROOM, own="" if plan is None else plan.name),
    )
    room = RoomProcess(ROOM, known)
    store = FeatureStore(known, neighbours)
    room.on_start(bus.start)
    room.on_start(lambda: bus.ensure_topics(load_topics().static()))
    room.on_start(lambda: clickhouse.start(MIGRATIONS))
    room.on_start(spools.sweep)
    definitions = DefinitionBook(bus)
    join(room, store, definitions)
    if plan is None:
        room.add_task("expiry", store.expiry.run)
    else:
        beside = ShadowRows(redis, plan.name), ShadowTables(clickhouse, ROOM, database)
        _replay(room, store, definitions, plan, beside)
    for stop in (store.filler.close, bus.stop, clickhouse.close, redis.aclose, shelf.close):
        room.on_stop(stop)
    room.on_stop(lambda: labeling.close(None))
    if registry is not None:
        room.on_stop(lambda: registry.close(None))
    if plan is not None and not plan.keeps:
        for part in beside:
            room.on_stop(part.drop)  # when nobody writes any more, and before the connections close
    return room
