"""The composition root: ports get their adapters here and nowhere else."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import grpc
from millrace.bus.kafka import KafkaBus
from millrace.bus.ports import Bus
from millrace.bus.worker import Worker
from millrace.runtime.channels import channel
from millrace.runtime.definitions import Definition, DefinitionBook
from millrace.runtime.errors import ConfigurationError
from millrace.runtime.room import RoomProcess, StatusBoard
from millrace.stores.clickhouse import ClickHouse
from millrace.stores.objects import FolderObjects, Objects, open_objects
from millrace.stores.redis import connect
from millrace.wire.feature_store.v1 import service_pb2_grpc

from services.feature_store.adapters.features_redis import RedisFeatures
from services.feature_store.adapters.history_clickhouse import ClickHouseHistory
from services.feature_store.adapters.reader_process import ProcessReader, ThreadReader
from services.feature_store.adapters.reads_clickhouse import ClickHouseReads
from services.feature_store.adapters.records_json import RecordReader
from services.feature_store.adapters.spine_labeling import LabelingSpine
from services.feature_store.entrypoints.consistency_metrics import count_checked
from services.feature_store.entrypoints.consistency_pages import ConsistencyPages
from services.feature_store.entrypoints.consumer import Consumers
from services.feature_store.entrypoints.rpc import FeatureStoreService
from services.feature_store.handlers.consistency import CheckLimits, ConsistencyChecker
from services.feature_store.handlers.consistency_report import ConsistencyReports
from services.feature_store.handlers.feeds import FeedBook
from services.feature_store.handlers.history import FlushLimits, HistoryEvents, HistoryWriter
from services.feature_store.handlers.online import OnlineFeatures
from services.feature_store.handlers.progress import Progress
from services.feature_store.handlers.reads import OnlineReads
from services.feature_store.handlers.sampling import ReadSampler, SampleLimits
from services.feature_store.handlers.training import READS_AT_ONCE, Historian, TrainingSets
from services.feature_store.ports import HistoryReader, HistoryStore, OnlineStore, ReadLog, SpineSource
from services.feature_store.settings import ROOM, Settings

MIGRATIONS = Path(__file__).parent / "entrypoints" / "migrations"


@dataclass(slots=True)
class Neighbours:
    """What lies outside: tests put twins in."""

    bus: Bus
    online: OnlineStore
    history: HistoryStore
    spines: SpineSource
    objects: Objects
    reader: HistoryReader
    read_log: ReadLog


class FeatureStore:
    """The parts of the room, joined."""

    def __init__(self, settings: Settings, neighbours: Neighbours) -> None:
        self.feeds = FeedBook(neighbours.bus, RecordReader)
        self.progress = Progress()
        self.online = OnlineFeatures(neighbours.online, self.feeds, self.progress)
        limits = FlushLimits(
            rows=settings.flush_rows,
            quiet_s=settings.flush_quiet_ms / 1000,
            most_s=settings.flush_most_ms / 1000,
            buffer_rows=settings.buffer_rows,
        )
        self.writer = HistoryWriter(neighbours.history, limits)
        self.history = HistoryEvents(neighbours.history, self.feeds, self.writer)
        self.consumers = Consumers(neighbours.bus, self.online, self.history, settings.batch_records)
        self._join_consistency(settings, neighbours)
        self.reads = OnlineReads(neighbours.online, self.feeds, self.progress, self.sampler)
        self.historian = Historian(
            neighbours.history, self.feeds, self.writer, settings.training_wait_s, self.consumers.history.hurry
        )
        self.training = TrainingSets(
            self.historian, neighbours.spines, neighbours.objects, neighbours.reader, settings.snapshot_chunk_rows
        )
        self.service = FeatureStoreService(
            self.reads,
            self.historian,
            self.training,
            ThreadReader(),
            self.consistency,
            most_entities=settings.most_entities,
            read_wait_s=settings.read_wait_ms / 1000,
        )

    def _join_consistency(self, settings: Settings, neighbours: Neighbours) -> None:
        limits = SampleLimits(settings.consistency_share, settings.consistency_reads_per_s)
        self.sampler = ReadSampler(neighbours.read_log, limits)
        self.checker = ConsistencyChecker(
            neighbours.read_log,
            neighbours.history,
            neighbours.reader,
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
        return dict(self.online.visible_us(self.consumers.online.assignment))


def join(room: RoomProcess, store: FeatureStore, definitions: DefinitionBook) -> None:
    """Tasks, doors and status of the room."""
    definitions.on_change(store.learn)
    room.add_task("definitions", definitions.run)
    room.add_task("history writer", store.writer.run)
    room.add_task("online", store.consumers.run_online)
    room.add_task("history", store.consumers.history.run)
    room.add_task("sampled reads", store.sampler.run)
    room.add_task("consistency", store.checker.run)
    room.add_grpc(store.register)
    ConsistencyPages(store.consistency).mount(room.http)
    status = room.status
    status.definitions(definitions.versions)
    status.problem("definitions", lambda: definitions.problem)
    status.problem("history store", lambda: store.writer.problem)
    status.problem("consistency check", lambda: store.checker.problem or store.sampler.problem, degrades_only=True)
    status.consumes(definitions)
    status.consumes(store.consumers.online)
    status.deferred(lambda: store.consumers.history.lag_records + store.writer.held_rows)
    status.busy(lambda: store.training.building)
    status.watermarks(store.watermarks_us)
    _report(status, "online", store.consumers.online)
    _report(status, "history", store.consumers.history)


def _report(status: StatusBoard, name: str, worker: Worker) -> None:
    status.dead_letters(lambda: worker.dead_letters)
    status.problem(f"{name} consumer", lambda: "" if worker.state == "running" else worker.state)


def build(settings: Settings | None = None) -> RoomProcess:
    """The room on its real neighbours."""
    known = settings or Settings()
    if not known.labeling_address:
        raise ConfigurationError("MILLRACE_LABELING_ADDRESS is not set: training sets get their labels from labeling")
    bus = KafkaBus(
        known.kafka_bootstrap,
        f"millrace-{ROOM}",
        known.kafka_security,
        session_timeout_ms=known.kafka_session_timeout_ms,
    )
    redis = connect(known.redis_url)
    clickhouse = ClickHouse(known.clickhouse_url, database=ROOM)
    labeling = channel(known.labeling_address, known)
    reader = ProcessReader(READS_AT_ONCE)
    objects = open_objects(known.objects_url) if known.objects_url else FolderObjects(known.objects_path(ROOM))
    neighbours = Neighbours(
        bus,
        RedisFeatures(redis),
        ClickHouseHistory(clickhouse),
        LabelingSpine(labeling),
        objects,
        reader,
        ClickHouseReads(clickhouse),
    )
    room = RoomProcess(ROOM, known)
    store = FeatureStore(known, neighbours)
    room.on_start(bus.start)
    room.on_start(lambda: clickhouse.start(MIGRATIONS))
    join(room, store, DefinitionBook(bus))
    for stop in (bus.stop, clickhouse.close, redis.aclose, reader.close):
        room.on_stop(stop)
    room.on_stop(lambda: labeling.close(None))
    return room
