"""Backfill: online tiles made anew from a history of many events, `millrace features rebuild`.

The history is written by ClickHouse itself (`INSERT … SELECT … FROM numbers`), seeded, the events as of a log that has
lost them to its retention: their offsets lie before its beginning. Afterwards every event is counted online.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from dataclasses import dataclass

from bench.benchmark import Bench, BenchError, Benchmark, Column, Row, Section, Target
from bench.loading import beat
from bench.projects import stream_project
from bench.readings import FIRST_US, KEYS, MOST_BEHIND_US, NOW_US, SPAN_US
from bench.stream import WORKERS, count_online
from bench.world import World, running, spent, until

PROJECT, SOURCE = "bench-backfill", "readings"
ROWS_AT_ONCE = 1_000_000
TABLE_DEADLINE_S, REBUILD_DEADLINE_S = 60.0, 3600.0
RATE, SECONDS, CPU = "events/s", "seconds", "CPU s per million events"
REBUILD = "millrace features rebuild"


def jobs() -> list[Benchmark]:
    """`backfill`; `--set backfill.events=10000000` is the size that the bar speaks of."""
    return [Benchmark("backfill", "online features rebuilt from history", run, {"events": 1_000_000})]


def run(bench: Bench) -> list[Section]:
    """One run: a world of its own, a history, a rebuild."""
    return asyncio.run(_run(bench))


@dataclass(frozen=True)
class Done:
    """What the measured call took: seconds by the wall, processor seconds of those who worked."""

    wall_s: float
    cpu_s: float


async def _run(bench: Bench) -> list[Section]:
    count, absent = bench.option("events"), {}
    rows = []
    async with running(bench.work / "home", ("registry", "feature_store"), bench.say) as world:
        await world.apply(stream_project(PROJECT))
        table = await _table(world)
        started = time.perf_counter()
        await fill(world, table, count, bench)
        filled_s = time.perf_counter() - started
        rows.append(Row("history written by ClickHouse", {RATE: (count / filled_s,), SECONDS: (filled_s,)}))
        await beat(world, PROJECT, [SOURCE], NOW_US)
        try:
            done = await rebuild(world, bench)
            await _check(world, count)
            runs = {RATE: (count / done.wall_s,), SECONDS: (done.wall_s,), CPU: (done.cpu_s / count * 1e6,)}
            rows.append(Row("rebuilt online", runs))
        except NotThere as error:
            absent[REBUILD] = str(error)
    rates = rows[1].runs[RATE] if len(rows) > 1 else ()
    target = Target(f"{count:,} events rebuilt: events/s", rates, at_least=200_000)
    columns = (Column(RATE), Column(SECONDS, ",.1f"), Column(CPU, ",.1f"))
    return [
        Section(
            "Backfill: history into 3 windows × 4 aggregates online", columns, tuple(rows), (target,), absent=absent
        )
    ]


class NotThere(BenchError):
    """The command that is measured does not exist in this version."""


async def rebuild(world: World, bench: Bench) -> Done:
    """The measured call, as an operator gives it. Raises NotThere, BenchError."""
    command = [sys.executable, "-m", "millrace.cli", *REBUILD.split()[1:], PROJECT, "--home", str(world.platform.home)]
    bench.say(REBUILD)
    before, started = world.cpu_s(), time.perf_counter()
    answer = await asyncio.to_thread(
        subprocess.run, command, capture_output=True, text=True, timeout=REBUILD_DEADLINE_S, check=False
    )
    wall_s, cpu = time.perf_counter() - started, spent(before, world.cpu_s())
    if "No such command" in answer.stderr:
        raise NotThere("this version has no such command")
    if answer.returncode:
        raise BenchError(f"{REBUILD} ended with {answer.returncode}: {answer.stderr.strip()[-300:]}")
    return Done(wall_s, sum(cpu[name] for name in WORKERS))


async def fill(world: World, table: str, count: int, bench: Bench) -> None:
    """`count` events of `bench.readings`' kind into a history table, a million per statement."""
    async with world.history() as clickhouse:
        for begin in range(0, count, ROWS_AT_ONCE):
            end = min(begin + ROWS_AT_ONCE, count)
            await clickhouse.command(_insert(table, begin, end, count))
            bench.say(f"{end:,} of {count:,} events in the history")


def _insert(table: str, begin: int, end: int, count: int) -> str:
    """Rows `begin` to `end` of `count`, by visible time; numbers come from hashes of the row's number."""
    return f"""
INSERT INTO `{table}`
  (_event_us, _visible_us, _partition, _offset, _event_id, _via,
   reading_id, sensor, at, value, pressure, humidity, kind, site, battery, note)
SELECT event_us, visible_us, 0, toInt64(number) - {count}, id, '',
       id, sensor, event_us, value, 1013.25, 55.5, 'mild', 'north-07', 87, note
FROM (
  SELECT number,
         concat('e', leftPad(toString(number), 9, '0')) AS id,
         concat('s', leftPad(toString(cityHash64(number, 'key') % {KEYS}), 5, '0')) AS sensor,
         toInt64({FIRST_US} + 1 + intDiv(number * {SPAN_US}, {count})) AS visible_us,
         greatest(visible_us - 1 - toInt64(cityHash64(number, 'behind') % {MOST_BEHIND_US}), {FIRST_US}) AS event_us,
         round(20 + 5 * (toInt64(cityHash64(number, 'value') % 4000) - 2000) / 1000, 3) AS value,
         repeat('.', 28) AS note
  FROM numbers({begin}, {end - begin})
)"""


async def _table(world: World) -> str:
    """The history table, once the room has made it."""

    async def is_made() -> bool:
        return bool(await world.history_table(PROJECT, SOURCE))

    await until(is_made, TABLE_DEADLINE_S, "the history table is made")
    return await world.history_table(PROJECT, SOURCE)


async def _check(world: World, count: int) -> None:
    found = await count_online(world, PROJECT)
    if found != count:
        raise BenchError(f"after the rebuild the tiles online count {found:,.0f} events, not {count:,}")
