"""Online reads over gRPC: five views of ten features, beside a bare echo of the same bytes and Feast on one Valkey."""

from __future__ import annotations

import asyncio
import json
import random
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from urllib.parse import urlparse

import grpc

from bench import online_client
from bench.benchmark import Bench, BenchError, Benchmark, Column, Row, Runs, Section, Target, ratios
from bench.echo import echoing
from bench.latency import Call, at_once, in_turn, percentile_ms
from bench.loading import Stamped, append, beat
from bench.peers.program import Program, started
from bench.projects import FEATURES, LATEST, VIEWS, latest_project, windowed_project
from bench.world import World, cpu_of, running, until

SIZES = (1, 10, 100)
CLIENTS, CHANNELS = 32, 4
REQUESTS_KEPT = 64  # different requests per case, so that no single key is measured
WARM_UP = 50
LAST_US = 1_767_247_200_000_000  # of the events, on a full hour
FIRST_US = LAST_US - 15_000_000_000  # of the windowed views' events: more than four hours, within their longest window
NOW_US = LAST_US + 600_000_000  # one hop later, so that the last events are in the windows
LOADED_DEADLINE_S = 900.0
FEAST_DEADLINE_S = 300.0
P50, P99, RATE, CPU, AGAINST = "p50 ms", "p99 ms", "requests/s", "CPU ms/request", "p99 : echo's"
MANY = f"{CLIENTS} clients"
FEWEST = 100  # requests of a run, however many rows each has
PROJECTS = {"latest": "bench-latest", "windowed": "bench-windowed"}


def jobs() -> list[Benchmark]:
    """`online`."""
    options = {"entities": 10_000, "events_each": 6, "requests": 400, "repetitions": 5}
    return [Benchmark("online", "online reads over gRPC, beside a bare echo and Feast", run, options)]


def run(bench: Bench) -> list[Section]:
    """Loads through the log, then measures in turns."""
    return asyncio.run(_run(bench))


class Taken:
    """What each run of each way showed, by (way, case) and column."""

    def __init__(self) -> None:
        self._runs: dict[tuple[str, str], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))

    def add(self, way: str, case: str, seconds: list[float], cpu_s: float, rate: float | None = None) -> None:
        """One run: the time of each request, the processor time of who answered them, requests/s of many clients."""
        runs = self._runs[way, case]
        runs[P50].append(percentile_ms(seconds, 50))
        runs[P99].append(percentile_ms(seconds, 99))
        runs[RATE].append(rate if rate is not None else len(seconds) / sum(seconds))
        runs[CPU].append(cpu_s / len(seconds) * 1000)

    def runs(self, way: str, case: str, column: str) -> Runs:
        """The runs of one column; empty where the way was not measured."""
        return tuple(self._runs[way, case][column]) if (way, case) in self._runs else ()

    def against_echo(self, way: str, case: str, column: str = P99) -> Runs:
        """A column in times the echo's of the same bytes, run by run."""
        return ratios(self.runs(way, case, column), self.runs(f"echo of {way}", case, column))


@dataclass(frozen=True)
class Way:
    """Who answers: calls per case, one per channel, and the processor seconds of the processes that answer."""

    name: str
    calls: Callable[[str], list[Call]]
    cpu_s: Callable[[], float]

    async def measure(self, requests: dict[str, list[bytes]], taken: Taken, count: int) -> None:
        """One run of every case."""
        for case, asked in requests.items():
            (call, *_) = self.calls(case)
            await in_turn(call, asked, WARM_UP)
            before = self.cpu_s()
            seconds = await in_turn(call, asked, count)
            taken.add(self.name, case, seconds, self.cpu_s() - before)
        await at_once(self.calls(MANY), requests["1"], CLIENTS, WARM_UP)
        before = self.cpu_s()
        rate, seconds = await at_once(self.calls(MANY), requests["1"], CLIENTS, 5 * count)
        taken.add(self.name, MANY, seconds, self.cpu_s() - before, rate)


async def _run(bench: Bench) -> list[Section]:
    rooms = ("registry", "feature_store")
    async with running(bench.work / "home", rooms, bench.say) as world, AsyncExitStack() as stack:
        await _load(world, bench)
        channels = [
            await stack.enter_async_context(_channel(world.address("feature_store"), i)) for i in range(CHANNELS)
        ]
        requests = {way: _requests(project, bench) for way, project in PROJECTS.items()}
        replies = await _checked_replies(channels[0], requests, bench)
        echo = await stack.enter_async_context(_echo(bench, replies))
        feast, absent = _feast(world, bench, stack)
        taken = Taken()
        for repetition in range(bench.option("repetitions")):
            bench.say(f"run {repetition + 1} of {bench.option('repetitions')}")
            for name, asked in requests.items():
                own = Way(name, lambda case: _own_calls(channels, case), world.reading_cpu_s)
                for way in (echo(name), own)[:: 1 if repetition % 2 else -1]:
                    await way.measure(asked, taken, bench.option("requests"))
            try:
                await _measure_feast(feast, world, taken, bench.option("requests"))
            except BenchError as error:
                feast, absent = None, {"feast": str(error)}
        sizes = {f"{way}/{case}": len(reply) for (way, case), reply in replies.items()}
        return _sections(taken, absent, {"reply_bytes": sizes})


def _own_calls(channels: Sequence[grpc.aio.Channel], case: str) -> list[Call]:
    """With many clients the one process that plays them would spend its core on decoding."""
    return [(online_client.raw_call if case == MANY else online_client.call)(channel) for channel in channels]


# -- loading


async def _load(world: World, bench: Bench) -> None:
    """Both projects, each event through the log; returns when everything can be read."""
    for text, make in (
        (latest_project(PROJECTS["latest"]), _latest),
        (windowed_project(PROJECTS["windowed"]), _windowed),
    ):
        project = await world.apply(text)
        for v in range(VIEWS):
            events = make(v, bench.option("entities"), bench.option("events_each"))
            await append(world, project, f"s{v}", f"bench.sensor{v}.read", events, bench.say)
        await beat(world, project, [f"s{v}" for v in range(VIEWS)], NOW_US)
        bench.say(f"the room applies the events of {project}")

        async def is_applied(project: str = project) -> bool:
            status = await world.status("feature_store")
            return status.watermarks_us.get(project, 0) >= NOW_US

        await until(is_applied, LOADED_DEADLINE_S, f"{project} is online", poll_s=0.5)


def _latest(view: int, entities: int, events_each: int) -> Iterator[Stamped]:
    del events_each
    return _events(view, entities, [LAST_US])


def _windowed(view: int, entities: int, events_each: int) -> Iterator[Stamped]:
    every_us = (LAST_US - FIRST_US) // max(events_each - 1, 1)
    return _events(view, entities, [LAST_US - i * every_us for i in reversed(range(events_each))])


def _events(view: int, entities: int, rounds_us: list[int]) -> Iterator[Stamped]:
    """Every entity once in each round, a microsecond apart."""
    draw = random.Random(view)
    for round_number, at_us in enumerate(rounds_us):
        for number in range(entities):
            key, event_us = f"s{number:06d}", at_us + number
            row = {"sensor": key, "at": event_us} | {name: round(draw.gauss(0, 1), 6) for name in LATEST}
            identity, body = f"e{view}-{round_number}-{number}", json.dumps(row).encode()
            yield Stamped(key.encode(), identity, body, event_us, event_us + 1)


# -- asking


def _channel(address: str, number: int) -> grpc.aio.Channel:
    """A connection of its own: channels with equal arguments would share one."""
    return grpc.aio.insecure_channel(address, options=[("bench.number", number)])


def _requests(project: str, bench: Bench) -> dict[str, list[bytes]]:
    draw, entities = random.Random(11), bench.option("entities")
    return {
        str(size): [
            online_client.request(project, [f"s{draw.randrange(entities):06d}" for _ in range(size)])
            for _ in range(REQUESTS_KEPT)
        ]
        for size in SIZES
    }


async def _checked_replies(
    channel: grpc.aio.Channel, requests: dict[str, dict[str, list[bytes]]], bench: Bench
) -> dict[tuple[str, str], bytes]:
    """One reply per way and case, as the echo will answer it. Raises BenchError when a value is missing."""
    bench.say("checking the answers")
    ask, replies = online_client.raw_call(channel), {}
    for way, cases in requests.items():
        for case, asked in cases.items():
            reply = await ask(asked[0], timeout=60)
            present = online_client.present(online_client.decoded(reply))
            if present != int(case) * VIEWS * FEATURES:
                raise BenchError(f"{way}, {case} rows: {present} values are present, not all that were loaded")
            replies[way, case] = reply
    return replies


@asynccontextmanager
async def _echo(bench: Bench, replies: dict[tuple[str, str], bytes]) -> AsyncIterator[Callable[[str], Way]]:
    """The echo of each way, answered by a process of its own."""
    cases = {f"{way}-{case}": reply for (way, case), reply in replies.items()}
    async with echoing(bench.work / "replies", cases) as (process, address), AsyncExitStack() as stack:
        own = [_channel(address, number) for number in range(CHANNELS)]
        channels = [await stack.enter_async_context(channel) for channel in own]

        def echo_of(way: str) -> Way:
            def calls(case: str) -> list[Call]:
                answered = "1" if case == MANY else case
                return [channel.unary_unary(f"/bench.Echo/{way}-{answered}", None, None) for channel in channels]

            return Way(f"echo of {way}", calls, lambda: cpu_of(process.pid))

        yield echo_of


# -- Feast


def _feast(world: World, bench: Bench, stack: AsyncExitStack) -> tuple[Program | None, dict[str, str]]:
    """Feast's program, loaded; or who is absent and why."""
    absent = bench.peers.absent("feast")
    if absent:
        return None, absent
    bench.say("Feast writes the same entities")
    where = urlparse(world.redis)
    arguments = {
        "host": where.hostname, "port": where.port, "db": 1,
        "entities": bench.option("entities"), "views": VIEWS, "features": FEATURES,
    }  # fmt: skip
    try:
        program = stack.enter_context(started(bench.peers, "feast_online.py", arguments, bench.work))
        program.ask(FEAST_DEADLINE_S)
    except BenchError as error:
        return None, {"feast": str(error)}
    return program, {}


async def _measure_feast(feast: Program | None, world: World, taken: Taken, count: int) -> None:
    """One run of every case that Feast has. Raises BenchError when a value is missing."""
    if feast is None:
        return
    for size in SIZES:
        feast.ask(FEAST_DEADLINE_S, rows=size, count=5)
        number = max(count // size, FEWEST)
        before = cpu_of(feast.pid) + world.cpu_s()["valkey"]
        answer = await asyncio.to_thread(feast.ask, FEAST_DEADLINE_S, rows=size, count=number)
        if answer["present"] != number * size * VIEWS * FEATURES:
            raise BenchError(f"Feast answered {answer['present']} values to {number} requests of {size} rows")
        spent = cpu_of(feast.pid) + world.cpu_s()["valkey"] - before
        taken.add("Feast", str(size), list(answer["seconds"]), spent)


# -- what is said


def _sections(taken: Taken, absent: dict[str, str], facts: dict[str, object]) -> list[Section]:
    rows = []
    for case in (*map(str, SIZES), MANY):
        label = f"{case} {'row' if case == '1' else 'rows'}, 1 client" if case.isdigit() else f"{case}, 1 row"
        for way in PROJECTS:
            rows.append(_row(taken, way, case, f"{label}: {way} views"))
            rows.append(_row(taken, f"echo of {way}", case, "    bare echo of the same bytes"))
        if taken.runs("Feast", case, P99):
            rows.append(_row(taken, "Feast", case, "    Feast in process, latest"))
    columns = (Column(P50, ".2f"), Column(P99, ".2f"), Column(RATE), Column(CPU, ".2f"), Column(AGAINST, ".2f"))
    notes = (
        "a request is closed-loop, its reply decoded, but with 32 clients, whom one process plays; the echo's is bytes "
        "only; processor time is that of who answers: "
        "the room and Valkey, the echo's process, Feast's process (it is its own client) and Valkey",
    )
    return [Section("Online reads: 5 views × 10 features", columns, tuple(rows), _targets(taken), notes, absent, facts)]


def _row(taken: Taken, way: str, case: str, name: str) -> Row:
    runs = {column: taken.runs(way, case, column) for column in (P50, P99, RATE, CPU)}
    return Row(name, runs | {AGAINST: taken.against_echo(way, case)})


def _targets(taken: Taken) -> tuple[Target, ...]:
    targets = [
        Target(f"{way}, {size} {'row' if size == '1' else 'rows'}: p99 in {unit}", runs, at_most=bar * times)
        for way, times in (("latest", 1), ("windowed", 2))
        for size, unit, runs, bar in (
            ("1", "times the echo's", taken.against_echo(way, "1"), 2),
            ("100", "ms", taken.runs(way, "100", P99), 5),
        )
    ]
    share = taken.against_echo("latest", MANY, RATE)
    targets.append(Target("latest, 32 clients: requests/s in times the echo's", share, at_least=0.5))
    if slower := ratios(taken.runs("Feast", "100", P99), taken.runs("latest", "100", P99)):
        targets.append(Target("latest, 100 rows: Feast's p99 in times ours", slower, at_least=1))
    return tuple(targets)
