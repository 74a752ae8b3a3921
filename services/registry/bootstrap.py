"""Joins the registry's ports to their adapters."""

from __future__ import annotations

import asyncio
from pathlib import Path

import grpc
from millrace.bus.kafka import KafkaBus
from millrace.bus.outbox import OutboxRelay
from millrace.bus.ports import Bus
from millrace.bus.topics import load_topics
from millrace.bus.worker import Worker
from millrace.runtime.clock import ClockBook, wall_us
from millrace.runtime.definitions import DefinitionBook
from millrace.runtime.forgetting import ForgetBook
from millrace.runtime.room import RoomProcess
from millrace.stores.objects import open_objects
from millrace.stores.sql import Database
from millrace.wire.registry.v1 import service_pb2_grpc

from services.registry.adapters.clocks_bus import ProjectClocks
from services.registry.adapters.models_onnx import OnnxInspector
from services.registry.entrypoints.consumer import Consumer
from services.registry.entrypoints.rest import ModelPages
from services.registry.entrypoints.rpc import RegistryDoor
from services.registry.handlers.desk import Desk
from services.registry.handlers.forgetting import Forgetting
from services.registry.handlers.release import expire_guards
from services.registry.settings import Settings

ROOM = "registry"
MIGRATIONS = Path(__file__).parent / "entrypoints" / "migrations"
# Release state and serving status do not wait for each other.
GROUPS = {"registry.release": ("training.runs", "models.commands"), "registry.status": ("serving.status",)}


def build() -> RoomProcess:
    """The room, from the environment's settings."""
    settings = Settings()
    bus = KafkaBus.of_room(ROOM, settings)
    return assemble(settings, bus)


def assemble(settings: Settings, bus: Bus) -> RoomProcess:
    """The room over a given bus."""
    room = RoomProcess(ROOM, settings)
    database = Database(settings.database_url(ROOM), room=ROOM)
    objects = open_objects(settings.objects_url or str(settings.objects_path(ROOM)))
    book, clock = DefinitionBook(bus), ClockBook(bus)
    desk = Desk(
        database=database,
        objects=objects,
        clock=ProjectClocks(clock, wall_us),
        inspector=OnnxInspector(settings.inspect_timeout_s),
        topics=bus,
        wall_us=wall_us,
        artifact_max_bytes=settings.artifact_max_mb * 1024**2,
    )
    _open(room, bus, database)
    _follow(room, desk, book, clock, settings)
    _consume(room, desk, bus)
    _relay(room, database, bus)
    _forget(room, desk, bus)
    ModelPages(desk).mount(room.http)
    room.add_grpc(lambda server: _register(server, desk))
    return room


def _open(room: RoomProcess, bus: Bus, database: Database) -> None:
    table = load_topics()
    room.on_start(bus.start)
    room.on_stop(bus.stop)
    room.on_start(lambda: bus.ensure_topics([*table.static(), *table.for_room(ROOM)]))
    room.on_start(lambda: database.start(MIGRATIONS))
    room.on_stop(database.stop)


def _follow(room: RoomProcess, desk: Desk, book: DefinitionBook, clock: ClockBook, settings: Settings) -> None:
    async def on_tick(project: str, now_us: int) -> None:
        if clock.ready:
            await expire_guards(desk, project)

    async def watch_guards() -> None:
        await clock.wait_ready(settings.start_deadline_s)
        while True:
            await expire_guards(desk)
            await asyncio.sleep(settings.guard_check_s)

    clock.on_tick(on_tick)
    room.add_task("definitions", book.run)
    room.add_task("clocks", clock.run)
    room.add_task("guards", watch_guards)
    room.status.consumes(book)
    room.status.consumes(clock)
    room.status.definitions(book.versions)
    room.status.problem("definitions", lambda: book.problem)


def _consume(room: RoomProcess, desk: Desk, bus: Bus) -> None:
    for group, topics in GROUPS.items():
        consumer = Consumer(desk, group)
        _watch(room, group, Worker(bus, room=ROOM, group=group, handle=consumer.handle, topics=topics))


def _watch(room: RoomProcess, group: str, worker: Worker) -> None:
    room.add_task(group, worker.run)
    room.status.consumes(worker)
    room.status.dead_letters(lambda: worker.dead_letters)
    room.status.problem(f"{group} consumer", lambda: worker.state if worker.state.startswith("retrying") else "")


def _relay(room: RoomProcess, database: Database, bus: Bus) -> None:
    relay = OutboxRelay(database, bus)
    room.add_task("outbox", relay.run)
    room.status.unpublished(lambda: relay.unpublished_records)
    room.status.problem("outbox relay", lambda: relay.state if relay.state.startswith("retrying") else "")


def _forget(room: RoomProcess, desk: Desk, bus: Bus) -> None:
    forgets = ForgetBook(bus, ROOM, Forgetting(desk).obey, desk.wall_us)
    room.add_task("forgetting", forgets.run)
    room.add_task("obeying", forgets.obey_all)
    room.status.problem("forgetting", lambda: forgets.problem, degrades_only=True)


def _register(server: grpc.aio.Server, desk: Desk) -> None:
    service_pb2_grpc.add_RegistryServicer_to_server(RegistryDoor(desk), server)  # type: ignore[no-untyped-call]
