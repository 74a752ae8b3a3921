"""A platform of its own for a benchmark: the embedded stack and the rooms that it needs, in processes of their own."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import psutil
from millrace.bus.kafka import KafkaBus
from millrace.bus.topics import load_topics
from millrace.client.addresses import Addresses
from millrace.definitions.load import load_text
from millrace.runtime.channels import open_channel
from millrace.stores.clickhouse import ClickHouse
from millrace.wire.common.v1 import common_pb2, common_pb2_grpc
from millrace.wire.registry.v1 import service_pb2 as registry_pb2
from millrace.wire.registry.v1 import service_pb2_grpc as registry_grpc

from bench.benchmark import BenchError
from infra.embedded.platform import Platform

PARTS = ("kafka", "valkey", "clickhouse")
POLL_S = 0.05
APPLY_DEADLINE_S = 120.0


class World:
    """Stack and rooms under one temporary home. Its processes end with the block of `running`, also after a failure."""

    def __init__(self, platform: Platform) -> None:
        self.platform = platform

    @property
    def kafka(self) -> str:
        """Bootstrap servers."""
        return self.platform.stack.addresses.kafka

    @property
    def redis(self) -> str:
        """redis:// URL."""
        return self.platform.stack.addresses.redis

    def address(self, room: str) -> str:
        """gRPC address of a room."""
        return Addresses.discover(self.platform.home).grpc(room)

    def channel(self, room: str) -> grpc.aio.Channel:
        """A channel of its own to a room's gRPC door."""
        return open_channel(self.address(room))

    async def apply(self, text: str) -> str:
        """Gives a project file to the registry and waits until the rooms run it. Returns the project's name."""
        async with self.channel("registry") as channel:
            ask = registry_pb2.ApplyRequest(yaml=text, based_on_version=0, actor="bench", file_name="project.yaml")
            reply = await registry_grpc.RegistryStub(channel).Apply(ask, timeout=60)  # type: ignore[no-untyped-call]
        followers = [room for room in self.platform.rooms if room != "registry"]

        async def runs_everywhere() -> bool:
            statuses = [await self.status(room) for room in followers]
            return all(status.definitions.get(reply.project, 0) >= reply.version for status in statuses)

        await until(runs_everywhere, APPLY_DEADLINE_S, f"{reply.project} runs in {', '.join(followers)}")
        return str(reply.project)

    async def make_topics(self, text: str, partitions: int) -> None:
        """The topics that the project brings, before any room knows it."""
        project = load_text(text)
        specs = load_topics().for_project(project.name, [s.name for s in project.sources])
        async with self.bus() as bus:
            await bus.ensure_topics([replace(spec, partitions=partitions) for spec in specs])

    async def status(self, room: str) -> common_pb2.RoomStatus:
        """What a room says of itself now."""
        async with self.channel(room) as channel:
            stub: Any = common_pb2_grpc.RoomStub(channel)  # type: ignore[no-untyped-call]
            return await stub.Describe(common_pb2.DescribeRequest(), timeout=30)  # type: ignore[no-any-return]

    @asynccontextmanager
    async def bus(self) -> AsyncIterator[KafkaBus]:
        """A client of the broker for a block."""
        bus = KafkaBus(self.kafka, "bench")
        await bus.start()
        try:
            yield bus
        finally:
            await bus.stop()

    @asynccontextmanager
    async def history(self) -> AsyncIterator[ClickHouse]:
        """The feature store's database for a block."""
        clickhouse = ClickHouse(self.platform.stack.addresses.clickhouse, database="feature_store")
        await clickhouse.start()
        try:
            yield clickhouse
        finally:
            await clickhouse.close()

    async def history_table(self, project: str, source: str) -> str:
        """The name of a source's history table; "" before the room made it."""
        async with self.history() as clickhouse:
            rows = await clickhouse.query_rows(
                "SELECT name FROM history_tables FINAL WHERE project = {project:String} AND source = {source:String}"
                " ORDER BY created_us DESC LIMIT 1",
                {"project": project, "source": source},
            )
        return str(rows[0]["name"]) if rows else ""

    def cpu_s(self) -> dict[str, float]:
        """Processor seconds so far of each part and room, all its processes and their children included."""
        found: dict[str, float] = defaultdict(float)
        for name in (*PARTS, *self.platform.processes):
            found[name.partition("-")[0]] += cpu_of(self.platform.supervisor.pid(name))
        return dict(found)

    def reading_cpu_s(self) -> float:
        """Processor seconds of those that answer online reads."""
        found = self.cpu_s()
        return found["feature_store"] + found["valkey"]


@asynccontextmanager
async def running(
    home: Path, rooms: Sequence[str], say: Callable[[str], None], processes: Mapping[str, int] | None = None
) -> AsyncIterator[World]:
    """A world with these rooms, ready. Raises StackError when a part or room does not start."""
    platform = Platform(home, rooms=rooms, processes=processes, restart=False)
    say(f"starting Kafka, Valkey, ClickHouse's engine and {', '.join(rooms)}")
    await asyncio.to_thread(platform.start)
    try:
        yield World(platform)
    finally:
        await asyncio.to_thread(platform.stop)


async def until(predicate: Callable[[], Awaitable[Any]], deadline_s: float, what: str, poll_s: float = POLL_S) -> float:
    """Polls until it holds. Returns the moment (time.perf_counter) before the poll that held. Raises BenchError."""
    end = time.perf_counter() + deadline_s
    while True:
        asked = time.perf_counter()
        if await predicate():
            return asked
        if asked > end:
            raise BenchError(f"it did not come true within {deadline_s:.0f} s that {what}")
        await asyncio.sleep(poll_s)


def spent(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    """Processor seconds between two readings."""
    return {name: after[name] - before[name] for name in after}


def cpu_of(pid: int) -> float:
    """Processor seconds of a process and its children; 0 when it is gone."""
    total = 0.0
    with suppress(psutil.Error):
        process = psutil.Process(pid)
        for one in (process, *process.children(recursive=True)):
            with suppress(psutil.Error):
                times = one.cpu_times()
                total += times.user + times.system
    return total
