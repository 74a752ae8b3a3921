"""How many events ingestion's doors take, validated and acknowledged by the broker, everything on this machine.

Client, room and broker run in three processes and share the cores. Where other work shares them too, the processor time
per event says more than the clock: two cores give two processor seconds a second.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import random
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import httpx
import numpy as np
from millrace.client.producer import Producer, producers
from millrace.wire.ingestion.v1 import service_pb2
from rich.console import Console
from rich.table import Table

from bench.contracts import KINDS
from bench.contracts import SOURCE as CONTRACT
from bench.doors import NAME, Doors, open_doors, spending

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
PIPE_WIDTH = 150  # a pipe or a log has none of its own
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
    """One way to send, with the target that it is held against."""

    name: str
    target: str
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


async def half_load(doors: Doors, seed: int) -> Run:
    """Calls begin when their time has come, whatever became of those before; latency counts from that time."""
    count = int(HALF_LOAD_PER_S * HALF_LOAD_S)
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
                due_s = begin + i / HALF_LOAD_PER_S
                if (ahead_s := due_s - time.perf_counter()) > 0:
                    await asyncio.sleep(ahead_s)
                under_way.append(calls.create_task(call(made[i % UNARY_CONNECTIONS], event, due_s)))
            await asyncio.gather(*under_way)
    return _timed(count, spent.wall_s, spent.cpu_s, took_s)


LOADS = (
    Load("bulk, gRPC stream", "≥ 20,000 / s", bulk_grpc),
    Load("bulk, HTTP NDJSON", "≥ 20,000 / s", bulk_http),
    Load("single events, gRPC", "≥ 2,500 / s", unary_grpc),
    Load("single events, half load", "p99 ≤ 10 ms", half_load),
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


def table(loaded: Sequence[Loaded]) -> Table:
    """Medians, with the lowest and highest of the repetitions below."""
    made = Table(title="Events validated and acknowledged, everything on this machine")
    made.add_column("load\n(to reach)", no_wrap=True)
    for name in (
        "events / s",
        "cpu µs\n/ event",
        "by 2\ncores / s",
        "client\nµs",
        "room\nµs",
        "broker\nµs",
        "p50\nms",
        "p99\nms",
    ):
        made.add_column(name, justify="right", no_wrap=True)
    for each in loaded:
        runs = each.runs
        parts = [[1e6 * run.cpu_s[name] / run.events for run in runs] for name in ("client", "room", "broker")]
        made.add_row(
            f"{each.load.name}\n({each.load.target})",
            _cell([run.per_s for run in runs], ",.0f"),
            _cell([run.cpu_us for run in runs], ",.0f"),
            _cell([2e6 / run.cpu_us for run in runs], ",.0f"),
            *(_cell(part, ",.0f") for part in parts),
            *(
                _cell([getattr(run, name) for run in runs], ".2f") if runs[0].p50_ms else ""
                for name in ("p50_ms", "p99_ms")
            ),
        )
    return made


def facts(loaded: Sequence[Loaded]) -> list[dict[str, Any]]:
    """Every run, for results.json."""
    return [
        {"load": each.load.name, "to_reach": each.load.target, "runs": [asdict(run) for run in each.runs]}
        for each in loaded
    ]


def _timed(events: int, wall_s: float, cpu_s: dict[str, float], took_s: Sequence[float]) -> Run:
    p50_ms, p99_ms = np.percentile(np.array(took_s) * 1_000, [50, 99]).tolist()
    return Run(events, wall_s, cpu_s, p50_ms, p99_ms)


def _require(accepted: int, events: int) -> None:
    if accepted != events:
        raise AssertionError(f"{accepted} of {events} events were accepted")


def _cell(values: Sequence[float], form: str) -> str:
    return f"{median(values):{form}}\n{min(values):{form}} – {max(values):{form}}"


def main() -> None:
    """`python -m bench.ingestion`: these loads alone."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--repetitions", type=int, default=REPETITIONS)
    parser.add_argument("--only", default="", help="a part of a load's name")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    loads = [load for load in LOADS if asked.only in load.name]
    loaded = asyncio.run(measure_loads(loads, asked.repetitions))
    if asked.json:
        print(json.dumps(facts(loaded), indent=2))
    else:
        screen = Console()
        (screen if screen.is_terminal else Console(width=PIPE_WIDTH)).print(table(loaded))


if __name__ == "__main__":
    main()
