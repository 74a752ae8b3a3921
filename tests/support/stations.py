"""The stations example on a platform of its own: recorded time driven on, and everything counted afterwards."""

import asyncio
import random
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import grpc
import msgspec
from millrace.bus.kafka import KafkaBus
from millrace.bus.topics import data_topic
from millrace.client.addresses import Addresses
from millrace.client.playback import Hooks, Outcome, Playback
from millrace.client.quiet import Quiet, Snapshot
from millrace.client.replay import Pace, Progress, ReplayEvent
from millrace.definitions.load import load_text
from millrace.stores.clickhouse import ClickHouse
from millrace.wire.common.v1 import common_pb2
from millrace.wire.feature_store.v1 import service_pb2, service_pb2_grpc

from examples.stations.events import events
from infra.embedded.platform import Platform
from tests.support.columns import assert_same, cells_of
from tests.support.poll import until

ROOT = Path(__file__).resolve().parents[2]
PROJECT = ROOT / "examples" / "stations" / "project.yaml"
SOURCES = ("requests", "readings")
FIRST_DAY = "2010-01-01"
HOUR_US = 3_600_000_000
HORIZON_US = 6 * HOUR_US  # of the project's label
TTL_US = 48 * HOUR_US  # of its views
SLICES_PER_HOUR = 2
PACE = Pace(HOUR_US // SLICES_PER_HOUR, 24 * HOUR_US)
CATCH_UP_S = 240.0


class Stations:
    """One platform, one project, one clock that only goes on. Asserts in `check` name what was lost or doubled."""

    def __init__(self, platform: Platform, days: int) -> None:
        self.platform = platform
        self.project = load_text(PROJECT.read_text(encoding="utf-8"))
        self.addresses = Addresses.discover(platform.home)
        self._events: list[ReplayEvent] = events(days, FIRST_DAY)
        # Half past: what happens on the hour is visible a microsecond later, past a clock that stands on the hour.
        self.now_us = self._events[0].available_us // HOUR_US * HOUR_US - HOUR_US // 2
        self._start_us = self.now_us

    async def drive(self, hours: int, on_progress: Callable[[Progress], None] | None = None) -> Outcome:
        """Publishes the next `hours` of recorded time, slice by slice, without waiting for the rooms."""
        begin_us, self.now_us = self.now_us, self.now_us + hours * HOUR_US
        chosen = self._between(begin_us, self.now_us)
        assert chosen, "the recording is at its end"
        playback = Playback(
            self.addresses, self.project, chosen, pace=PACE, hooks=Hooks(on_progress=on_progress), free_running=True
        )
        outcome = await playback.run(begin_us, self.now_us)
        done = outcome.progress
        # An append whose outcome was unknown is recognised when it comes again: accepted once, answered twice.
        assert (done.accepted + done.duplicates, done.quarantined) == (len(chosen), 0)
        return outcome

    async def rest(self, deadline_s: float = CATCH_UP_S) -> None:
        """Until every room has done everything up to the clock."""
        async with Quiet(self.addresses, self.project.name) as quiet:
            await quiet.wait(self.now_us, deadline_s=deadline_s)

    async def look(self) -> Snapshot:
        """What every room says now."""
        async with Quiet(self.addresses, self.project.name) as quiet:
            return await quiet.snapshot()

    async def pids(self) -> dict[str, int]:
        """Process of each room that answers."""
        return {room: status.pid for room, status in (await self.look()).items() if status is not None}

    async def check(self, seed: int = 0) -> dict[str, int]:
        """Counts everything against what was published; returns the counts."""
        figures = await self._check_topics()
        figures |= await self._check_history()
        figures |= await self._check_labels()
        return figures | {"entities_compared": await self._check_features(random.Random(seed))}

    def _between(self, begin_us: int, end_us: int) -> list[ReplayEvent]:
        return [event for event in self._events if begin_us < event.available_us <= end_us]

    def _published(self, source: str) -> list[ReplayEvent]:
        return [event for event in self._between(self._start_us, self.now_us) if event.source == source]

    async def _check_topics(self) -> dict[str, int]:
        """Each event lies in its data topic exactly once."""
        counts = {}
        for source in SOURCES:
            found = await _event_ids(self.platform.stack.addresses.kafka, data_topic(self.project.name, source))
            _assert_each_once(found, [event.id for event in self._published(source)], f"topic of {source}")
            counts[f"{source}_in_topic"] = len(found)
        return counts

    async def _check_history(self) -> dict[str, int]:
        """The feature history has each event exactly once; it is written late, so it is waited for."""
        counts = {}
        async with _database(self.platform, "feature_store") as clickhouse:
            tables = await clickhouse.query_rows("SELECT name, source FROM history_tables FINAL")
            assert sorted(row["source"] for row in tables) == sorted(SOURCES)
            for row in tables:
                wanted = [event.id for event in self._published(row["source"])]
                sql = f"SELECT _event_id AS id FROM `{row['name']}` FINAL"
                found = await _rows(clickhouse, sql, len(wanted))
                _assert_each_once([r["id"] for r in found], wanted, f"history of {row['source']}")
                counts[f"{row['source']}_in_history"] = len(found)
        return counts

    async def _check_labels(self) -> dict[str, int]:
        """One label, never revised, per example whose horizon has passed; labeling and monitor hold the same."""
        asked = [msgspec.json.decode(event.json) for event in self._published("requests")]
        matured = [row["forecast_id"] for row in asked if row["asked_at"] + HORIZON_US <= self.now_us]
        counts = {}
        for room in ("labeling", "monitor"):
            async with _database(self.platform, room) as clickhouse:
                sql = "SELECT entity, revision FROM labels FINAL WHERE project = 'stations'"
                found = await _rows(clickhouse, sql, len(matured))
            _assert_each_once([row["entity"] for row in found], matured, f"labels in {room}")
            assert {row["revision"] for row in found} <= {0}
            counts[f"labels_in_{room}"] = len(found)
        return counts

    async def _check_features(self, seeded: random.Random) -> int:
        """What is answered online equals what the history says of the same moment."""
        recent = [
            msgspec.json.decode(event.json)["forecast_id"]
            for event in self._published("requests")
            if event.available_us > self.now_us - TTL_US
        ]
        entities = seeded.sample(recent, min(24, len(recent)))
        keys = [common_pb2.ExampleKey(project="stations", entity=e, moment_us=self.now_us) for e in entities]
        async with grpc.aio.insecure_channel(self.addresses.grpc("feature_store")) as channel:
            stub = service_pb2_grpc.FeatureStoreStub(channel)
            ask = service_pb2.GetOnlineRequest(project="stations", entities=entities, not_before_us=self.now_us)
            online = await stub.GetOnline(ask, timeout=60, wait_for_ready=True)
            past = await stub.GetHistorical(
                service_pb2.GetHistoricalRequest(project="stations", keys=keys), timeout=120, wait_for_ready=True
            )
        assert set(online.as_of_us.values()) == {self.now_us}
        cells = cells_of(online, len(entities))
        assert_same(cells, cells_of(past, len(entities)))
        present = sum(one.statuses.count(service_pb2.PRESENT) for one in cells.values())
        assert present > len(entities)
        return len(entities)


def _assert_each_once(found: list[str], wanted: list[str], where: str) -> None:
    lost, strange = set(wanted) - set(found), set(found) - set(wanted)
    doubled = len(found) - len(set(found))
    assert (len(lost), len(strange), doubled) == (0, 0, 0), (where, sorted(lost)[:3], sorted(strange)[:3])


async def _event_ids(bootstrap: str, topic: str) -> list[str]:
    """Ids of a topic's data records, in order; heartbeats are left out."""
    bus = KafkaBus(bootstrap, "counting")
    await bus.start()
    reader = bus.reader([topic])
    found: list[str] = []
    try:
        await reader.start()
        while await reader.behind():
            for batch in await reader.poll(5_000, 200):
                found += [r.event.id for r in batch.records if ".clock." not in r.event.type]
    finally:
        await reader.stop()
        await bus.stop()
    return found


async def _rows(clickhouse: ClickHouse, sql: str, count: int) -> list[dict]:
    """The rows once there are `count`; what there is after the deadline, for the caller's message."""
    found: list[dict] = []

    async def complete() -> bool:
        found[:] = await clickhouse.query_rows(sql)
        return len(found) >= count

    try:
        await until(complete, 60)
    except AssertionError:
        assert len(found) < count
    return found


@asynccontextmanager
async def _database(platform: Platform, room: str) -> AsyncIterator[ClickHouse]:
    """A room's database in the embedded ClickHouse, open for a block."""
    clickhouse = ClickHouse(platform.stack.addresses.clickhouse, database=room)
    await clickhouse.start()
    try:
        yield clickhouse
    finally:
        await clickhouse.close()


@contextmanager
def running_stations(home: Path, *, restart: bool, days: int) -> Iterator[Stations]:
    """A platform with all seven rooms and the project applied. `restart`: rooms and parts that die come back."""
    platform = Platform(home, restart=restart)
    platform.start()
    try:
        command = [sys.executable, "-m", "millrace.cli", "apply", str(PROJECT), "--home", str(home)]
        applied = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=180, check=False)
        assert applied.returncode == 0, applied.stderr
        yield Stations(platform, days)
    finally:
        platform.stop()


async def in_thread(call: Callable[..., None], *arguments: object) -> None:
    """A blocking call of the supervisor, beside the loop."""
    await asyncio.to_thread(call, *arguments)
