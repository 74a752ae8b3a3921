"""Freshness: from an event's acceptance at ingestion's door to the first online read that has it.

Open loop: events are due at fixed moments, whether or not earlier ones were answered. Some are probes, of a sensor of
their own; one reader asks for all probes that are accepted and not yet seen, again and again.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any

from millrace.client.errors import CallFailed
from millrace.client.producer import Producer
from millrace.wire.ingestion.v1 import service_pb2

from bench import online_client
from bench.benchmark import Bench, BenchError, Benchmark, Column, Row, Runs, Section, Target
from bench.latency import percentile_ms
from bench.projects import stream_project
from bench.readings import KEYS, key_name
from bench.world import World, running, spent

PROJECT, SOURCE = "bench-fresh", "readings"
TICK_S = 0.01
PROBE_EVERY_TICKS = 5
PROBE_FEATURE = "last.value"
READ_PAUSE_S = 0.002
WARM_UP_S = 3
SEEN_DEADLINE_S = 15.0
ROOMS = ("registry", "ingestion", "feature_store")
CELLS = ("p50 ms", "p99 ms", "most ms")


def jobs() -> list[Benchmark]:
    """`freshness`."""
    options = {"events_per_s": 1_000, "seconds": 20, "repetitions": 3}
    return [Benchmark("freshness", "event accepted to readable online, at a fixed rate", run, options)]


def run(bench: Bench) -> list[Section]:
    """Real ingestion, broker, feature store and Valkey; producer and reader in this process."""
    return asyncio.run(_run(bench))


@dataclass
class Probes:
    """Moments (time.perf_counter) of the probes: due, accepted, seen."""

    due: dict[str, float] = field(default_factory=dict)
    accepted: dict[str, float] = field(default_factory=dict)
    seen: dict[str, float] = field(default_factory=dict)

    def waiting(self) -> list[str]:
        """Accepted and not yet seen."""
        return [key for key in self.accepted if key not in self.seen]

    def since_accepted(self) -> list[float]:
        """Seconds from the acknowledgement to the read."""
        return [self.seen[key] - at for key, at in self.accepted.items()]

    def since_due(self) -> list[float]:
        """Seconds from the moment that the event was due at the producer to the read."""
        return [self.seen[key] - self.due[key] for key in self.accepted]


async def _run(bench: Bench) -> list[Section]:
    fresh: list[Probes] = []
    cpu: list[dict[str, float]] = []
    async with running(bench.work / "home", ROOMS, bench.say) as world:
        await world.apply(stream_project(PROJECT, "wall", with_latest=True))
        await _drive(world, bench, "warm", WARM_UP_S)
        for repetition in range(bench.option("repetitions")):
            bench.say(f"run {repetition + 1} of {bench.option('repetitions')}")
            before = world.cpu_s()
            fresh.append(await _drive(world, bench, f"r{repetition}", bench.option("seconds")))
            cpu.append({name: round(value, 2) for name, value in spent(before, world.cpu_s()).items()})
    return [_section(bench, fresh, cpu)]


async def _drive(world: World, bench: Bench, name: str, seconds: int) -> Probes:
    """Produces and reads for so long. Raises BenchError when an event was refused or a probe was never seen."""
    probes, done = Probes(), asyncio.Event()
    async with Producer(world.address("ingestion"), PROJECT) as producer, world.channel("feature_store") as channel:
        reading = asyncio.create_task(_read(online_client.call(channel), probes, done))
        try:
            await _produce(producer, bench.option("events_per_s"), name, seconds, probes)
            done.set()
            await asyncio.wait_for(reading, SEEN_DEADLINE_S)
        except TimeoutError:
            raise BenchError(f"{len(probes.waiting())} accepted events could not be read online") from None
        finally:
            reading.cancel()
    return probes


async def _produce(producer: Producer, events_per_s: int, name: str, seconds: int, probes: Probes) -> None:
    ticks, per_tick = int(seconds / TICK_S), max(1, round(events_per_s * TICK_S))
    started, sending = time.perf_counter(), []
    for tick in range(ticks):
        due = started + tick * TICK_S
        if (left_s := due - time.perf_counter()) > 0:
            await asyncio.sleep(left_s)
        keys = [key_name((tick * per_tick + i) % KEYS) for i in range(per_tick)]
        probe = f"p{name}-{tick}" if tick % PROBE_EVERY_TICKS == 0 else ""
        if probe:
            keys[-1] = probe
            probes.due[probe] = due
        sending.append(asyncio.create_task(_publish(producer, f"{name}-{tick}", keys, probe, probes)))
    await asyncio.gather(*sending)


async def _publish(producer: Producer, identity: str, keys: list[str], probe: str, probes: Probes) -> None:
    at_us = time.time_ns() // 1000
    events = [
        service_pb2.DataEvent(
            id=f"{identity}-{i}",
            json=b'{"reading_id":"%s-%d","sensor":"%s","at":%d,"value":%d.5,"note":"%s"}'
            % (identity.encode(), i, key.encode(), at_us, i, b"." * 90),
        )
        for i, key in enumerate(keys)
    ]
    try:
        result = await producer.publish(SOURCE, events)
    except CallFailed as error:
        raise BenchError(f"ingestion did not take an event: {error}") from error
    if result.accepted != len(events):
        raise BenchError(f"ingestion accepted {result.accepted} of {len(events)} events: {result.verdicts[:1]}")
    if probe:
        probes.accepted[probe] = time.perf_counter()


async def _read(call: Any, probes: Probes, done: asyncio.Event) -> None:
    """Until the producer is done and every probe was seen."""
    while not (done.is_set() and not probes.waiting()):
        keys, asked = probes.waiting(), time.perf_counter()
        if keys:
            reply = await call(online_client.request(PROJECT, keys, [PROBE_FEATURE]))
            now = time.perf_counter()
            found = online_client.values(reply, PROBE_FEATURE)
            probes.seen.update((key, now) for key, value in zip(keys, found, strict=True) if value is not None)
        # No more than half of the time is spent in reads: a room that lags is not kept from catching up by our asking.
        await asyncio.sleep(max(READ_PAUSE_S, time.perf_counter() - asked))


def _section(bench: Bench, fresh: list[Probes], cpu: list[dict[str, float]]) -> Section:
    rows = (
        Row("accepted → readable", _cells([probes.since_accepted() for probes in fresh])),
        Row("due at the producer → readable", _cells([probes.since_due() for probes in fresh])),
    )
    p99: Runs = rows[0].runs["p99 ms"]
    rate = bench.option("events_per_s")
    title = f"Freshness at {rate:,} events/s through ingestion's door"
    probes = sum(len(run.accepted) for run in fresh)
    notes = (
        f"{probes} probes; a reader asks again {READ_PAUSE_S * 1000:.0f} ms after an answer, or as long as it took",
    )
    target = Target("accepted → readable: p99 in ms", p99, at_most=150)
    return Section(title, tuple(Column(name, ",.1f") for name in CELLS), rows, (target,), notes, facts={"cpu_s": cpu})


def _cells(runs: list[list[float]]) -> dict[str, Runs]:
    return {name: tuple(percentile_ms(run, p) for run in runs) for name, p in zip(CELLS, (50, 99, 100), strict=True)}
