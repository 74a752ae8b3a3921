"""The room as a process on real Kafka: apply, release, rollback; killed and started again in between."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest
from millrace.bus.events import Event, Message, event_type, new_id
from millrace.bus.kafka import KafkaBus
from millrace.definitions import load_text
from millrace.wire.registry.v1 import service_pb2, service_pb2_grpc
from millrace.wire.registry.v1.events_pb2 import ModelCommand, ModelEvent, ServingPlan
from millrace.wire.trainer.v1.events_pb2 import Candidate, RunEvent

from services.registry.domain.bundle import expected_inputs
from tests.support.onnx_models import classifier
from tests.support.poll import until
from tests.unit.definitions.test_load import SMALL

pytestmark = pytest.mark.stack


class Running:
    """A registry in a process of its own, and a client of it."""

    def __init__(self, environment: dict[str, str], home: Path) -> None:
        self._environment = {**os.environ, **environment}
        self._file = home / "run" / "registry.json"
        self._process: asyncio.subprocess.Process | None = None
        self._channel: grpc.aio.Channel | None = None

    async def start(self) -> service_pb2_grpc.RegistryStub:
        self._file.unlink(missing_ok=True)
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "services.registry", env=self._environment
        )
        await until(self._file.exists, 60, what="the registry's run file")
        self._channel = grpc.aio.insecure_channel(json.loads(self._file.read_text())["grpc"])
        return service_pb2_grpc.RegistryStub(self._channel)

    async def stop(self, how: int = signal.SIGTERM) -> int:
        assert self._process is not None and self._channel is not None
        await self._channel.close()
        self._process.send_signal(how)
        return await asyncio.wait_for(self._process.wait(), 40)


@asynccontextmanager
async def registry(stack, home: Path) -> AsyncIterator[tuple[Running, service_pb2_grpc.RegistryStub, KafkaBus]]:
    bus = KafkaBus(stack.kafka, "registry-test")
    await bus.start()
    running = Running(stack.env(home), home)
    stub = await running.start()
    try:
        yield running, stub, bus
    finally:
        await running.stop()
        await bus.stop()


async def keep(stub, data: bytes) -> str:
    async def chunks() -> AsyncIterator[service_pb2.ArtifactChunk]:
        yield service_pb2.ArtifactChunk(data=data)

    return (await stub.PutArtifact(chunks())).digest


async def read(bus: KafkaBus, topic: str, key: str) -> list[bytes]:
    reader = bus.reader([topic])
    await reader.start()
    try:
        found = []
        while await reader.behind():
            for batch in await reader.poll(1000, 500):
                found += [r.data for r in batch.records if r.key == key.encode()]
        return found
    finally:
        await reader.stop()


async def test_the_life_of_a_model_survives_kill_9(stack, tmp_path):
    name = f"p{uuid.uuid4().hex[:8]}"
    yaml = SMALL.replace("project: small", f"project: {name}").replace("small-model", f"{name}-model")
    model = f"{name}-model"
    async with registry(stack, tmp_path) as (running, stub, bus):
        reply = await stub.Apply(service_pb2.ApplyRequest(yaml=yaml, actor="ann"))
        assert (reply.version, reply.changed) == (1, True)
        assert await bus.partitions(f"data.{name}.facts")
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.Apply(service_pb2.ApplyRequest(yaml=yaml.replace("task: binary", "task: binar")))
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        other_type = yaml.replace("value: {type: number}", "value: {type: integer}")
        with pytest.raises(grpc.aio.AioRpcError) as unreadable:
            await stub.Apply(service_pb2.ApplyRequest(yaml=other_type, based_on_version=1, plan_only=True))
        assert unreadable.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        said = unreadable.value.details() or ""
        assert "sources.facts.fields.value.type" in said and "a number in version 1 and an integer in version 2" in said
        with pytest.raises(grpc.aio.AioRpcError) as stale:
            await stub.Apply(service_pb2.ApplyRequest(yaml=yaml.replace("horizon: 1h", "horizon: 2h")))
        assert stale.value.code() is grpc.StatusCode.ABORTED

        candidate = Candidate(
            model_digest=await keep(stub, b"model"), bundle_digest=await keep(stub, b"bundle"), definition_version=1
        )
        run = RunEvent(project=name, run_id=f"run-{name}", state=RunEvent.PASSED, candidate=candidate)
        message = Message(
            "training.runs",
            Event(new_id(), event_type("trainer", "run", "passed"), "test", run.SerializeToString()),
            key=name.encode(),
        )
        await bus.publish([message])
        assert await running.stop(signal.SIGKILL) == -signal.SIGKILL
        stub = await running.start()
        await bus.publish([message])
        plan = service_pb2.GetPlanRequest(project=name, model=model)

        async def released() -> bool:
            try:
                return (await stub.GetPlan(plan)).epoch == 1
            except grpc.aio.AioRpcError as error:
                assert error.code() is grpc.StatusCode.NOT_FOUND
                return False

        await until(released, 30, what="the first release")

        inputs = expected_inputs(load_text(yaml))
        graph = classifier(
            {n: 0.0 for n, kind in inputs.items() if kind == "FP32"},
            {n: {"x": 1.0} for n, kind in inputs.items() if kind == "BYTES"},
        )
        pushed = service_pb2.RegisterVersionRequest(
            project=name, model_digest=await keep(stub, graph), reason="a drill", actor="eve", force=True
        )
        with pytest.raises(grpc.aio.AioRpcError, match="bundle sha256"):
            await stub.RegisterVersion(pushed)
        versions = await stub.ListVersions(service_pb2.ListVersionsRequest(project=name, model=model))
        assert [v.state for v in versions.versions] == ["champion"]
        command = ModelCommand(project=name, model=model, verb=ModelCommand.ROLLBACK, version=1, reason="by hand")
        reply = await stub.Command(command)
        assert not reply.accepted and "no version to go back to" in reply.reason

        async def told() -> list[str]:
            return [ModelEvent.FromString(d).kind for d in await read(bus, "models.events", model)]

        await until(lambda: _equal(told, ["registered", "gated", "released"]), 20, what="the moves, once each")
        plans = [ServingPlan.FromString(d).epoch for d in await read(bus, "models.releases", model)]
        assert plans == [1]


async def _equal(read_kinds, wanted: list[str]) -> bool:
    found = await read_kinds()
    assert found == wanted
    return True


async def test_a_pushed_model_serves_and_is_rolled_back(stack, tmp_path):
    name = f"q{uuid.uuid4().hex[:8]}"
    yaml = SMALL.replace("project: small", f"project: {name}").replace("small-model", f"{name}-model")
    inputs = expected_inputs(load_text(yaml))
    numbers = [n for n, kind in inputs.items() if kind == "FP32"]
    texts = {n: {"x": 1.0} for n, kind in inputs.items() if kind == "BYTES"}
    async with registry(stack, tmp_path) as (_, stub, bus):
        await stub.Apply(service_pb2.ApplyRequest(yaml=yaml, actor="ann"))
        for version, weight in ((1, 0.1), (2, 0.2)):
            digest = await keep(stub, classifier(dict.fromkeys(numbers, weight), texts))
            pushed = service_pb2.RegisterVersionRequest(
                project=name, model_digest=digest, reason="a drill", actor="eve", force=True
            )
            made = await stub.RegisterVersion(pushed)
            assert (made.version, made.state) == (version, "champion")
        command = ModelCommand(
            project=name, model=made.model, verb=ModelCommand.ROLLBACK, version=2, reason="worse", actor="ann"
        )
        reply = await stub.Command(command)
        assert reply.accepted and reply.epoch == 3
        assert not (await stub.Command(command)).accepted

        async def served() -> list[str]:
            return [ServingPlan.FromString(d).cause for d in await read(bus, "models.releases", made.model)]

        await until(lambda: _equal(served, ["forced", "forced", "rolled_back"]), 20, what="three plans")
        lineage = await stub.Lineage(service_pb2.GetVersionRequest(project=name, model=made.model, version=2))
        assert [e.kind for e in lineage.events] == ["registered", "forced", "rolled_back"]
        assert lineage.events[-1].other_version == 1
