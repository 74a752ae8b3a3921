"""The composition root: ports get their adapters here and nowhere else."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from millrace.bus.kafka import KafkaBus
from millrace.bus.outbox import OutboxRelay
from millrace.bus.ports import Bus
from millrace.bus.topics import load_topics
from millrace.runtime.clock import ClockBook, wall_us
from millrace.runtime.definitions import Definition, DefinitionBook
from millrace.runtime.forgetting import ForgetBook
from millrace.runtime.room import RoomProcess
from millrace.stores.clickhouse import ClickHouse
from millrace.stores.erasing import CLEANED_US
from millrace.stores.sql import Database

from services.labeling.adapters.forgetting_sql import SqlForgetting
from services.labeling.adapters.history_clickhouse import ClickHouseHistory
from services.labeling.adapters.labels_sql import SqlLabelBook
from services.labeling.adapters.projects_book import BookProjects
from services.labeling.entrypoints import rpc
from services.labeling.entrypoints.consumer import data_worker, history_worker
from services.labeling.handlers.data import DataHandler
from services.labeling.handlers.forgetting import Forgetting
from services.labeling.handlers.history import HistoryHandler
from services.labeling.handlers.messages import ROOM
from services.labeling.handlers.spine import SpineHandler
from services.labeling.handlers.tasks import TaskHandler
from services.labeling.settings import Settings

MIGRATIONS = Path(__file__).parent / "entrypoints" / "migrations"


@dataclass(frozen=True, slots=True)
class Neighbours:
    """What lies outside: tests put twins in."""

    bus: Bus
    database: Database
    history: ClickHouseHistory


class Labeling:
    """The parts of the room, joined."""

    def __init__(self, settings: Settings, outside: Neighbours) -> None:
        self.bus, self.database = outside.bus, outside.database
        self.topics = load_topics()
        self.definitions = DefinitionBook(self.bus)
        self.clocks = ClockBook(self.bus, self.definitions)
        self.book = SqlLabelBook(self.database)
        self.projects = BookProjects(self.bus, self.topics, self._consume)
        forgetting = Forgetting(SqlForgetting(self.database), outside.history, CLEANED_US, wall_us)
        self.forgets = ForgetBook(self.bus, ROOM, forgetting.obey, wall_us)
        forgotten = self.forgets.forgotten
        self.data = DataHandler(self.book, self.projects, most_examples=settings.maturing_examples, forgotten=forgotten)
        self.progress = HistoryHandler(self.book, outside.history, self.projects, forgotten)
        self.history_worker = history_worker(self.bus, self.progress)
        self.spine = SpineHandler(
            self.book,
            outside.history,
            self.projects,
            self.progress,
            deadline_s=settings.spine_deadline_s,
            hurry=self.history_worker.hurry,
        )
        self.tasks = TaskHandler(
            self.book, self.projects, project_now_us=self.clocks.now_us, lease_us=int(settings.lease_s * 1_000_000)
        )
        self.service = rpc.LabelingService(self.spine, self.tasks, now_us=wall_us, chunk_bytes=settings.chunk_bytes)
        self.data_worker = data_worker(self.bus, self.data, self.book, settings.batch_records)
        self.relay = OutboxRelay(self.database, self.bus)
        self.definitions.on_change(self._learn)

    async def start(self) -> None:
        """Open what is needed before anything is consumed."""
        await self.bus.start()
        await self.database.start(MIGRATIONS / "sql")
        await self.bus.ensure_topics([*self.topics.static(), *self.topics.for_room(ROOM)])
        await self.data.start()
        await self.progress.start()

    async def stop(self) -> None:
        """Close it again."""
        await self.bus.stop()
        await self.database.stop()

    def join(self, room: RoomProcess) -> None:
        """Give the room its tasks, its door and its status."""
        for name, run in (
            ("definitions", self.definitions.run),
            ("clocks", self.clocks.run),
            ("forgetting", self.forgets.run),
            ("obeying", self.forgets.obey_all),
            ("labels", self.forgets.after(self.data_worker.run)),
            ("history", self.forgets.after(self.history_worker.run)),
            ("outbox", self.relay.run),
        ):
            room.add_task(name, run)
        room.add_grpc(lambda server: rpc.register(self.service, server))
        status = room.status
        status.consumes(self.data_worker)
        status.consumes(self.definitions)
        status.defers(self.history_worker)
        for worker in (self.data_worker, self.history_worker):
            status.dead_letters(lambda worker=worker: worker.dead_letters)  # type: ignore[misc]
        status.unpublished(lambda: self.relay.unpublished_records)
        status.watermarks(lambda: self.data.watermarks_us)
        status.definitions(self.definitions.versions)
        status.busy(lambda: self.forgets.busy)
        status.problem("forgetting", lambda: self.forgets.problem, degrades_only=True)
        status.problem("definitions are being read", lambda: "" if self.definitions.ready else "not caught up yet")
        status.problem("definitions", lambda: self.definitions.problem, degrades_only=True)
        for name, task in (
            ("labels", self.data_worker),
            ("history", self.history_worker),
            ("outbox", self.relay),
        ):
            status.problem(f"{name} worker", lambda task=task: _trouble(task.state))  # type: ignore[misc]

    async def _learn(self, name: str, definition: Definition | None) -> None:
        await self.projects.learn(name, definition)
        if definition is not None:
            await self.data.catch_up(name)

    async def _consume(self, topics: object) -> None:
        await self.data_worker.set_topics(topics)  # type: ignore[arg-type]


def _trouble(state: str) -> str:
    return state if state.startswith("retrying") else ""


def build() -> RoomProcess:
    """The room over Kafka, SQL and ClickHouse, as the settings say."""
    settings = Settings()
    room = RoomProcess(ROOM, settings)
    clickhouse = ClickHouse(settings.clickhouse_url, database=ROOM)
    labeling = Labeling(
        settings,
        Neighbours(
            bus=KafkaBus.of_room(ROOM, settings),
            database=Database(settings.database_url(ROOM), room=ROOM),
            history=ClickHouseHistory(clickhouse),
        ),
    )
    room.on_start(lambda: clickhouse.start(MIGRATIONS / "clickhouse"))
    room.on_start(labeling.start)
    room.on_stop(clickhouse.close)
    room.on_stop(labeling.stop)
    labeling.join(room)
    return room
