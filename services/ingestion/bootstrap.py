"""Where ingestion's ports get their adapters."""

from __future__ import annotations

import asyncio
import secrets
from functools import partial
from pathlib import Path

from millrace.bus.kafka import KafkaBus
from millrace.bus.ports import Bus
from millrace.bus.topics import load_topics
from millrace.bus.worker import Worker
from millrace.runtime.clock import wall_us
from millrace.runtime.definitions import Definition, DefinitionBook
from millrace.runtime.room import RoomProcess
from millrace.stores.sql import Database
from millrace.wire.ingestion.v1 import forgetting_pb2_grpc, service_pb2_grpc

from services.ingestion.adapters.forgets_sql import SqlForgets
from services.ingestion.adapters.keys_sql import SqlKeys
from services.ingestion.adapters.ledger_sql import SqlLedger
from services.ingestion.adapters.profiles_sql import SqlProfiles
from services.ingestion.adapters.references_store import ReferenceStore
from services.ingestion.adapters.tails_bus import BusTails
from services.ingestion.entrypoints.consumer import raw_worker, receipts_worker
from services.ingestion.entrypoints.docs import DocsPages
from services.ingestion.entrypoints.forgetting_rpc import ForgettingService
from services.ingestion.entrypoints.metrics import count_findings, count_outcomes
from services.ingestion.entrypoints.rest import router
from services.ingestion.entrypoints.rpc import IngestionService
from services.ingestion.handlers.docs import DataDocs
from services.ingestion.handlers.forgetting import ForgetDesk
from services.ingestion.handlers.notes import Notes
from services.ingestion.handlers.plane import Ingestion, Limits, Outside
from services.ingestion.handlers.references import ReferenceBooks
from services.ingestion.handlers.revealing import RevealDesk
from services.ingestion.settings import ROOM, Settings

MIGRATIONS = Path(__file__).parent / "entrypoints" / "migrations"
BEAT_S = 1.0
FORGETTING_S = 5.0  # how long a request whose room was away waits for its next step


def _limits(settings: Settings) -> Limits:
    return Limits(
        recent_ids=settings.recent_ids,
        max_request_events=settings.max_request_events,
        max_waiting_events=settings.max_waiting_events,
        max_waiting_bytes=settings.max_waiting_bytes,
        max_ahead_us=settings.max_ahead_us,
        max_lease_ms=settings.max_lease_ms,
        max_definition_wait_us=settings.max_definition_wait_ms * 1_000,
    )


def build(settings: Settings, bus: Bus | None = None) -> RoomProcess:
    """The room, joined; `bus` stands in for Kafka in tests."""
    room = RoomProcess(ROOM, settings)
    bus = bus or KafkaBus.of_room(ROOM, settings)
    topics = load_topics()
    database = Database(settings.database_url(ROOM), room=ROOM)
    ledger = SqlLedger(database)
    books = ReferenceBooks(ReferenceStore(database, bus), settings.recent_ids)
    notes = Notes(SqlProfiles(database, settings.profile_days), books)
    keys, forgets = SqlKeys(database), SqlForgets(database)
    outside = Outside(bus, ledger, BusTails(bus), topics, notes, keys, count_outcomes, count_findings)
    plane = Ingestion(outside, _limits(settings), wall_us)
    desk = ForgetDesk(plane, bus, forgets, keys, notes, topics, wall_us)
    reveals = RevealDesk(plane, forgets, keys, wall_us)
    definitions = DefinitionBook(bus)
    worker, receipts = raw_worker(bus, plane), receipts_worker(bus, desk)

    async def start() -> None:
        await database.start(MIGRATIONS)
        await bus.start()
        await bus.ensure_topics(topics.static())
        secret = settings.pii_secret.encode() or await ledger.secret(secrets.token_bytes(32))
        await plane.open(secret)
        keys.open(secret)
        await desk.open(secret)
        reveals.open(secret)

    async def follow(name: str, definition: Definition | None) -> None:
        await plane.follow_definition(name, definition)
        await worker.set_topics(plane.raw_topics())

    async def beat() -> None:
        while True:
            await asyncio.sleep(BEAT_S)
            await plane.beat()

    async def look_after_forgetting() -> None:
        while True:
            await asyncio.sleep(FORGETTING_S)
            await desk.tick()

    definitions.on_change(follow)
    room.on_start(start)
    room.on_stop(database.stop)
    room.on_stop(bus.stop)
    room.on_stop(plane.close)
    for name, run in (
        ("definitions", definitions.run),
        ("raw", worker.run),
        ("beat", beat),
        ("receipts", receipts.run),
        ("forgetting", look_after_forgetting),
    ):
        room.add_task(name, run)
    docs = DataDocs(plane, notes)
    service = IngestionService(plane, docs)
    DocsPages(docs).mount(room.http)
    room.add_grpc(partial(service_pb2_grpc.add_IngestionServicer_to_server, service))
    forgetting = ForgettingService(desk, reveals)
    room.add_grpc(partial(forgetting_pb2_grpc.add_ForgettingServicer_to_server, forgetting))
    room.status.consumes(receipts, counted=False)
    room.status.dead_letters(lambda: receipts.dead_letters)
    room.status.problem(
        "receipts", lambda: receipts.state if receipts.state.startswith("retrying") else "", degrades_only=True
    )
    room.http.include_router(router(plane, settings.max_body_bytes, settings.max_file_bytes))
    _report(room, plane, definitions, worker)
    room.status.problem("reference values", lambda: _filling(books), degrades_only=True)
    return room


def _filling(books: ReferenceBooks) -> str:
    places = books.filling()
    return f"still being read: {', '.join(places)}" if places else ""


def _report(room: RoomProcess, plane: Ingestion, definitions: DefinitionBook, worker: Worker) -> None:
    status = room.status
    status.consumes(worker, counted=False)  # its events are the lanes' too
    status.consumes(definitions)
    status.busy(lambda: plane.busy_requests)
    status.handled(lambda: sum(lane.handled_events for lane in plane.all_lanes()))
    status.dead_letters(lambda: worker.dead_letters)
    status.definitions(plane.versions)
    status.watermarks(plane.watermarks_us)
    status.problem("definition", lambda: definitions.problem, degrades_only=True)
    status.problem("definitions", lambda: "" if definitions.ready else "not caught up")
    status.problem("raw topics", lambda: worker.state if worker.state.startswith("retrying") else "")
