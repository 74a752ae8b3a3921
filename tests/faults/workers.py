"""Feature_store processes that share six partitions, proxies around what they stand on, and everything counted."""

import asyncio
import json
import random
import subprocess
import sys
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import grpc
import psutil
from millrace.bus.events import Event, Message, derive_id, new_id
from millrace.bus.kafka import KafkaBus
from millrace.bus.topics import data_topic
from millrace.client.columns import read_columns
from millrace.definitions.canonical import digest, to_canonical_json
from millrace.definitions.load import load_text
from millrace.stores.clickhouse import ClickHouse
from millrace.wire.common.v1 import common_pb2, common_pb2_grpc
from millrace.wire.feature_store.v1 import service_pb2, service_pb2_grpc
from millrace.wire.registry.v1.events_pb2 import DefinitionPublished

from infra.embedded import Stack
from tests.support.poll import until
from tests.support.proxies import Proxy
from tests.support.topics import partitioned
from tests.unit.feature_store.world import HOUR_US, MINUTE_US, START_US, event, heartbeat

ROOM = "feature_store"
WORKERS, PARTITIONS, CUSTOMERS = 3, 6, 40
LATENESS_US = HOUR_US
SESSION_MS = 6_000  # the shortest that the broker allows: a kill costs the group as long
BACK_S = 120.0

YAML = """
project: {name}
description: How much does a customer buy?
clock: replay
sources:
  purchases:
    event_type: shop.purchase.made
    key: customer
    event_time: made_at
    fields:
      customer: {{type: string, required: true}}
      made_at: {{type: timestamp, required: true}}
      amount: {{type: integer}}
    lateness: 1h
predict:
  source: purchases
  entity: customer
  moment: made_at
features:
  bought@1:
    source: purchases
    entity: customer
    hop: 1h
    windows: [60d]
    aggregates: {{purchases: count(), amount: sum(amount)}}
label: {{source: purchases, key: customer, value: amount >= 5, horizon: 12h, missing: censored}}
model:
  name: buys
  task: binary
  template: {{kind: linear}}
  inputs: [bought.purchases_60d, bought.amount_60d]
  baselines: [constant]
training:
  triggers: {{new_labels: 100}}
  window: 60d
  min_rows: 10
gate: {{metric: auc, floors: {{auc: 0.5}}}}
rollout: {{strategy: direct}}
monitors: {{}}
"""


@dataclass
class Published:
    """What was put into the log, to count against. Times are the project's."""

    good: dict[str, tuple[str, int]] = field(default_factory=dict)  # id to (customer, amount)
    late: set[str] = field(default_factory=set)
    bad: set[str] = field(default_factory=set)
    now_us: int = START_US


class Workers:
    """The processes, and a producer that goes on while they are disturbed."""

    def __init__(self, stack: Stack, proxies: dict[str, Proxy], home: Path) -> None:
        self.stack = stack
        self.proxies = proxies
        self.project = load_text(YAML.format(name=f"shop{uuid.uuid4().hex[:8]}"))
        self.topic = data_topic(self.project.name, "purchases")
        self.published = Published()
        self._home = home
        self._children: dict[int, psutil.Process] = {}
        self._bus = KafkaBus(stack.addresses.kafka, "counting")

    async def start(self) -> None:
        """Topics, definition, processes."""
        self._nursery = start_nursery()
        table = partitioned(PARTITIONS)
        await self._bus.ensure_topics([*table.static(), *table.for_project(self.project.name, ["purchases"])])
        body = DefinitionPublished(
            project=self.project.name,
            version=1,
            digest=digest(self.project),
            canonical_json=to_canonical_json(self.project),
        )
        content = Event(new_id(), "millrace.registry.definition.published.v1", "tests", body.SerializeToString())
        await self._bus.publish([Message("definitions", content, key=self.project.name.encode())])
        for number in range(WORKERS):
            self.spawn(number)
        await until(lambda: all(self._run_file(n).exists() for n in range(WORKERS)), BACK_S, what="workers serve")

    async def stop(self) -> None:
        """Ends every process."""
        for child in self._children.values():
            with suppress(psutil.NoSuchProcess):
                child.resume()
                child.terminate()
        for child in self._children.values():
            await self._gone(child)
        self._nursery.stdin.close()
        await asyncio.to_thread(self._nursery.wait, 60)
        await self._bus.stop()

    def pids(self) -> dict[int, int]:
        """Number to process of the workers that live."""
        return {number: child.pid for number, child in self._children.items() if child.is_running()}

    def spawn(self, number: int) -> None:
        """Start a worker, with a folder and ports of its own."""
        home = self._home / f"worker{number}"
        home.mkdir(exist_ok=True)
        self._run_file(number).unlink(missing_ok=True)
        env = {
            "MILLRACE_KAFKA_BOOTSTRAP": self.stack.addresses.kafka,
            "MILLRACE_REDIS_URL": f"redis://127.0.0.1:{self.proxies['redis'].port}/0",
            "MILLRACE_CLICKHOUSE_URL": f"http://127.0.0.1:{self.proxies['clickhouse'].port}",
            "MILLRACE_LABELING_ADDRESS": "127.0.0.1:1",
            "MILLRACE_HOME": str(home),
            "MILLRACE_FEATURE_STORE_CONSISTENCY_SHARE": "0",
            "MILLRACE_KAFKA_SESSION_TIMEOUT_MS": str(SESSION_MS),
        }
        self._nursery.stdin.write(json.dumps({"env": env, "log": str(home / "log")}) + "\n")
        self._nursery.stdin.flush()
        self._children[number] = psutil.Process(int(self._nursery.stdout.readline()))

    async def ended(self, pid: int) -> None:
        """Until the process has ended; then it is started again. Another may be doing that already."""
        for number, child in list(self._children.items()):
            if child.pid == pid:
                await self._gone(child)
                if self._children[number] is child:
                    self.spawn(number)

    async def _gone(self, child: psutil.Process) -> None:
        await until(lambda: not child.is_running(), 90, what=f"process {child.pid} has ended")

    async def publish(self, seeded: random.Random, records: int = 20) -> None:
        """Records of all kinds into every partition: on time, late, unreadable; then the clock moves."""
        said, messages = self.published, []
        visible = sorted(said.now_us + seeded.randrange(1, MINUTE_US) for _ in range(records))
        for visible_us in visible:
            identity, customer = uuid.UUID(int=seeded.getrandbits(128)).hex, f"c{seeded.randrange(CUSTOMERS)}"
            amount, kind = seeded.randrange(100), seeded.random()
            event_us = visible_us - (3 * HOUR_US if kind < 0.1 else seeded.randrange(1, LATENESS_US))
            row: dict[str, object] = {"customer": customer, "made_at": event_us, "amount": amount}
            if kind > 0.95:
                said.bad.add(identity)
                row["amount"] = "many"
            else:
                said.good[identity] = (customer, amount)
                if kind < 0.1:
                    said.late.add(identity)
            where = {"partition": sum(customer.encode()) % PARTITIONS}
            messages.append(event(self.topic, identity, row, event_us, visible_us, **where))
        said.now_us += MINUTE_US
        beats = [heartbeat(self.topic, partition, said.now_us) for partition in range(PARTITIONS)]
        await self._bus.publish([*messages, *beats])

    async def drained(self) -> None:
        """Until the workers that live have done everything that was published. Twice all of them say so, with nothing
        done in between, as for `millrace.client.quiet`: a partition that moves meanwhile is nobody's for once."""

        async def handled() -> list[int]:
            states = await asyncio.gather(*(self._state(number) for number in range(WORKERS)))
            assert all(state.lag_records == state.deferred_records == 0 for state in states), states
            return [state.handled_records for state in states]

        async def done() -> bool:
            self._nobody_died()
            before = await handled()
            assert await handled() == before, "records keep coming"
            read = service_pb2.GetOnlineRequest(
                project=self.project.name, entities=["c0"], not_before_us=self.published.now_us
            )
            async with grpc.aio.insecure_channel(self._address(0)) as channel:
                await service_pb2_grpc.FeatureStoreStub(channel).GetOnline(read, timeout=5)
            return True

        async def patiently() -> bool:
            try:
                return await done()
            except (grpc.aio.AioRpcError, OSError, ValueError) as error:
                raise AssertionError(f"{type(error).__name__}: {error}") from None

        await until(patiently, BACK_S, what="all workers are done")

    def _nobody_died(self) -> None:
        for number, child in self._children.items():
            if not child.is_running():
                log = (self._home / f"worker{number}" / "log").read_text()[-1500:]
                raise RuntimeError(f"worker {number} ended by itself: {log}")

    async def check(self) -> dict[str, int]:
        """Counts everything against what was published; asserts name what was lost or doubled."""
        figures = await self._check_history()
        figures |= await self._check_online()
        letters = Counter(await self._ids_of("deadletter.feature_store"))
        bad = {derive_id(identity, f"{ROOM}.deadletter") for identity in self.published.bad}
        _assert_equal(bad, set(letters), "dead letters")
        reports = Counter(await self._ids_of("data.late"))
        late = {derive_id(identity, f"{ROOM}.late") for identity in self.published.late}
        _assert_equal(late, set(reports), "late reports")
        return figures | {
            "in": len(self.published.good) + len(bad),
            "dead_letters": len(bad),
            "dead_letters_said_again": letters.total() - len(letters),
            "late": len(late),
            "late_said_again": reports.total() - len(reports),
        }

    async def _check_history(self) -> dict[str, int]:
        clickhouse = ClickHouse(self.stack.addresses.clickhouse, database=ROOM)
        await clickhouse.start()
        try:
            [table] = await clickhouse.query_rows(
                "SELECT name FROM history_tables FINAL WHERE project = {project:String}", {"project": self.project.name}
            )
            rows = await clickhouse.query_rows(f"SELECT _event_id AS id FROM `{table['name']}` FINAL")
        finally:
            await clickhouse.close()
        found = [row["id"] for row in rows]
        assert len(found) == len(set(found)), "doubled in history"
        _assert_equal(set(self.published.good), set(found), "history")
        return {"in_history": len(found)}

    async def _check_online(self) -> dict[str, int]:
        """Counters are exact, whichever worker answers."""
        counts: Counter[str] = Counter()
        sums: Counter[str] = Counter()
        for customer, amount in self.published.good.values():
            counts[customer] += 1
            sums[customer] += amount
        entities = sorted(counts)
        ask = service_pb2.GetOnlineRequest(
            project=self.project.name, entities=entities, not_before_us=self.published.now_us
        )
        for number in range(WORKERS):
            async with grpc.aio.insecure_channel(self._address(number)) as channel:
                reply = await service_pb2_grpc.FeatureStoreStub(channel).GetOnline(ask, timeout=30)
            columns = read_columns(reply.columns, len(entities))
            said = dict(zip(entities, zip(*(column.values for column in columns), strict=True), strict=True))
            wrong = {e: (said[e], counts[e], sums[e]) for e in entities if said[e] != (counts[e], sums[e])}
            assert not wrong, f"counters are wrong: {dict(list(wrong.items())[:3])}"
        return {"counters_exact": 2 * len(entities)}

    async def _ids_of(self, topic: str) -> list[str]:
        """Ids of the records in `topic` that belong to this project."""
        reader = self._bus.reader([topic])
        found: list[str] = []
        try:
            await reader.start()
            while await reader.behind():
                for batch in await reader.poll(5_000, 200):
                    found += [r.event.id for r in batch.records if self.project.name.encode() in r.data]
        finally:
            await reader.stop()
        return found

    async def _state(self, number: int) -> common_pb2.RoomStatus:
        async with grpc.aio.insecure_channel(self._address(number)) as channel:
            return await common_pb2_grpc.RoomStub(channel).Describe(
                common_pb2.DescribeRequest(exact=True, hurry=True), timeout=10
            )

    def _run_file(self, number: int) -> Path:
        return self._home / f"worker{number}" / "run" / f"{ROOM}.json"

    def _address(self, number: int) -> str:
        return json.loads(self._run_file(number).read_text())["grpc"]


def start_nursery() -> subprocess.Popen[str]:
    """Where workers are forked from; its imports run meanwhile."""
    command = [sys.executable, "-m", "tests.faults.nursery"]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _assert_equal(wanted: set[str], found: set[str], what: str) -> None:
    lost, strange = wanted - found, found - wanted
    assert not lost and not strange, f"{what}: {len(lost)} of {len(wanted)} lost, {len(strange)} that nobody published"


@asynccontextmanager
async def running_workers(home: Path) -> AsyncIterator[Workers]:
    """Three workers on a stack of their own. Kafka, Redis and ClickHouse are reached through proxies."""
    stack = Stack(home / "stack")
    await asyncio.to_thread(stack.start)
    proxies: dict[str, Proxy] = {}
    try:
        redis, clickhouse = urlsplit(stack.addresses.redis), urlsplit(stack.addresses.clickhouse)
        host, _, port = stack.addresses.kafka.partition(":")
        proxies = {
            "redis": Proxy((redis.hostname or "", redis.port or 0)),
            "clickhouse": Proxy((clickhouse.hostname or "", clickhouse.port or 0)),
            "kafka": Proxy((host, int(port)), framed=True),
        }
        for proxy in proxies.values():
            proxy.start()
        await asyncio.to_thread(advertise, stack, proxies["kafka"].port)
        workers = Workers(stack, proxies, home)
        try:
            await workers.start()
            yield workers
        finally:
            await workers.stop()
    finally:
        for proxy in proxies.values():
            proxy.stop()
        await asyncio.to_thread(stack.stop)


def advertise(stack: Stack, port: int) -> None:
    """Lets the broker tell its clients the proxy's port: whatever they ask first, they then talk through the proxy."""
    properties = stack.home / "kafka" / "server.properties"
    stack.stop_part("kafka")
    own = f"advertised.listeners=PLAINTEXT://{stack.addresses.kafka}\n"
    text = properties.read_text()
    assert own in text
    properties.write_text(text.replace(own, f"advertised.listeners=PLAINTEXT://127.0.0.1:{port}\n"))
    stack.start_part("kafka")
