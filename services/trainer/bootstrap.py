"""Joins the trainer's ports to their adapters."""

from __future__ import annotations

import asyncio
from pathlib import Path

import grpc
from millrace.bus.effects import Effects
from millrace.bus.events import Batch
from millrace.bus.kafka import KafkaBus
from millrace.bus.outbox import OutboxRelay
from millrace.bus.ports import Bus
from millrace.bus.topics import load_topics
from millrace.bus.worker import Worker
from millrace.runtime.channels import channel
from millrace.runtime.clock import ClockBook, wall_us
from millrace.runtime.definitions import Definition, DefinitionBook
from millrace.runtime.forgetting import ForgetBook
from millrace.runtime.room import RoomProcess
from millrace.stores.sql import Database
from millrace.wire.trainer.v1 import service_pb2_grpc

from services.trainer.adapters.environment import code_version
from services.trainer.adapters.features_grpc import GrpcFeatures
from services.trainer.adapters.jobs_process import ProcessJobs
from services.trainer.adapters.registry_grpc import GrpcRegistry
from services.trainer.adapters.rows_forgetting import RowsForgetting
from services.trainer.adapters.runs_sql import SqlRuns
from services.trainer.entrypoints.executor import Executor
from services.trainer.entrypoints.rerun import Reruns
from services.trainer.entrypoints.rpc import TrainerDoor
from services.trainer.entrypoints.workshop import Workshop
from services.trainer.handlers import HANDLERS, LABELS, ROOM, Desk, look_again
from services.trainer.settings import Settings

MIGRATIONS = Path(__file__).parent / "entrypoints" / "migrations"
FOLLOW_DEADLINE_S = 60.0
GATHER_MS = 500  # labels are counted, not answered: larger batches cost fewer transactions


def build() -> RoomProcess:
    """The room, from the environment's settings."""
    settings = Settings()
    return assemble(
        settings,
        KafkaBus.of_room(ROOM, settings),
    )


def assemble(settings: Settings, bus: Bus) -> RoomProcess:
    """The room over a given bus."""
    room = RoomProcess(ROOM, settings)
    database = Database(settings.database_url(ROOM), room=ROOM)
    runs = SqlRuns(database)
    definitions = DefinitionBook(bus)
    clocks = ClockBook(bus, definitions)
    changed = asyncio.Event()
    desk = Desk(runs, definitions, clocks, wall_us, changed.set)
    _open(room, bus, database, runs)
    _follow(room, desk, definitions, clocks, settings.look_again_s)
    _consume(room, desk, bus, definitions, clocks)
    _relay(room, database, bus)
    reruns = _execute(room, desk, settings, changed, definitions)
    _forget(room, bus, RowsForgetting(database, settings.folder(ROOM) / "runs", wall_us))
    room.status.problem("training", lambda: runs.off, degrades_only=True)
    room.status.busy(lambda: runs.unfinished_runs)
    room.status.watermarks(lambda: runs.watermarks_us)
    room.add_grpc(lambda server: _register(server, desk, reruns))
    return room


def _open(room: RoomProcess, bus: Bus, database: Database, runs: SqlRuns) -> None:
    table = load_topics()

    async def learn() -> None:
        runs.label_partitions = len(await bus.partitions(LABELS))
        async with runs.transaction():
            pass  # learns what is unfinished, and up to when labels are known

    room.on_start(bus.start)
    room.on_stop(bus.stop)
    room.on_start(lambda: bus.ensure_topics([*table.static(), *table.for_room(ROOM)]))
    room.on_start(lambda: database.start(MIGRATIONS))
    room.on_stop(database.stop)
    room.on_start(learn)


def _follow(room: RoomProcess, desk: Desk, definitions: DefinitionBook, clocks: ClockBook, look_again_s: float) -> None:
    async def on_change(name: str, definition: Definition | None) -> None:
        desk.work_changed()

    async def watch_time() -> None:
        await _caught_up(definitions, clocks)
        while True:
            await look_again(desk)
            await asyncio.sleep(look_again_s)

    definitions.on_change(on_change)
    room.add_task("definitions", definitions.run)
    room.add_task("clocks", clocks.run)
    room.add_task("triggers", watch_time)
    room.status.consumes(definitions)
    room.status.consumes(clocks)
    room.status.definitions(definitions.versions)
    room.status.problem("definitions", lambda: definitions.problem, degrades_only=True)


def _consume(room: RoomProcess, desk: Desk, bus: Bus, definitions: DefinitionBook, clocks: ClockBook) -> None:
    async def handle(batch: Batch, effects: Effects) -> None:
        await HANDLERS[batch.topic](desk, batch, effects)

    worker = Worker(bus, room=ROOM, group=ROOM, handle=handle, topics=HANDLERS, gather_ms=GATHER_MS)

    async def consume() -> None:
        await _caught_up(definitions, clocks)
        await worker.run()

    room.add_task("consumer", consume)
    room.status.consumes(worker)
    room.status.dead_letters(lambda: worker.dead_letters)
    room.status.problem("consumer", lambda: "" if worker.state in ("starting", "running") else worker.state)


def _relay(room: RoomProcess, database: Database, bus: Bus) -> None:
    relay = OutboxRelay(database, bus)
    room.add_task("outbox", relay.run)
    room.status.unpublished(lambda: relay.unpublished_records)
    room.status.problem("outbox", lambda: "" if relay.state in ("starting", "running") else relay.state)


def _execute(
    room: RoomProcess, desk: Desk, settings: Settings, changed: asyncio.Event, definitions: DefinitionBook
) -> Reruns:
    features_channel = channel(settings.address("feature_store"), settings)
    registry_channel = channel(settings.address("registry"), settings)
    jobs = ProcessJobs(threads=settings.threads, nice=settings.nice, deadline_s=settings.job_deadline_s)
    workshop = Workshop(
        features=GrpcFeatures(features_channel, deadline_s=settings.call_deadline_s),
        registry=GrpcRegistry(registry_channel, deadline_s=settings.call_deadline_s),
        jobs=jobs,
        folder=settings.folder(ROOM) / "runs",
        code_version=code_version(),
        threads=settings.threads,
        patience_s=settings.patience_s,
    )
    executor, reruns = Executor(desk, workshop, changed), Reruns(desk, workshop)
    room.on_start(reruns.clean)

    async def execute() -> None:
        await definitions.wait_ready(FOLLOW_DEADLINE_S)
        if settings.warm:
            jobs.keep_ready()
        await executor.run()

    room.add_task("executor", execute)

    async def close_channels() -> None:
        await features_channel.close(None)
        await registry_channel.close(None)

    room.on_stop(close_channels)
    room.status.problem("executor", lambda: executor.problem, degrades_only=True)
    return reruns


def _forget(room: RoomProcess, bus: Bus, rows: RowsForgetting) -> None:
    forgets = ForgetBook(bus, ROOM, rows.obey, wall_us)
    room.add_task("forgetting", forgets.run)
    room.add_task("obeying", forgets.obey_all)
    room.status.problem("forgetting", lambda: forgets.problem, degrades_only=True)


async def _caught_up(definitions: DefinitionBook, clocks: ClockBook) -> None:
    await definitions.wait_ready(FOLLOW_DEADLINE_S)
    await clocks.wait_ready(FOLLOW_DEADLINE_S)


def _register(server: grpc.aio.Server, desk: Desk, reruns: Reruns) -> None:
    service_pb2_grpc.add_TrainerServicer_to_server(TrainerDoor(desk, reruns), server)  # type: ignore[no-untyped-call]
