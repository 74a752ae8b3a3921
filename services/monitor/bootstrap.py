"""The only file that joins the monitor's ports to their adapters."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from millrace.bus.kafka import KafkaBus
from millrace.bus.outbox import OutboxRelay
from millrace.bus.ports import Bus
from millrace.bus.topics import load_topics
from millrace.bus.worker import Worker
from millrace.definitions.model import Project
from millrace.runtime.channels import channel
from millrace.runtime.clock import ClockBook, wall_us
from millrace.runtime.definitions import DefinitionBook
from millrace.runtime.forgetting import ForgetBook
from millrace.runtime.room import RoomProcess
from millrace.runtime.settings import ROOMS
from millrace.runtime.status import Consumes
from millrace.stores.clickhouse import ClickHouse
from millrace.stores.sql import Database
from prometheus_client import REGISTRY

from services.monitor.adapters.bundles_grpc import RegistryBundles
from services.monitor.adapters.drift_evidently import EvidentlyReports
from services.monitor.adapters.fleet_grpc import GrpcFleet
from services.monitor.adapters.index_clickhouse import ClickHouseIndex
from services.monitor.adapters.live_child import LiveStream
from services.monitor.adapters.log_clickhouse import ClickHouseLog
from services.monitor.adapters.log_erasing import LogErasing
from services.monitor.adapters.state_sql import SqlState
from services.monitor.domain.alerts import Alert
from services.monitor.domain.live import Live
from services.monitor.entrypoints import rest
from services.monitor.entrypoints.console import Console
from services.monitor.entrypoints.consumer import workers
from services.monitor.entrypoints.metrics import MonitorCollector
from services.monitor.entrypoints.rpc import MonitorRpc
from services.monitor.handlers.decide import Cadence, Decider, Inputs
from services.monitor.handlers.desk import Desk
from services.monitor.handlers.queries import Queries
from services.monitor.handlers.reports import Reporter
from services.monitor.handlers.sinks import Sinks
from services.monitor.ports import Bundles, Fleet
from services.monitor.settings import ROOM, Settings

SCRAPE_S = 5.0  # how old the open alerts of a scrape may be
MIGRATIONS = Path(__file__).parent / "entrypoints" / "migrations"


@dataclass(slots=True)
class Parts:
    """Everything joined, for the process and for tests that put twins in."""

    settings: Settings
    bus: Bus
    database: Database
    store: ClickHouse
    definitions: DefinitionBook
    clocks: ClockBook
    forgets: ForgetBook
    state: SqlState
    sinks: Sinks
    decider: Decider
    queries: Queries
    relay: OutboxRelay
    workers: dict[str, Worker]
    label_partitions: list[int]
    stream: LiveStream
    reporter: Reporter
    open_alerts: list[Alert] = field(default_factory=list)

    def live(self) -> Mapping[str, Live]:
        """Model to its live figures; empty where the stream is off or has not spoken lately."""
        return self.stream.live()

    async def watch_alerts(self) -> None:
        """Keeps the open alerts at hand for the scrape, which cannot wait for a query."""
        while True:
            self.open_alerts = await self.state.alerts(open_only=True)
            await asyncio.sleep(SCRAPE_S)

    def labels_until(self, project: str) -> int:
        """The time up to which labels are complete: the least over the topic's partitions; 0 until all were heard."""
        known = [self.sinks.labels_until.get((project, part), 0) for part in self.label_partitions]
        return min(known, default=0)

    def projects(self) -> dict[str, Project]:
        """The projects that run."""
        return {name: definition.project for name, definition in self.definitions.projects.items()}

    def known_lag(self) -> int:
        """Records that are known to wait in all our topics."""
        return sum(consumer.lag_records for consumer in self._consumers())

    async def lag_records(self) -> int:
        """The same, as the broker says now. Raises BusUnavailable."""
        await asyncio.gather(*(consumer.learn_lag() for consumer in self._consumers()))
        return self.known_lag()

    def _consumers(self) -> list[Consumes]:
        return [self.definitions, self.clocks, *self.workers.values()]


def join(settings: Settings, bus: Bus, bundles: Bundles, fleet: Fleet, *, database: str = ROOM) -> Parts:
    """Joins everything over a bus; `database` names the ClickHouse database."""
    sql = Database(settings.database_url(ROOM), room=ROOM)
    store = ClickHouse(settings.clickhouse_url, database=database)
    definitions = DefinitionBook(bus)
    clocks = ClockBook(bus, definitions)
    state, log, index = SqlState(sql), ClickHouseLog(store), ClickHouseIndex(store)
    desk = Desk(log=log, index=index, state=state, bundles=bundles, wall_us=wall_us)
    parts: Parts
    decider = Decider(
        desk=desk,
        inputs=Inputs(
            projects=lambda: parts.projects(),
            now_us=clocks.now_us,
            labels_until=lambda project: parts.labels_until(project),
            known_lag=lambda: parts.known_lag(),
            lag_records=lambda: parts.lag_records(),
            settled=fleet.settled,
        ),
        cadence=Cadence(settings.decide_every_replay_s * 1_000_000, settings.decide_every_wall_s * 1_000_000),
    )
    forgets = ForgetBook(bus, ROOM, LogErasing(store, wall_us).obey, wall_us)
    sinks = Sinks(
        log=log,
        index=index,
        state=state,
        project_now=clocks.now_us,
        wall_us=wall_us,
        changed=decider.wake,
        forgotten=forgets.forgotten,
    )
    parts = Parts(
        settings=settings,
        bus=bus,
        database=sql,
        store=store,
        definitions=definitions,
        clocks=clocks,
        forgets=forgets,
        state=state,
        sinks=sinks,
        decider=decider,
        queries=Queries(
            log=log,
            index=index,
            state=state,
            fleet=fleet,
            projects=lambda: parts.projects(),
            now_us=clocks.now_us,
            live=lambda: parts.live(),
        ),
        relay=OutboxRelay(sql, bus),
        workers=workers(bus, sinks, settings.batch_records),
        label_partitions=[],
        stream=LiveStream(settings.kafka_bootstrap, settings.folder(ROOM) / "stream"),
        reporter=Reporter(
            log=log,
            state=state,
            reports=EvidentlyReports(reports_folder(settings), settings.report_deadline_s),
            projects=lambda: parts.projects(),
            decided=lambda project: decider.decided.get(project, 0),
            every_windows=settings.report_every_windows,
            rows=settings.report_rows,
        ),
    )
    return parts


def reports_folder(settings: Settings) -> Path:
    """Where Evidently's pages lie."""
    return settings.folder(ROOM) / "reports"


async def start(parts: Parts) -> None:
    """Opens stores, makes sure of the topics, and takes up what is remembered."""
    await parts.bus.start()
    await parts.database.start(MIGRATIONS / "sql")
    await parts.store.start(MIGRATIONS / "clickhouse")
    table = load_topics()
    await parts.bus.ensure_topics([*table.static(), *table.for_room(ROOM)])
    parts.decider.decided = dict(await parts.state.decided())
    parts.label_partitions = await parts.bus.partitions("labels")
    for project, by_part in (await parts.state.heartbeats()).items():
        for part, until_us in by_part.items():
            parts.sinks.labels_until[project, part] = until_us

    async def on_tick(project: str, now_us: int) -> None:
        parts.decider.wake()

    parts.clocks.on_tick(on_tick)


async def stop(parts: Parts) -> None:
    """Closes what `start` opened."""
    await parts.relay.drain()
    await parts.store.close()
    await parts.database.stop()
    await parts.bus.stop()


def build() -> RoomProcess:
    """The room of this process, from its environment."""
    settings = Settings()
    room = RoomProcess(ROOM, settings)
    channels = {name: channel(settings.address(name), settings) for name in ROOMS if settings.address(name)}
    bus = KafkaBus.of_room(ROOM, settings)
    parts = join(settings, bus, RegistryBundles(channels.get("registry")), GrpcFleet(channels))
    equip(room, parts)
    for own in channels.values():
        room.on_stop(partial(own.close, None))
    return room


def equip(room: RoomProcess, parts: Parts) -> None:
    """Gives the room its hooks, tasks and doors."""
    room.on_start(lambda: start(parts))
    room.on_stop(lambda: stop(parts))
    room.add_task("definitions", parts.definitions.run)
    room.add_task("clocks", parts.clocks.run)
    room.add_task("forgetting", parts.forgets.run)
    room.add_task("obeying", parts.forgets.obey_all)
    room.status.problem("forgetting", lambda: parts.forgets.problem, degrades_only=True)
    for group, worker in parts.workers.items():
        room.add_task(group, parts.forgets.after(worker.run))
        room.status.consumes(worker)
        room.status.dead_letters(_counter(worker, "dead_letters"))
        room.status.problem(group, _state_of(worker), degrades_only=True)
    room.add_task("outbox", parts.relay.run)
    room.add_task("decisions", parts.decider.run)
    room.status.consumes(parts.definitions, counted=False)
    room.status.consumes(parts.clocks, counted=False)
    room.status.unpublished(lambda: parts.database.unpublished_records)
    room.status.problem(
        "outbox relay",
        lambda: parts.relay.state if parts.relay.state.startswith("retrying") else "",
        degrades_only=True,
    )
    room.status.busy(lambda: parts.decider.busy)
    room.status.handled(lambda: parts.decider.decisions)
    room.status.watermarks(parts.decider.watermarks)
    room.status.definitions(parts.definitions.versions)
    room.status.problem("definitions", lambda: parts.definitions.problem, degrades_only=True)
    room.status.problem("decisions", lambda: parts.decider.problem, degrades_only=True)
    room.add_grpc(MonitorRpc(parts.queries).register)
    room.http.include_router(rest.router(parts.queries))
    settings = parts.settings
    Console(parts.queries, parts.state, reports_folder(settings), settings.console_refresh_s, wall_us).mount(room.http)
    _equip_extras(room, parts)


def _equip_extras(room: RoomProcess, parts: Parts) -> None:
    """What may fail without harm: pictures, live figures, metrics."""
    if parts.settings.reports:
        room.add_task("reports", parts.reporter.run)
        room.status.problem("reports", lambda: parts.reporter.problem, degrades_only=True)
    if parts.settings.stream and not parts.settings.kafka_security:
        room.add_task("stream", parts.stream.run)
        room.status.problem("stream", lambda: parts.stream.problem, degrades_only=True)
    room.add_task("scrape", parts.watch_alerts)
    collector = MonitorCollector(
        lambda: parts.open_alerts, parts.live, lambda: parts.decider.decisions, lambda: parts.decider.decided
    )

    async def register() -> None:
        REGISTRY.register(collector)

    async def unregister() -> None:
        REGISTRY.unregister(collector)

    room.on_start(register)
    room.on_stop(unregister)


def _counter(worker: Worker, name: str) -> Callable[[], int]:
    return lambda: int(getattr(worker, name))


def _state_of(worker: Worker | OutboxRelay) -> Callable[[], str]:
    return lambda: "" if worker.state in ("running", "starting") else worker.state
