"""Events → three windows × four aggregates → Redis and ClickHouse, once in effect; Quix Streams and Faust beside it.

The events lie on the topic before the room knows of the project. Time runs from the last look at which nothing was
applied to the first at which everything can be read online and stands in the history; then every event is counted.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

import grpc
from millrace.bus.topics import data_topic

from bench import online_client
from bench.benchmark import Bench, BenchError, Benchmark, Column, Row, Runs, Section, Target, ratios
from bench.loading import append, beat
from bench.peers.program import started
from bench.projects import stream_project
from bench.readings import DISTRIBUTIONS, KEYS, KIND, NOW_US, key_name, readings
from bench.world import POLL_S, World, running, spent

SOURCE = "readings"
WORKERS = ("feature_store", "kafka", "valkey", "clickhouse")
DRAIN_DEADLINE_S, PEER_DEADLINE_S = 900.0, 240.0
COUNT_EVERY_S = 0.25  # the history is asked less often than the room: each look costs a query
READ_AT_ONCE = 500
RATE, CPU, TWO_CORES, AGAINST = "events/s", "CPU s per million events", "events per 2 CPU s", "CPU : ours"
OURS = "ours"


def jobs() -> list[Benchmark]:
    """`stream`."""
    options = {
        "events": 300_000, "repetitions": 3, "processes": 2, "partitions": 4,
        "faust_table_events": 20_000, "faust_agent_events": 60_000,
    }  # fmt: skip
    return [Benchmark("stream", "events into windows, beside Quix Streams and Faust", run, options)]


def run(bench: Bench) -> list[Section]:
    """One project and topic per run and distribution; the peers read what we have read."""
    return asyncio.run(_run(bench))


@dataclass(frozen=True)
class Peer:
    """A way to consume the same topic: its program and arguments, what it needs, how many events it is given.

    `there`: the events/s that it took on the machine on which the bars were set.
    """

    name: str
    script: str
    needs: str
    there: float
    arguments: Mapping[str, object]
    events_option: str = "events"


PEERS = (
    Peer("Quix Streams, one tumbling window", "quix_window.py", "quixstreams", 28_000, {"deadline_s": PEER_DEADLINE_S}),
    Peer(
        "Faust, windowed table", "faust_stream.py", "faust-streaming", 3_400, {"windowed": True}, "faust_table_events"
    ),
    Peer("Faust, agent alone", "faust_stream.py", "faust-streaming", 13_000, {"windowed": False}, "faust_agent_events"),
    Peer("aiokafka getmany, decoded by msgspec", "consume.py", "aiokafka", 455_000, {"way": "typed"}),
    Peer("aiokafka getmany, raw", "consume.py", "aiokafka", 707_000, {"way": "raw"}),
    Peer("confluent-kafka consume, raw", "consume.py", "confluent-kafka", 990_000, {"way": "confluent"}),
)


class Taken:
    """Runs by (way, distribution) and column."""

    def __init__(self) -> None:
        self._runs: dict[tuple[str, str], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
        self.facts: dict[str, list[Any]] = defaultdict(list)
        self.absent: dict[str, str] = {}

    def add(self, way: str, distribution: str, events: int, wall_s: float, cpu_s: float) -> None:
        """One run: `cpu_s` of everything that took part."""
        runs = self._runs[way, distribution]
        runs[RATE].append(events / wall_s)
        runs[CPU].append(cpu_s / events * 1e6)
        runs[TWO_CORES].append(events / cpu_s * 2)

    def runs(self, way: str, distribution: str, column: str = RATE) -> Runs:
        """The runs of one column."""
        return tuple(self._runs[way, distribution][column]) if (way, distribution) in self._runs else ()

    def row(self, way: str, distribution: str, note: str = "") -> Row:
        """A line of the table."""
        columns = {column: self.runs(way, distribution, column) for column in (RATE, CPU, TWO_CORES)}
        if way != OURS:
            columns[AGAINST] = ratios(columns[CPU], self.runs(OURS, distribution, CPU))
        return Row(way if way != OURS else f"ours, {distribution} keys", columns, note)

    def paces(self) -> dict[str, float]:
        """By peer, how fast it was here in times what it did on the machine where the bars were set (medians)."""
        rates = [(peer, self.runs(peer.name, DISTRIBUTIONS[0])) for peer in PEERS]
        return {peer.name: median(runs) / peer.there for peer, runs in rates if runs}

    def pace(self) -> float:
        """Of the peer that lost least, by uniform keys; 0 unless all took part: without it we would seem too fast."""
        paces = self.paces()
        return max(paces.values()) if len(paces) == len(PEERS) else 0.0


async def _run(bench: Bench) -> list[Section]:
    taken = Taken()
    processes = {"feature_store": bench.option("processes")}
    async with running(bench.work / "home", ("registry", "feature_store"), bench.say, processes) as world:
        for repetition in range(bench.option("repetitions")):
            for distribution in DISTRIBUTIONS:
                project = f"bench-{distribution}-{repetition}"
                bench.say(
                    f"run {repetition + 1} of {bench.option('repetitions')}, {distribution} keys: filling the topic"
                )
                await _ours(world, bench, project, distribution, repetition, taken)
                for peer in PEERS if distribution == DISTRIBUTIONS[0] else PEERS[:1]:
                    bench.say(f"run {repetition + 1}: {peer.name}")
                    await _theirs(world, bench, peer, project, distribution, taken)
    return _sections(taken)


# -- ours


async def _ours(world: World, bench: Bench, project: str, distribution: str, seed: int, taken: Taken) -> None:
    text, count = stream_project(project), bench.option("events")
    await world.make_topics(text, bench.option("partitions"))
    await append(world, project, SOURCE, KIND, readings(count, distribution, seed), bench.say)
    await beat(world, project, [SOURCE], NOW_US)
    bench.say(f"ours reads {count:,} events")
    before = world.cpu_s()
    watching = asyncio.create_task(_drained(world, project, count))
    try:
        await world.apply(text)
        wall = await watching
    finally:
        watching.cancel()
    cpu = spent(before, world.cpu_s())
    await _check(world, project, count)
    taken.add(OURS, distribution, count, wall.seconds, sum(cpu[name] for name in WORKERS))
    taken.facts["cpu_s"].append({"run": project, **{name: round(cpu[name], 2) for name in WORKERS}})
    taken.facts["online_s"].append(round(wall.online_s, 2))
    taken.facts["history_s"].append(round(wall.history_s, 2))


@dataclass(frozen=True)
class Drained:
    """Seconds from the last look at which nothing was applied: until all was online, until all was in the history."""

    online_s: float
    history_s: float

    @property
    def seconds(self) -> float:
        """Until both."""
        return max(self.online_s, self.history_s)


async def _drained(world: World, project: str, count: int) -> Drained:
    """Watches both sinks until they hold everything."""
    deadline = time.perf_counter() + DRAIN_DEADLINE_S
    started = online = history = 0.0
    table, asked_table, rows = "", 0.0, 0
    async with world.history() as clickhouse, world.channel("feature_store") as channel:
        ask = online_client.as_of(channel)
        while not (online and history):
            now = time.perf_counter()
            if now > deadline:
                raise BenchError(f"{project} was not drained within {DRAIN_DEADLINE_S:.0f} s")
            watermark_us = await _online_us(ask, project)
            if now - asked_table > COUNT_EVERY_S:
                asked_table = now
                table = table or await world.history_table(project, SOURCE)
                rows = int((await clickhouse.query_rows(f"SELECT count() AS n FROM `{table}`"))[0]["n"]) if table else 0
            if not watermark_us and not rows:
                started = now
            online = online or (time.perf_counter() if watermark_us >= NOW_US else 0.0)
            history = history or (time.perf_counter() if rows >= count else 0.0)
            await asyncio.sleep(POLL_S)
    return Drained(online - started, history - started)


async def _online_us(ask: Any, project: str) -> int:
    """The time up to which all partitions can be read; 0 before the room knows of the project."""
    try:
        found = await ask(online_client.request(project, [key_name(0)]), timeout=30)
    except grpc.aio.AioRpcError as error:
        if error.code() is grpc.StatusCode.NOT_FOUND:
            return 0
        raise
    return int(min(found.values()))


async def _check(world: World, project: str, count: int) -> None:
    """Every event once in the history, and once in the tiles that are read online. Raises BenchError."""
    table = await world.history_table(project, SOURCE)
    async with world.history() as clickhouse:
        (found,) = await clickhouse.query_rows(f"SELECT count() AS n, uniqExact(_event_id) AS ids FROM `{table}` FINAL")
    if (int(found["n"]), int(found["ids"])) != (count, count):
        raise BenchError(f"{project}: the history holds {found['n']} rows of {found['ids']} events, not {count}")
    total = await count_online(world, project)
    if total != count:
        raise BenchError(f"{project}: the tiles online count {total:.0f} events, not {count}")


async def count_online(world: World, project: str) -> float:
    """The events in the longest window of all keys, as the room answers."""
    total = 0.0
    async with world.channel("feature_store") as channel:
        ask = online_client.call(channel)
        for begin in range(0, KEYS, READ_AT_ONCE):
            keys = [key_name(number) for number in range(begin, begin + READ_AT_ONCE)]
            reply = await ask(online_client.request(project, keys, ["activity.n_1d"]), timeout=60)
            total += sum(value or 0.0 for value in online_client.values(reply, "activity.n_1d"))
    return total


# -- theirs


async def _theirs(world: World, bench: Bench, peer: Peer, project: str, distribution: str, taken: Taken) -> None:
    reason = bench.peers.absent(peer.needs).get(peer.needs, "")
    if reason:
        taken.absent[peer.name] = reason
        return
    topic = data_topic(project, SOURCE)
    async with world.bus() as bus:
        partitions = len(await bus.partitions(topic))
    events = min(bench.option("events"), bench.option(peer.events_option))
    arguments = {
        "kafka": world.kafka, "topic": topic, "events": events, "partitions": partitions,
        "group": f"peer-{peer.script.removesuffix('.py')}-{PEERS.index(peer)}-{project}", **peer.arguments,
    }  # fmt: skip
    before = world.cpu_s()
    try:
        with started(bench.peers, peer.script, arguments, bench.work / project) as program:
            answer = await asyncio.to_thread(program.ask, PEER_DEADLINE_S)
    except BenchError as error:
        taken.absent[peer.name] = str(error)
        return
    broker_s = spent(before, world.cpu_s())["kafka"]
    taken.add(peer.name, distribution, int(answer["events"]), float(answer["wall_s"]), answer["cpu_s"] + broker_s)


# -- what is said


def _sections(taken: Taken) -> list[Section]:
    rows = [taken.row(OURS, distribution) for distribution in DISTRIBUTIONS]
    rows += [taken.row(peer.name, DISTRIBUTIONS[0]) for peer in PEERS if taken.runs(peer.name, DISTRIBUTIONS[0])]
    columns = (Column(RATE), Column(CPU, ",.1f"), Column(TWO_CORES), Column(AGAINST, ",.2f"))
    notes: tuple[str, ...] = (
        "CPU, ours: the room, Kafka, Valkey, ClickHouse's engine together; a peer's: its own and Kafka's while it ran",
        "where others use the cores, four processes get more of them than a peer's one: compare the CPU columns then",
        "every event was counted afterwards, once in the history and once in the tiles read online",
    )
    if paces := taken.paces():
        told = ", ".join(f"{name} {pace:.2f}" for name, pace in paces.items())
        notes += ("the peers' pace is that of single processes: where others use the cores they lose more than we do",)
        notes += (f"of the pace that each peer had on the machine where the bars were set, it had here: {told}",)
    title = "Stream: 200-byte events into 3 windows × 4 aggregates"
    return [Section(title, columns, tuple(rows), _targets(taken), notes, taken.absent, dict(taken.facts))]


def _targets(taken: Taken) -> tuple[Target, ...]:
    quix, table = PEERS[0].name, PEERS[1].name
    targets = [
        Target(
            f"{distribution} keys: events/s on this machine",
            taken.runs(OURS, distribution),
            at_least=50_000,
            pace=taken.pace(),
        )
        for distribution in DISTRIBUTIONS
    ]
    for distribution in DISTRIBUTIONS:
        faster = ratios(taken.runs(OURS, distribution), taken.runs(quix, distribution))
        targets.append(Target(f"{distribution} keys: times Quix Streams' one tumbling window", faster, at_least=2))
    faster = ratios(taken.runs(OURS, DISTRIBUTIONS[0]), taken.runs(table, DISTRIBUTIONS[0]))
    targets.append(Target("uniform keys: times Faust's windowed table", faster, at_least=10))
    return tuple(targets)
