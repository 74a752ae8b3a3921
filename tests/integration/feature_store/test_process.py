"""The room as a process of its own on real Kafka, Valkey and ClickHouse, with labeling faked: online equals history."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import uuid
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import numpy as np
import pyarrow as pa
import pytest
from millrace.bus.events import Event, Message, new_id
from millrace.bus.kafka import KafkaBus
from millrace.bus.topics import data_topic
from millrace.definitions.canonical import digest, to_canonical_json
from millrace.wire.common.v1 import common_pb2, common_pb2_grpc
from millrace.wire.feature_store.v1 import service_pb2, service_pb2_grpc
from millrace.wire.labeling.v1 import service_pb2 as labeling_pb2
from millrace.wire.labeling.v1 import service_pb2_grpc as labeling_grpc
from millrace.wire.registry.v1.events_pb2 import DefinitionPublished

from tests.support.columns import assert_same, cells_of
from tests.support.poll import until
from tests.support.topics import partitioned
from tests.unit.feature_store.world import HOUR_US, MINUTE_US, START_US, event, heartbeat, shop

pytestmark = pytest.mark.stack
CUSTOMERS = ["ann", "bob", "cyd", None]
SLICES, PER_SLICE = 16, 25
LATENESS_US = HOUR_US


class FakeLabeling(labeling_grpc.LabelingServicer):
    """Gives the spine that the test set."""

    def __init__(self) -> None:
        self.examples: list[tuple[str, int]] = []

    async def Spine(self, request, context):
        entities, moments = zip(*self.examples, strict=True)
        size = len(entities)
        table = pa.table(
            {
                "entity": pa.array(entities, pa.string()),
                "moment_us": pa.array(moments, pa.int64()),
                "label": pa.array([1.0] * size),
                "outcome": ["observed"] * size,
                "origin": ["late_truth"] * size,
                "confidence": pa.array([1.0] * size),
            }
        )
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
        data = sink.getvalue().to_pybytes()
        for begin in range(0, len(data), 1000):
            yield labeling_pb2.ArrowChunk(data=data[begin : begin + 1000])


@asynccontextmanager
async def fake_labeling():
    server, servicer = grpc.aio.server(), FakeLabeling()
    labeling_grpc.add_LabelingServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield servicer, f"127.0.0.1:{port}"
    finally:
        await server.stop(None)


class Process:
    """`python -m services.feature_store`."""

    def __init__(self, env: dict[str, str], home: Path) -> None:
        self._env, self.home = env, home
        self.child: subprocess.Popen | None = None
        self.address = ""

    async def start(self) -> None:
        """Until it serves."""
        run_file = self.home / "run" / "feature_store.json"
        run_file.unlink(missing_ok=True)
        self._spawn()
        await until(lambda: run_file.exists() or self.child.poll() is not None, 90, what="the room serves")
        assert self.child.poll() is None, (self.home / "feature_store.log").read_text()[-2000:]
        self.address = json.loads(run_file.read_text())["grpc"]

    def _spawn(self) -> None:
        with (self.home / "feature_store.log").open("ab") as log:
            self.child = subprocess.Popen([sys.executable, "-m", "services.feature_store"], env=self._env, stderr=log)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Its exit status."""
        self.child.send_signal(number)
        return self.child.wait(60)


@pytest.fixture
async def room(stack, tmp_path):
    async with fake_labeling() as (labeling, address):
        env = os.environ | stack.env(tmp_path) | {"MILLRACE_LABELING_ADDRESS": address}
        process = Process(env, tmp_path)
        await process.start()
        yield process, labeling
        if process.child.poll() is None:
            assert process.stop() == 0


async def publish_definition(bus: KafkaBus, project) -> None:
    table = partitioned()
    await bus.ensure_topics([*table.static(), *table.for_project(project.name, [s.name for s in project.sources])])
    body = DefinitionPublished(
        project=project.name, version=1, digest=digest(project), canonical_json=to_canonical_json(project)
    )
    content = Event(new_id(), "millrace.registry.definition.published.v1", "tests", body.SerializeToString())
    await bus.publish([Message("definitions", content, key=project.name.encode())])


def slice_of(project: str, step: int, rng: np.random.Generator) -> list[Message]:
    """Events of one slice in shuffled order: event times up to the lateness old, visible within the slice."""
    begin_us = START_US + (step - 1) * 30 * MINUTE_US
    visible = np.sort(rng.integers(begin_us + 1, begin_us + 30 * MINUTE_US, size=PER_SLICE)).tolist()
    messages = []
    for i, visible_us in enumerate(visible):
        number, event_us = step * 1000 + i, visible_us - int(rng.integers(1, LATENESS_US))
        customer = CUSTOMERS[int(rng.integers(0, 4))]
        row = {"order_id": f"o{number}", "customer": customer}
        if i % 3 == 0:
            row |= {"placed_at": event_us, "amount": float(i), "express": i % 2 == 0}
            messages.append(event(data_topic(project, "orders"), f"order-{number}", row, event_us, visible_us))
        elif customer:
            delay = None if i % 5 == 0 else float(np.round(rng.normal(), 3))
            row |= {"paid_at": event_us, "delay": delay, "channel": f"c{i % 4}"}
            messages.append(event(data_topic(project, "payments"), f"payment-{number}", row, event_us, visible_us))
    return messages


def beats(project: str, at_us: int) -> list[Message]:
    return [heartbeat(data_topic(project, s), p, at_us) for s in ("orders", "payments") for p in (0, 1)]


async def test_online_equals_history_through_a_kill_and_the_snapshot_equals_both(stack, room):
    process, labeling = room
    project = shop(f"shop{uuid.uuid4().hex[:8]}")
    rng = np.random.default_rng(2013)
    bus = KafkaBus(stack.kafka, "feature-store-test")
    await publish_definition(bus, project)
    try:
        await story(process, labeling, bus, project.name, rng)
    finally:
        await bus.stop()


async def story(
    process: Process, labeling: FakeLabeling, bus: KafkaBus, project: str, rng: np.random.Generator
) -> None:
    logged: list[tuple[int, service_pb2.GetOnlineReply]] = []
    entities = [f"o{step * 1000 + i}" for step in (1, 4, 9) for i in range(0, 12, 3)]
    for step in range(1, SLICES + 1):
        at_us = START_US + step * 30 * MINUTE_US
        await bus.publish(slice_of(project, step, rng))
        await bus.publish(beats(project, at_us))
        if step == 7:
            process.stop(signal.SIGKILL)
            await process.start()
        logged.append((at_us, await ask_online(process.address, project, entities, at_us)))
    async with grpc.aio.insecure_channel(process.address) as channel:
        stub = service_pb2_grpc.FeatureStoreStub(channel)
        await until(lambda: settled(channel, project, at_us), 60, what="the room is quiet")
        present = 0
        for moment_us, reply in logged:
            keys = [common_pb2.ExampleKey(project=project, entity=e, moment_us=moment_us) for e in entities]
            old = await stub.GetHistorical(service_pb2.GetHistoricalRequest(project=project, keys=keys))
            assert set(reply.as_of_us.values()) == {moment_us}
            online = cells_of(reply, len(entities))
            assert_same(online, cells_of(old, len(entities)))
            present += sum(cells.statuses.count(service_pb2.PRESENT) for cells in online.values())
        assert present > 500
        labeling.examples = [(e, moment_us) for moment_us, _ in logged for e in entities]
        await check_snapshot(stub, project, logged, entities, at_us)


async def check_snapshot(stub, project: str, logged, entities: list[str], to_us: int) -> None:
    """The training set has the logged values; built twice it has one name."""
    ask = service_pb2.TrainingSetRequest(project=project, from_us=START_US, to_us=to_us + 1, as_of_us=to_us)
    digests = set()
    for _ in range(2):
        steps = [step async for step in stub.CreateTrainingSet(ask)]
        digests.add(steps[-1].snapshot.digest)
    assert len(digests) == 1
    request = service_pb2.ReadSnapshotRequest(digest=digests.pop())
    data = b"".join([chunk.data async for chunk in stub.ReadSnapshot(request)])
    table = pa.ipc.open_stream(data).read_all()
    rows = {(row["entity"], row["moment_us"]): row for row in table.to_pylist()}
    assert len(rows) == len(logged) * len(entities)
    for moment_us, reply in logged:
        for name, cells in cells_of(reply, len(entities)).items():
            for entity, expected in zip(entities, cells.values, strict=True):
                actual = rows[entity, moment_us][name]
                assert actual == expected or actual == pytest.approx(expected, rel=1e-9, abs=1e-12), name


async def ask_online(address: str, project: str, entities: list[str], at_us: int) -> service_pb2.GetOnlineReply:
    request = service_pb2.GetOnlineRequest(project=project, entities=entities, not_before_us=at_us)

    async def answer() -> service_pb2.GetOnlineReply | None:
        try:
            return await stub.GetOnline(request, timeout=30)
        except grpc.aio.AioRpcError as error:
            # The room has just started, or the definition has not arrived yet: ask again.
            assert error.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.NOT_FOUND)
            raise

    async with grpc.aio.insecure_channel(address) as channel:
        stub = service_pb2_grpc.FeatureStoreStub(channel)
        return await until(answer, 60, what=f"an answer as of {at_us}")


async def settled(channel: grpc.aio.Channel, project: str, at_us: int) -> bool:
    status = await common_pb2_grpc.RoomStub(channel).Describe(common_pb2.DescribeRequest())
    return status.lag_records == 0 and status.watermarks_us.get(project, 0) >= at_us and status.dead_letters == 0


async def test_it_stops_cleanly_while_nothing_is_defined(room):
    process, _ = room
    async with grpc.aio.insecure_channel(process.address) as channel:
        status = await common_pb2_grpc.RoomStub(channel).Describe(common_pb2.DescribeRequest())
        assert status.room == "feature_store"
    assert await asyncio.to_thread(process.stop) == 0
