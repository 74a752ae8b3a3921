"""How many events ingestion's doors take, validated and acknowledged by the broker, everything on this machine.

Client, room and broker run in three processes and share the cores. Where other work shares them too, the processor time
per event says more than the clock: two cores give two processor seconds a second.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import grpc
import httpx
import numpy as np
from millrace.client.producer import Producer, producers
from millrace.wire.ingestion.v1 import service_pb2

from bench.bare import method
from bench.benchmark import Bench, Benchmark, Column, Row, Runs, Section, Target
from bench.contracts import KINDS
from bench.contracts import SOURCE as CONTRACT
from bench.doors import APPEND, ECHO, NAME, REPLY_BYTES, Doors, open_doors, spending
from bench.latency import undisturbed

REPETITIONS = 5
BULK_EVENTS = 60_000
HTTP_EVENTS = 30_000
HTTP_BATCH_EVENTS = 2_000
HTTP_AT_ONCE = 4
SINGLE_EVENTS = 8_000
CONNECTIONS, AT_ONCE = 4, 8  # the second per connection
HALF_LOAD_PER_S = 1_250.0
AT_RATE_S = 4.0
SENSORS = 10_000
SOURCE = CONTRACT.name
WARM_UP = 2  # runs that are not counted: the broker's code is compiled while it works


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


Measure = Callable[[Doors, int], Awaitable[Run]]


@dataclass(frozen=True)
class Load:
    """One way to send, with the bars that it is held against (0: none); `parts` is the load that shows what the parts
    alone do."""

    name: str
    run: Measure
    at_least: float = 0
    at_most_ms: float = 0
    parts: str = ""


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


Call = Callable[[bytes], Awaitable[None]]
Opened = Callable[[Doors], AbstractAsyncContextManager[Sequence[Call]]]


@asynccontextmanager
async def the_room(doors: Doors) -> AsyncIterator[list[Call]]:
    """One event a call through ingestion's door: a call per connection."""
    async with producers(doors.grpc, NAME, CONNECTIONS) as made:
        yield [_publishing(producer) for producer in made]


def _publishing(producer: Producer) -> Call:
    async def publish(event: bytes) -> None:
        _require((await producer.publish(SOURCE, [event])).accepted, 1)

    return publish


def parts_alone(case: str) -> Opened:
    """The same bytes to a server that does a case of `bench.bare` and nothing else."""

    @asynccontextmanager
    async def opened(doors: Doors) -> AsyncIterator[list[Call]]:
        async with AsyncExitStack() as stack:
            # Without an option of its own a channel to the same address is the same connection.
            options = [("grpc.use_local_subchannel_pool", 1)]
            own = [grpc.aio.insecure_channel(doors.bare, options=options) for _ in range(CONNECTIONS)]
            yield [_asking(method(await stack.enter_async_context(channel), case)) for channel in own]

    return opened


def _asking(ask: Callable[[bytes], Awaitable[bytes]]) -> Call:
    async def call(event: bytes) -> None:
        _require(len(await ask(event)), REPLY_BYTES)

    return call


def as_fast_as_answered(opened: Opened) -> Measure:
    """A few connections with a few calls each under way."""

    async def run(doors: Doors, seed: int) -> Run:
        events = iter(list(rows(SINGLE_EVENTS, seed)))
        took_s: list[float] = []

        async def keep_calling(call: Call) -> None:
            for event in events:
                began = time.perf_counter()
                await call(event)
                took_s.append(time.perf_counter() - began)

        async with opened(doors) as calls:
            with spending(doors) as spent:
                await asyncio.gather(*(keep_calling(call) for call in calls for _ in range(AT_ONCE)))
        return _timed(SINGLE_EVENTS, spent.wall_s, spent.cpu_s, took_s)

    return run


def at_rate(opened: Opened, per_s: float) -> Measure:
    """Calls begin when their time has come, whatever became of those before; latency counts from that time."""

    async def run(doors: Doors, seed: int) -> Run:
        events = list(rows(int(per_s * AT_RATE_S), seed))
        took_s: list[float] = []

        async def one(call: Call, event: bytes, due_s: float) -> None:
            await call(event)
            took_s.append(time.perf_counter() - due_s)

        async with opened(doors) as calls, asyncio.TaskGroup() as tasks:
            with spending(doors) as spent:
                begin = time.perf_counter() + 0.05
                under_way = []
                for i, event in enumerate(events):
                    due_s = begin + i / per_s
                    if (ahead_s := due_s - time.perf_counter()) > 0:
                        await asyncio.sleep(ahead_s)
                    under_way.append(tasks.create_task(one(calls[i % len(calls)], event, due_s)))
                await asyncio.gather(*under_way)
        return _timed(len(events), spent.wall_s, spent.cpu_s, took_s)

    return run


def at_half_of_reached(opened: Opened) -> Measure:
    """Half of what the room reaches right before, whoever is asked then."""

    async def run(doors: Doors, seed: int) -> Run:
        reached = await as_fast_as_answered(the_room)(doors, seed + 1_000)
        return await at_rate(opened, reached.per_s / 2)(doors, seed)

    return run


FAST, HALF, HALF_REACHED = "single events", "single events, half load", "single events, half of what was reached"
LOADS = (
    Load("bulk, gRPC stream", bulk_grpc, at_least=20_000),
    Load("bulk, HTTP NDJSON", bulk_http, at_least=20_000),
    Load(FAST, as_fast_as_answered(the_room), at_least=2_500, parts="bare append"),
    Load("bare append", as_fast_as_answered(parts_alone(APPEND))),
    Load("bare echo", as_fast_as_answered(parts_alone(ECHO))),
    Load(HALF, at_rate(the_room, HALF_LOAD_PER_S), at_most_ms=10, parts="bare append, half load"),
    Load("bare append, half load", at_rate(parts_alone(APPEND), HALF_LOAD_PER_S)),
    Load("bare echo, half load", at_rate(parts_alone(ECHO), HALF_LOAD_PER_S)),
    Load(HALF_REACHED, at_half_of_reached(the_room), at_most_ms=10, parts="bare append, half of what the room reached"),
    Load("bare append, half of what the room reached", at_half_of_reached(parts_alone(APPEND))),
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
                with undisturbed():
                    run = await load.run(doors, repetition)
                if repetition >= 0:
                    runs[load.name].append(run)
    return [Loaded(load, runs[load.name]) for load in loads]


def section(loaded: Sequence[Loaded]) -> Section:
    """All loads as one table, with their bars."""
    rows, targets, shown = [], [], {each.load.name: each.runs for each in loaded}
    for each in loaded:
        runs = each.runs
        columns: dict[str, Runs] = {
            "events / s": tuple(run.per_s for run in runs),
            "cpu µs / event": tuple(run.cpu_us for run in runs),
            "by 2 cores / s": tuple(2e6 / run.cpu_us for run in runs),
        }
        for process in ("client", "room", "broker", "bare"):
            columns[f"{process} µs"] = tuple(1e6 * run.cpu_s[process] / run.events for run in runs)
        if runs[0].p50_ms:
            columns["p50 ms"] = tuple(run.p50_ms for run in runs)
            columns["p99 ms"] = tuple(run.p99_ms for run in runs)
        rows.append(Row(each.load.name, columns))
        name, alone = each.load.name, shown.get(each.load.parts, ())
        if each.load.at_least:
            parts = tuple(run.per_s for run in alone)
            targets.append(Target(f"events/s, {name}", columns["events / s"], at_least=each.load.at_least, parts=parts))
        if each.load.at_most_ms:
            parts = tuple(run.p99_ms for run in alone)
            targets.append(Target(f"p99 ms, {name}", columns["p99 ms"], at_most=each.load.at_most_ms, parts=parts))
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
