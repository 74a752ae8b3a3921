"""How many events ingestion's doors take, validated and acknowledged by the broker, everything on this machine.

Client, room and broker run in three processes and share the cores. Where other work shares them too, the processor time
per event says more than the clock: two cores give two processor seconds a second.
"""

from __future__ import annotations

import asyncio
import gc
import random
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import grpc
import httpx
import numpy as np
from millrace.client.producer import Producer, producers
from millrace.wire.ingestion.v1 import service_pb2

from bench.benchmark import Bench, Benchmark, Column, Row, Runs, Section, Target
from bench.contracts import KINDS
from bench.contracts import SOURCE as CONTRACT
from bench.doors import ECHO, ECHO_BYTES, NAME, Doors, open_doors, spending

REPETITIONS = 5
BULK_EVENTS = 60_000
HTTP_EVENTS = 30_000
HTTP_BATCH_EVENTS = 2_000
HTTP_AT_ONCE = 4
UNARY_EVENTS = 8_000
UNARY_CONNECTIONS, UNARY_AT_ONCE = 4, 8  # the second per connection
HALF_LOAD_PER_S = 1_250
HALF_LOAD_S = 4.0
SENSORS = 10_000
SOURCE = CONTRACT.name
WARM_UP = 2  # runs that are not counted: the broker's code is compiled while it works
JsonLines = list[bytes]


@dataclass(frozen=True)
class Run:
    """One repetition; latencies in milliseconds, 0 where single calls were not timed."""

    events: int
    wall_s: float
    cpu_s: dict[str, float]
    p50_ms: float = 0.0
    p99_ms: float = 0.0

    @property
    def per_s(self) -> float:
        """Events per second by the clock."""
        return self.events / self.wall_s

    @property
    def cpu_us(self) -> float:
        """Processor microseconds per event, all processes together."""
        return 1e6 * sum(self.cpu_s.values()) / self.events


@dataclass(frozen=True)
class Load:
    """One way to send, with the bars that it is held against (0: none)."""

    name: str
    at_least: float
    at_most_ms: float
    run: Callable[[Doors, int], Awaitable[Run]]


@dataclass(frozen=True)
class Loaded:
    """All repetitions of one load."""

    load: Load
    runs: Sequence[Run]


async def bulk_grpc(doors: Doors, seed: int) -> Run:
    """One producer, one call, batches over one stream; ids are the client's."""
    events = [service_pb2.DataEvent(id=f"b{seed}-{i}", json=row) for i, row in enumerate(rows(BULK_EVENTS, seed))]
    async with Producer(doors.grpc, NAME) as producer:
        with spending(doors) as spent:
            result = await producer.publish(SOURCE, events)
    _require(result.accepted, BULK_EVENTS)
    return Run(BULK_EVENTS, spent.wall_s, spent.cpu_s)


async def bulk_http(doors: Doors, seed: int) -> Run:
    """NDJSON bodies over a few connections; ids are derived from the content."""
    lines = list(rows(HTTP_EVENTS, seed))
    bodies = iter([b"\n".join(lines[i : i + HTTP_BATCH_EVENTS]) for i in range(0, HTTP_EVENTS, HTTP_BATCH_EVENTS)])
    accepted = 0

    async def post(client: httpx.AsyncClient) -> None:
        nonlocal accepted
        for body in bodies:
            reply = await client.post("/events", content=body, headers={"content-type": "application/x-ndjson"})
            accepted += reply.raise_for_status().json()["accepted"]

    async with httpx.AsyncClient(base_url=f"{doors.http}/v1/{NAME}/{SOURCE}", timeout=60) as client:
        with spending(doors) as spent:
            await asyncio.gather(*(post(client) for _ in range(HTTP_AT_ONCE)))
    _require(accepted, HTTP_EVENTS)
    return Run(HTTP_EVENTS, spent.wall_s, spent.cpu_s)


async def unary_grpc(doors: Doors, seed: int) -> Run:
    """One event a call, a few connections with a few calls each under way, as fast as they are answered."""
    events = iter(list(rows(UNARY_EVENTS, seed)))
    took_s: list[float] = []

    async def call(producer: Producer) -> None:
        for event in events:
            began = time.perf_counter()
            _require((await producer.publish(SOURCE, [event])).accepted, 1)
            took_s.append(time.perf_counter() - began)

    async with producers(doors.grpc, NAME, UNARY_CONNECTIONS) as made:
        with spending(doors) as spent:
            await asyncio.gather(*(call(producer) for producer in made for _ in range(UNARY_AT_ONCE)))
    return _timed(UNARY_EVENTS, spent.wall_s, spent.cpu_s, took_s)


async def bare_echo(doors: Doors, seed: int) -> Run:
    """The same bytes as often, to a server of the same library that does nothing: what single calls cost anyway."""
    events = iter(list(rows(UNARY_EVENTS, seed)))
    took_s: list[float] = []

    async def call(echo: Callable[[bytes], Awaitable[bytes]]) -> None:
        for event in events:
            began = time.perf_counter()
            _require(len(await echo(event)), ECHO_BYTES)
            took_s.append(time.perf_counter() - began)

    async with AsyncExitStack() as stack:
        # Without an option of its own a channel to the same address is the same connection.
        options = [("grpc.use_local_subchannel_pool", 1)]
        own = [grpc.aio.insecure_channel(doors.echo, options=options) for _ in range(UNARY_CONNECTIONS)]
        channels = [await stack.enter_async_context(channel) for channel in own]
        echoes: list[Any] = [channel.unary_unary(f"/bench.Echo/{ECHO}", None, None) for channel in channels]
        with spending(doors) as spent:
            await asyncio.gather(*(call(echo) for echo in echoes for _ in range(UNARY_AT_ONCE)))
    return _timed(UNARY_EVENTS, spent.wall_s, spent.cpu_s, took_s)


async def half_load(doors: Doors, seed: int) -> Run:
    """Half of the bar for single events, whatever this machine reaches."""
    return await _at_rate(doors, seed, HALF_LOAD_PER_S)


async def half_of_reached(doors: Doors, seed: int) -> Run:
    """Half of what single events reached right before."""
    reached = await unary_grpc(doors, seed + 1_000)
    return await _at_rate(doors, seed, reached.per_s / 2)


async def _at_rate(doors: Doors, seed: int, per_s: float) -> Run:
    """Calls begin when their time has come, whatever became of those before; latency counts from that time."""
    count = int(per_s * HALF_LOAD_S)
    events = list(rows(count, seed))
    took_s: list[float] = []

    async def call(producer: Producer, event: bytes, due_s: float) -> None:
        _require((await producer.publish(SOURCE, [event])).accepted, 1)
        took_s.append(time.perf_counter() - due_s)

    async with producers(doors.grpc, NAME, UNARY_CONNECTIONS) as made, asyncio.TaskGroup() as calls:
        with spending(doors) as spent:
            begin = time.perf_counter() + 0.05
            under_way = []
            for i, event in enumerate(events):
                due_s = begin + i / per_s
                if (ahead_s := due_s - time.perf_counter()) > 0:
                    await asyncio.sleep(ahead_s)
                under_way.append(calls.create_task(call(made[i % UNARY_CONNECTIONS], event, due_s)))
            await asyncio.gather(*under_way)
    return _timed(count, spent.wall_s, spent.cpu_s, took_s)


LOADS = (
    Load("bulk, gRPC stream", 20_000, 0, bulk_grpc),
    Load("bulk, HTTP NDJSON", 20_000, 0, bulk_http),
    Load("single events, gRPC", 2_500, 0, unary_grpc),
    Load("single events, half load", 0, 10, half_load),
    Load("single events, half of what was reached", 0, 10, half_of_reached),
    Load("bare echo, single calls", 0, 0, bare_echo),
)


def rows(count: int, seed: int) -> Iterator[bytes]:
    """Readings that keep their contract, about 150 bytes of JSON each; no two are equal, in any run."""
    draw = random.Random(seed)
    now_us = time.time_ns() // 1_000
    for number in range(count):
        degrees, pressure = draw.uniform(-40, 140), draw.uniform(900, 1100)
        yield (
            f'{{"sensor":"s{draw.randrange(SENSORS)}","at":{now_us - number},"degrees":{degrees!r},'
            f'"pressure":{pressure!r},"count":{number},"kind":"{KINDS[number % 3]}","is_on":true}}'
        ).encode()


async def measure_loads(loads: Sequence[Load] = LOADS, repetitions: int = REPETITIONS) -> list[Loaded]:
    """All of them on one platform, in turns."""
    runs: dict[str, list[Run]] = {load.name: [] for load in loads}
    async with open_doors() as doors:
        for repetition in range(-WARM_UP, repetitions):
            for load in loads:
                gc.collect()
                run = await load.run(doors, repetition)
                if repetition >= 0:
                    runs[load.name].append(run)
    return [Loaded(load, runs[load.name]) for load in loads]


def section(loaded: Sequence[Loaded]) -> Section:
    """All loads as one table, with their bars."""
    rows, targets = [], []
    for each in loaded:
        runs = each.runs
        columns: dict[str, Runs] = {
            "events / s": tuple(run.per_s for run in runs),
            "cpu µs / event": tuple(run.cpu_us for run in runs),
            "by 2 cores / s": tuple(2e6 / run.cpu_us for run in runs),
        }
        for process in ("client", "room", "broker", "echo"):
            columns[f"{process} µs"] = tuple(1e6 * run.cpu_s[process] / run.events for run in runs)
        if runs[0].p50_ms:
            columns["p50 ms"] = tuple(run.p50_ms for run in runs)
            columns["p99 ms"] = tuple(run.p99_ms for run in runs)
        rows.append(Row(each.load.name, columns))
        if each.load.at_least:
            targets.append(Target(f"events/s, {each.load.name}", columns["events / s"], at_least=each.load.at_least))
        if each.load.at_most_ms:
            targets.append(Target(f"p99 ms, {each.load.name}", columns["p99 ms"], at_most=each.load.at_most_ms))
    forms = {name: ",.2f" if name.endswith("ms") else ",.0f" for row in rows for name in row.runs}
    title = "Events validated and acknowledged, everything on this machine"
    return Section(title, tuple(Column(name, form) for name, form in forms.items()), tuple(rows), tuple(targets))


def _timed(events: int, wall_s: float, cpu_s: dict[str, float], took_s: Sequence[float]) -> Run:
    p50_ms, p99_ms = np.percentile(np.array(took_s) * 1_000, [50, 99]).tolist()
    return Run(events, wall_s, cpu_s, p50_ms, p99_ms)


def _require(accepted: int, events: int) -> None:
    if accepted != events:
        raise AssertionError(f"{accepted} of {events} events were accepted")


def jobs() -> list[Benchmark]:
    """As `bench.benchmark` says."""
    return [Benchmark("ingestion", "events through ingestion's doors", run, {"repetitions": REPETITIONS})]


def run(bench: Bench) -> list[Section]:
    """Every load, in turns, on one platform."""
    bench.say("starting the stack and ingestion")
    return [section(asyncio.run(measure_loads(LOADS, bench.option("repetitions"))))]
