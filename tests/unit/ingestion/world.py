"""A whole ingestion over twins: the memory bus, an SQLite in memory, a wall that is set by hand."""

from pathlib import Path

from millrace.bus.memory import MemoryBroker, MemoryBus
from millrace.definitions.gate import Gate
from millrace.definitions.model import (
    Clock,
    Field,
    FieldType,
    Label,
    Model,
    Monitors,
    Pii,
    Predict,
    Project,
    QualityMonitor,
    Rollout,
    Source,
    Task,
    Template,
    Training,
)
from millrace.runtime.definitions import Definition
from millrace.stores.sql import Database

from services.ingestion.adapters.keys_sql import SqlKeys
from services.ingestion.adapters.ledger_sql import SqlLedger
from services.ingestion.adapters.profiles_sql import SqlProfiles
from services.ingestion.adapters.references_store import ReferenceStore
from services.ingestion.adapters.tails_bus import BusTails
from services.ingestion.handlers.judge import Incoming
from services.ingestion.handlers.notes import Notes
from services.ingestion.handlers.plane import Ingestion, Limits, Outside
from services.ingestion.handlers.references import ReferenceBooks
from tests.support.topics import partitioned

MIGRATIONS = Path("services/ingestion/entrypoints/migrations")
HOUR = 3_600_000_000
T0 = 1_372_636_800_000_000  # 2013-07-01

SENSOR = Source(
    "readings",
    "plant.reading.taken",
    "sensor",
    "at",
    (
        Field("sensor", FieldType.STRING, required=True, regex="[a-z0-9-]+"),
        Field("at", FieldType.TIMESTAMP, required=True),
        Field("degrees", FieldType.NUMBER, range=(-50, 150)),
        Field("count", FieldType.INTEGER),
        Field("kind", FieldType.STRING, set=("hot", "cold")),
        Field("operator", FieldType.STRING, pii=Pii.HASH),
        Field("phone", FieldType.STRING, pii=Pii.MASK, regex="[0-9]+"),
        Field("note", FieldType.STRING, pii=Pii.DROP),
        Field("is_on", FieldType.BOOLEAN),
    ),
)
REPAIRS = Source(
    "repairs",
    "plant.repair.done",
    "sensor",
    "at",
    (Field("sensor", FieldType.STRING, required=True), Field("at", FieldType.TIMESTAMP, required=True)),
)


def project(
    clock: Clock = Clock.REPLAY, name: str = "plant", sources: tuple[Source, ...] = (SENSOR, REPAIRS)
) -> Project:
    """A project of which only clock and sources matter here."""
    return Project(
        name=name,
        description="",
        clock=clock,
        sources=sources,
        predict=Predict("readings", "sensor", "at"),
        views=(),
        label=Label("readings", "sensor", "degrees", HOUR),
        model=Model("m", Task.REGRESSION, Template("linear"), ()),
        training=Training(),
        gate=Gate("mae"),
        rollout=Rollout(),
        monitors=Monitors(data_quality=QualityMonitor(window_us=6 * HOUR)),
    )


def reading(sensor: str | None, at: int | str, **more: object) -> dict:
    """One event of `readings`."""
    return {"sensor": sensor, "at": at, **more}


def incoming(value: object, event_id: str = "", available_us: int = 0) -> Incoming:
    """As a door would hand it in."""
    import msgspec

    return Incoming(value if isinstance(value, bytes) else msgspec.json.encode(value), event_id, available_us)


class World:
    """An ingestion that may be started again over the same broker and database file."""

    def __init__(self, folder: Path, **limits: int) -> None:
        self.broker = MemoryBroker()
        self.folder = folder
        self.limits = Limits(**limits)
        self.wall_us = T0 + 365 * 24 * HOUR
        self.version = 0
        self.definitions: dict[str, Definition] = {}
        self.databases: list[Database] = []

    async def start(self, *projects: Project) -> Ingestion:
        """A new process's plane, as after a kill when there was one before."""
        self.bus = MemoryBus(self.broker)
        self.database = Database(f"sqlite:///{self.folder / 'ingestion.db'}", room="ingestion")
        self.databases.append(self.database)
        await self.database.start(MIGRATIONS)
        topics = partitioned()
        await self.bus.ensure_topics(topics.static())
        ledger = SqlLedger(self.database)
        self.books = ReferenceBooks(ReferenceStore(self.database, self.bus), self.limits.recent_ids)
        self.notes = Notes(SqlProfiles(self.database, kept_days=400), self.books)
        self.keys = SqlKeys(self.database)
        self.keys.open(b"s" * 32)
        outside = Outside(self.bus, ledger, BusTails(self.bus), topics, self.notes, self.keys)
        self.plane = Ingestion(outside, self.limits, lambda: self.wall_us)
        await self.plane.open(await ledger.secret(b"s" * 32))
        for one in projects:
            self.definitions[one.name] = Definition(1, "", one)
        for name, definition in self.definitions.items():
            await self.plane.follow_definition(name, definition)
        return self.plane

    async def stop(self) -> None:
        """Closes the last plane and every database."""
        await self.plane.close()
        for database in self.databases:
            await database.stop()

    def data(self, source: str = "readings", name: str = "plant") -> list:
        """Data records without heartbeats, by partition and offset."""
        return [r for r in self.bus.records(f"data.{name}.{source}") if r.event.type != HEARTBEAT]

    def all(self, source: str = "readings", name: str = "plant") -> list:
        """Data records and heartbeats."""
        return self.bus.records(f"data.{name}.{source}")


HEARTBEAT = "millrace.ingestion.clock.advanced.v1"
