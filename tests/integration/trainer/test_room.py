"""The room as a process on real Kafka, with its neighbours' doors played by the test: labels come, a run is asked for,
the process is killed in the middle of it, and the run still ends once, under its id, with everything on the topics."""

import asyncio
import hashlib
import json
import os
import signal
import sys
import uuid
from contextlib import asynccontextmanager

import grpc
import pytest
from millrace.bus.events import Event, Message, derive_id, event_type
from millrace.bus.kafka import KafkaBus
from millrace.definitions.canonical import to_canonical_json
from millrace.definitions.load import load_text
from millrace.wire.common.v1.common_pb2 import DescribeRequest, ExampleKey, RoomStatus
from millrace.wire.common.v1.common_pb2_grpc import RoomServicer, RoomStub, add_RoomServicer_to_server
from millrace.wire.feature_store.v1 import service_pb2 as features_pb2
from millrace.wire.feature_store.v1 import service_pb2_grpc as features_grpc
from millrace.wire.labeling.v1.events_pb2 import Label, LabelHeartbeat
from millrace.wire.labeling.v1.service_pb2 import ArrowChunk
from millrace.wire.registry.v1 import service_pb2 as registry_pb2
from millrace.wire.registry.v1 import service_pb2_grpc as registry_grpc
from millrace.wire.registry.v1.events_pb2 import DefinitionPublished
from millrace.wire.trainer.v1 import service_pb2, service_pb2_grpc
from millrace.wire.trainer.v1.events_pb2 import RunEvent, TrainingRequest

from tests.support.poll import until
from tests.unit.trainer.world import HOUR_US, START_US, YAML, write_rows

pytestmark = [pytest.mark.stack, pytest.mark.timeout(600)]
ROWS = 3_000


class Features(features_grpc.FeatureStoreServicer, RoomServicer):
    """A feature store with one training set."""

    def __init__(self, rows: bytes) -> None:
        self._rows = rows
        self.asked: list[features_pb2.TrainingSetRequest] = []

    async def Describe(self, request, context):
        return RoomStatus(room="feature_store")

    async def CreateTrainingSet(self, request, context):
        self.asked.append(request)
        digest = f"sha256:{hashlib.sha256(self._rows).hexdigest()}"
        yield features_pb2.TrainingSetProgress(rows_done=1, rows_total=ROWS)
        snapshot = features_pb2.Snapshot(digest=digest, rows=ROWS, definition_version=1)
        yield features_pb2.TrainingSetProgress(snapshot=snapshot)

    async def ReadSnapshot(self, request, context):
        for start in range(0, len(self._rows), 50_000):
            yield ArrowChunk(data=self._rows[start : start + 50_000])


class Registry(registry_grpc.RegistryServicer):
    """A registry without a champion."""

    def __init__(self) -> None:
        self.artifacts: dict[str, bytes] = {}

    async def GetPlan(self, request, context):
        await context.abort(grpc.StatusCode.NOT_FOUND, "no plan")

    async def PutArtifact(self, requests, context):
        data = b"".join([chunk.data async for chunk in requests])
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        self.artifacts[digest] = data
        return registry_pb2.Artifact(digest=digest, size_bytes=len(data))


@asynccontextmanager
async def neighbours(rows: bytes):
    features, registry = Features(rows), Registry()
    server = grpc.aio.server()
    features_grpc.add_FeatureStoreServicer_to_server(features, server)
    add_RoomServicer_to_server(features, server)
    registry_grpc.add_RegistryServicer_to_server(registry, server)
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    try:
        yield features, registry, address
    finally:
        await server.stop(None)


class Trainer:
    """The room in a process of its own."""

    def __init__(self, environment, home) -> None:
        self._environment = {**os.environ, **environment}
        self._file = home / "run" / "trainer.json"
        self._process = None

    async def start(self) -> str:
        self._file.unlink(missing_ok=True)
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "services.trainer", env=self._environment
        )
        await until(self._file.exists, 120, what="the trainer's run file")
        return json.loads(self._file.read_text())["grpc"]

    async def stop(self, how=signal.SIGTERM) -> int:
        if self._process.returncode is None:
            self._process.send_signal(how)
        return await asyncio.wait_for(self._process.wait(), 40)


class Topics:
    """What the test writes and reads on Kafka, for one project."""

    def __init__(self, bus: KafkaBus, project: str) -> None:
        self._bus, self._project = bus, project

    def _message(self, topic: str, event_id: str, kind: str, body, partition=None) -> Message:
        event = Event(event_id, kind, "test", body.SerializeToString())
        return Message(topic, event, key=self._project.encode(), partition=partition)

    async def define(self, yaml: str) -> None:
        body = DefinitionPublished(project=self._project, version=1, canonical_json=to_canonical_json(load_text(yaml)))
        await self._bus.publish([self._message("definitions", f"d-{self._project}", "t", body)])

    async def labels(self, count: int) -> None:
        messages, partitions = [], await self._bus.partitions("labels")
        for place in range(count):
            key = ExampleKey(project=self._project, entity=str(place), moment_us=START_US - HOUR_US)
            label = Label(key=key, outcome=Label.OBSERVED, value=1, visible_us=START_US, matured_us=START_US)
            messages.append(
                self._message(
                    "labels", f"l-{self._project}-{place:03}", "t", label, partitions[place % len(partitions)]
                )
            )
        beat = LabelHeartbeat(project=self._project, visible_us=START_US + HOUR_US)
        kind = event_type("labeling", "clock", "advanced")
        messages += [self._message("labels", f"b-{self._project}-{p}", kind, beat, p) for p in partitions]
        await self._bus.publish(messages)

    async def read(self, topic: str) -> list[Event]:
        reader = self._bus.reader([topic])
        await reader.start()
        try:
            found = []
            while await reader.behind():
                for batch in await reader.poll(1000, 500):
                    found += [r.event for r in batch.records if r.key == self._project.encode()]
            return found
        finally:
            await reader.stop()


async def test_a_run_asked_for_by_labels_survives_kill_9(stack, tmp_path):
    project = f"p{uuid.uuid4().hex[:8]}"
    yaml = YAML.replace("project: pumps", f"project: {project}").replace("epochs: 2", "epochs: 6")
    yaml = yaml.replace("debounce: 1h", "debounce: 10m")
    rows = tmp_path / "rows.arrow"
    write_rows(rows, ROWS, names=("last.kind", "last.pressure"))
    bus = KafkaBus(stack.kafka, "trainer-test")
    await bus.start()
    topics = Topics(bus, project)
    async with neighbours(rows.read_bytes()) as (features, registry, address):
        home = tmp_path / "home"
        doors = {"MILLRACE_FEATURE_STORE_ADDRESS": address, "MILLRACE_REGISTRY_ADDRESS": address}
        trainer = Trainer({**stack.env(home), **doors}, home)
        try:
            await trainer.start()
            await topics.define(yaml)
            await topics.labels(12)
            log = home / "trainer" / "runs"
            await until(lambda: list(log.glob("*/progress.jsonl")), 120, what="the job's first step")
            await trainer.stop(signal.SIGKILL)
            door = await trainer.start()

            async def ended() -> RunEvent | None:
                events = [RunEvent.FromString(e.data) for e in await topics.read("training.runs")]
                return next(
                    (e for e in events if e.state in (RunEvent.PASSED, RunEvent.REFUSED, RunEvent.FAILED)), None
                )

            end = await until(ended, 120, what="the run's end")
            assert end.state in (RunEvent.PASSED, RunEvent.REFUSED), end.reason
            await _check(topics, end, features, registry, door)
        finally:
            await trainer.stop()
            await bus.stop()


async def _check(topics: Topics, end: RunEvent, features: Features, registry: Registry, door: str) -> None:
    [asked] = await topics.read("training.requests")
    crossing = asked.causation_id
    assert crossing.startswith("l-") and asked.id == derive_id(crossing, "trainer.new_labels")
    assert TrainingRequest.FromString(asked.data).trigger == TrainingRequest.NEW_LABELS
    events = await topics.read("training.runs")
    runs = [RunEvent.FromString(event.data) for event in events]
    assert {event.causation_id for event in events} == {asked.id} and {run.run_id for run in runs} == {end.run_id}
    assert [run.state for run in runs] == [RunEvent.QUEUED, RunEvent.RUNNING, RunEvent.RUNNING, end.state]
    assert len(features.asked) <= 2 and features.asked[0].as_of_us == START_US + 600_000_000
    report = json.loads(registry.artifacts[end.candidate.gate_report_digest])
    assert report["run_id"] == end.run_id and report["snapshot_digest"] == end.candidate.snapshot_digest
    assert {end.candidate.model_digest, end.candidate.bundle_digest} < set(registry.artifacts)
    async with grpc.aio.insecure_channel(door) as channel:
        run = await service_pb2_grpc.TrainerStub(channel).GetRun(service_pb2.GetRunRequest(run_id=end.run_id))
        assert json.loads(run.gate_report_json) == report and run.curve and run.triggers == ["new_labels"]

        async def quiet() -> bool:
            status = await RoomStub(channel).Describe(DescribeRequest())
            return not (status.busy_jobs or status.unpublished_records or status.lag_records) and status.ready

        await until(quiet, 30, what="quiet")
