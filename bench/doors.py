"""A platform to load: the embedded stack and the ingestion room in processes of their own, with one project on the wall
clock, and the processor time that each of them takes."""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from millrace.bus.events import Event, Message, new_id
from millrace.bus.kafka import KafkaBus
from millrace.bus.ports import TopicSpec
from millrace.client.addresses import Addresses
from millrace.definitions.canonical import to_canonical_json
from millrace.definitions.gate import Gate
from millrace.definitions.model import (
    Clock,
    Label,
    Model,
    Monitors,
    Predict,
    Project,
    QualityMonitor,
    Rollout,
    Task,
    Template,
    Training,
)
from millrace.runtime.channels import open_channel
from millrace.wire.common.v1 import common_pb2, common_pb2_grpc
from millrace.wire.registry.v1.events_pb2 import DefinitionPublished

from bench.bare import Case, bare
from bench.contracts import SOURCE
from infra.embedded.platform import Platform

NAME = "load"
HOUR_US = 3_600_000_000
KNOWN_WITHIN_S = 30.0
ECHO, APPEND = "echo", "append"  # cases of the parts alone
REPLY_BYTES = 40  # about what a reply of one event has
APPENDED = TopicSpec("bench.appended")  # one partition, as the source has on the embedded stack


@dataclass(frozen=True)
class Doors:
    """A running ingestion: its addresses, and the processes that together carry the load."""

    grpc: str
    http: str
    bare: str
    processes: dict[str, psutil.Process]

    def cpu_s(self) -> dict[str, float]:
        """Processor seconds, user and system, that each process has taken since it started."""
        return {name: sum(process.cpu_times()[:2]) for name, process in self.processes.items()}


@dataclass
class Spent:
    """Wall and processor seconds of a block; `cpu_s` by process."""

    wall_s: float = 0.0
    cpu_s: dict[str, float] = field(default_factory=dict)


@contextmanager
def spending(doors: Doors) -> Iterator[Spent]:
    """What the block took, known when it ends."""
    spent, before, started = Spent(), doors.cpu_s(), time.perf_counter()
    yield spent
    spent.wall_s = time.perf_counter() - started
    spent.cpu_s = {name: after - before[name] for name, after in doors.cpu_s().items()}


@asynccontextmanager
async def open_doors() -> AsyncIterator[Doors]:
    """Starts everything in a temporary folder and stops it at the end; StackError says what is missing."""
    with tempfile.TemporaryDirectory(prefix="millrace-bench-") as folder:
        platform = Platform(Path(folder), rooms=("ingestion",), restart=False)
        await asyncio.to_thread(platform.start)
        try:
            cases = await _cases(platform.stack.addresses.kafka)
            async with bare(Path(folder) / "cases.json", cases) as (process, address):
                yield await _with_project(platform, address, process.pid)
        finally:
            await asyncio.to_thread(platform.stop)


async def _cases(kafka: str) -> dict[str, Case]:
    """The parts alone, with a topic like the source's."""
    bus = KafkaBus(kafka, "bench")
    await bus.ensure_topics([APPENDED])
    await bus.stop()
    reply = b"." * REPLY_BYTES
    return {ECHO: Case(reply), APPEND: Case(reply, kafka=kafka, topic=APPENDED.name)}


async def _with_project(platform: Platform, bare_address: str, bare_pid: int) -> Doors:
    room = Addresses.discover(platform.home).rooms["ingestion"]
    await _publish_definition(platform.stack.addresses.kafka)
    async with open_channel(room.grpc) as channel, asyncio.timeout(KNOWN_WITHIN_S):
        stub: Any = common_pb2_grpc.RoomStub(channel)  # type: ignore[no-untyped-call]
        while not await _is_known(stub):
            continue
    pids = {
        "client": os.getpid(),
        "room": platform.supervisor.pid("ingestion"),
        "broker": platform.supervisor.pid("kafka"),
        "bare": bare_pid,
    }
    return Doors(
        room.grpc, f"http://{room.http}", bare_address, {name: psutil.Process(pid) for name, pid in pids.items()}
    )


async def _is_known(stub: Any) -> bool:
    await asyncio.sleep(0.05)
    return NAME in (await stub.Describe(common_pb2.DescribeRequest())).definitions


async def _publish_definition(kafka: str) -> None:
    """As the registry would: the room follows the topic."""
    payload = DefinitionPublished(project=NAME, version=1, canonical_json=to_canonical_json(_project()))
    kind = "millrace.registry.definition.published.v1"
    event = Event(new_id(), kind, "millrace/bench", payload.SerializeToString(), subject=NAME)
    bus = KafkaBus(kafka, "bench")
    await bus.publish([Message("definitions", event, NAME.encode())])
    await bus.stop()


def _project() -> Project:
    """Of which only the source and its contract matter here."""
    return Project(
        name=NAME,
        description="",
        clock=Clock.WALL,
        sources=(SOURCE,),
        predict=Predict(SOURCE.name, "sensor", "at"),
        views=(),
        label=Label(SOURCE.name, "sensor", "degrees", HOUR_US),
        model=Model("m", Task.REGRESSION, Template("linear"), ()),
        training=Training(),
        gate=Gate("mae"),
        rollout=Rollout(),
        monitors=Monitors(data_quality=QualityMonitor(window_us=HOUR_US)),
    )
