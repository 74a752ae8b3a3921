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
from millrace.stores.redis import connect

from bench import online_client
from bench.bare import Case, bare, method
from bench.benchmark import Bench, BenchError, Benchmark, Column, Row, Runs, Section, Target, ratios
from bench.latency import Call, at_once, in_turn, percentile_ms, undisturbed
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


def echo_of(way: str) -> str:
    """Who answers with the same bytes."""
    return f"echo-{way}"


def parts_of(way: str) -> str:
    """Who reads the same rows in one MGET, does nothing with them and answers with the same bytes."""
    return f"parts-{way}"


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

    def against_echo(self, name: str, way: str, case: str, column: str = P99) -> Runs:
        """A column of `name` in times that of the echo of the same bytes, run by run."""
        return ratios(self.runs(name, case, column), self.runs(echo_of(way), case, column))


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
        cases = await _cases(world.redis, replies)
        alone = await stack.enter_async_context(_alone(bench, cases))
        feast, absent = _feast(world, bench, stack)
        taken = Taken()
        for repetition in range(bench.option("repetitions")):
            bench.say(f"run {repetition + 1} of {bench.option('repetitions')}")
            for name, asked in requests.items():
                own = Way(name, lambda case: _own_calls(channels, case), world.reading_cpu_s)
                for way in (alone(echo_of(name)), alone(parts_of(name)), own)[:: 1 if repetition % 2 else -1]:
                    with undisturbed():
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


async def _cases(url: str, replies: dict[tuple[str, str], bytes]) -> dict[str, Case]:
    """By way and case, what the parts alone do: nothing, or one MGET of as many rows and positions as a read has."""
    cases: dict[str, Case] = {}
    async with connect(url) as client:
        for way, project in PROJECTS.items():
            kept = {key.decode() async for key in client.scan_iter(match=f"millrace:{{{project}/*:of:*", count=5_000)}
            by_view: dict[str, list[str]] = defaultdict(list)
            for key in sorted(kept):
                by_view[key.partition("of:")[0]].append(key)
            for size in map(str, SIZES):
                rows = [key for keys in by_view.values() for key in keys[: int(size)]]
                if len(by_view) != VIEWS or len(rows) != VIEWS * int(size):
                    raise BenchError(f"{project}: {len(rows)} rows of {len(by_view)} views, not {size} of {VIEWS}")
                positions = [f"{view}at" for view in by_view]
                cases[f"{echo_of(way)}-{size}"] = Case(replies[way, size])
                # Two positions a view, as a read asks for: its own, and that of what came back from dead letters.
                cases[f"{parts_of(way)}-{size}"] = Case(replies[way, size], url, [*positions, *positions, *rows])
    return cases


@asynccontextmanager
async def _alone(bench: Bench, cases: dict[str, Case]) -> AsyncIterator[Callable[[str], Way]]:
    """The parts alone, in a process of their own, by the name of a way."""
    async with bare(bench.work / "cases.json", cases) as (process, address), AsyncExitStack() as stack:
        own = [_channel(address, number) for number in range(CHANNELS)]
        channels = [await stack.enter_async_context(channel) for channel in own]

        def way(name: str) -> Way:
            def calls(case: str) -> list[Call]:
                return [method(channel, f"{name}-{'1' if case == MANY else case}") for channel in channels]

            return Way(name, calls, lambda: cpu_of(process.pid))

        yield way


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
            rows.append(_row(taken, way, way, case, f"{label}: {way} views"))
            rows.append(_row(taken, echo_of(way), way, case, "    bare echo of the same bytes"))
            rows.append(_row(taken, parts_of(way), way, case, "    one MGET of such rows, then the same bytes"))
        if taken.runs("Feast", case, P99):
            rows.append(_row(taken, "Feast", "latest", case, "    Feast in process, latest"))
    columns = (Column(P50, ".2f"), Column(P99, ".2f"), Column(RATE), Column(CPU, ".2f"), Column(AGAINST, ".2f"))
    notes = (
        "a request is closed-loop, its reply decoded, but with 32 clients, whom one process plays; the parts' is bytes "
        "only; processor time is that of who answers: "
        "the room and Valkey, the parts' own process without Valkey, Feast's process (it is its own client) and Valkey",
    )
    return [Section("Online reads: 5 views × 10 features", columns, tuple(rows), _targets(taken), notes, absent, facts)]


def _row(taken: Taken, name: str, way: str, case: str, label: str) -> Row:
    runs = {column: taken.runs(name, case, column) for column in (P50, P99, RATE, CPU)}
    return Row(label, runs | {AGAINST: taken.against_echo(name, way, case)})


def _targets(taken: Taken) -> tuple[Target, ...]:
    targets = []
    for way, times in (("latest", 1), ("windowed", 2)):
        one, parts = (taken.against_echo(name, way, "1") for name in (way, parts_of(way)))
        targets.append(Target(f"{way}, 1 row: p99 in times the echo's", one, at_most=2 * times, parts=parts))
        hundred, parts = (taken.runs(name, "100", P99) for name in (way, parts_of(way)))
        targets.append(Target(f"{way}, 100 rows: p99 in ms", hundred, at_most=5 * times, parts=parts))
    share, parts = (taken.against_echo(name, "latest", MANY, RATE) for name in ("latest", parts_of("latest")))
    targets.append(Target("latest, 32 clients: requests/s in times the echo's", share, at_least=0.5, parts=parts))
    if slower := ratios(taken.runs("Feast", "100", P99), taken.runs("latest", "100", P99)):
        targets.append(Target("latest, 100 rows: Feast's p99 in times ours", slower, at_least=1))
    return tuple(targets)
