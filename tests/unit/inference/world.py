"""The real room in this process, between a bus in memory and gRPC servers that stand for its neighbours."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import grpc
from millrace.bus.events import Event, Message, new_id
from millrace.bus.memory import MemoryBroker, MemoryBus
from millrace.bus.ports import TopicSpec
from millrace.runtime.room import RoomProcess
from millrace.stores.objects import digest_of
from millrace.wire.common.v1 import common_pb2, common_pb2_grpc
from millrace.wire.feature_store.v1 import service_pb2 as features_pb2
from millrace.wire.feature_store.v1 import service_pb2_grpc as features_grpc
from millrace.wire.inference.v1 import events_pb2 as inference_events
from millrace.wire.inference.v1 import service_pb2, service_pb2_grpc
from millrace.wire.registry.v1 import events_pb2
from millrace.wire.registry.v1 import service_pb2 as registry_pb2
from millrace.wire.registry.v1 import service_pb2_grpc as registry_grpc
from prometheus_client import CollectorRegistry

from services.inference.adapters.artifacts_registry import RegistryArtifacts
from services.inference.adapters.features_grpc import GrpcFeatures
from services.inference.bootstrap import Inference, Neighbours, open_doors, show
from services.inference.settings import Settings
from tests.support import onnx_models
from tests.support.columns import Cell, columns
from tests.support.poll import until

PROJECT, MODEL = "shop", "returns"
ROLES = {"champion": 1, "canary": 2, "shadow": 3, "ab": 4}


class FakeFeatureStore(features_grpc.FeatureStoreServicer):
    """Answers from `values` (by feature, then entity); what is not there is MISSING."""

    def __init__(self) -> None:
        self.values: dict[str, dict[str, Any]] = {}
        self.requests: list[features_pb2.GetOnlineRequest] = []
        self.timeouts_s: list[float | None] = []
        self.hold: asyncio.Event | None = None
        self.refuse: grpc.StatusCode | None = None

    async def GetOnline(self, request, context):
        self.requests.append(request)
        self.timeouts_s.append(context.time_remaining())
        if self.hold:
            await self.hold.wait()
        if self.refuse:
            await context.abort(self.refuse, "as the test wants it")
        cells = columns([[self._cell(entity, name) for entity in request.entities] for name in request.features])
        as_of_us = {"a@1": 500, "b@1": 400}
        return features_pb2.GetOnlineReply(features=request.features, columns=cells, as_of_us=as_of_us)

    def _cell(self, entity: str, name: str) -> Cell:
        known = self.values.get(name, {})
        value = known.get(entity, known.get("*"))
        return (None, features_pb2.MISSING, -1) if value is None else (value, features_pb2.PRESENT, 7)


class FakeRegistry(registry_grpc.RegistryServicer):
    """Serves `artifacts`; `down` makes it unreachable."""

    def __init__(self) -> None:
        self.artifacts: dict[str, bytes] = {}
        self.down = False
        self.fetched: list[str] = []

    def put(self, data: bytes) -> str:
        digest = digest_of(data)
        self.artifacts[digest] = data
        return digest

    async def GetArtifact(self, request, context):
        if self.down:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "as the test wants it")
        if request.digest not in self.artifacts:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such artifact")
        self.fetched.append(request.digest)
        data = self.artifacts[request.digest]
        for start in range(0, len(data), 1000):
            yield registry_pb2.ArtifactChunk(data=data[start : start + 1000])


def to_value(value: Any) -> common_pb2.Value:
    if isinstance(value, str):
        return common_pb2.Value(text=value)
    if isinstance(value, int):
        return common_pb2.Value(integer=value)
    return common_pb2.Value(number=value)


class World:
    """One running room and its neighbours. `restart` ends the room and starts it again on the same folder."""

    def __init__(self, home: Path, broker: MemoryBroker | None = None, **knobs: Any) -> None:
        self.home = home
        self.knobs = {"status_every_s": 0.2, "load_backoff_max_s": 0.2, **knobs}
        self.broker = broker or MemoryBroker()
        for name, compact in (
            ("definitions", True),
            ("clocks", True),
            ("models.releases", True),
            ("serving.status", False),
        ):
            self.broker.create(TopicSpec(name, 1, compact=compact))
        self.broker.create(TopicSpec("predictions", 2))
        self.outside = MemoryBus(self.broker)
        self.features = FakeFeatureStore()
        self.registry = FakeRegistry()
        self.epoch = 0

    async def open(self) -> None:
        self._server = grpc.aio.server()
        features_grpc.add_FeatureStoreServicer_to_server(self.features, self._server)
        registry_grpc.add_RegistryServicer_to_server(self.registry, self._server)
        port = self._server.add_insecure_port("127.0.0.1:0")
        await self._server.start()
        self.neighbour_address = f"127.0.0.1:{port}"
        await self.start()

    async def start(self) -> None:
        settings = Settings(home=self.home, log_level="ERROR", drain_s=2.0, **self.knobs)
        self._outgoing = grpc.aio.insecure_channel(self.neighbour_address)
        artifacts = RegistryArtifacts(
            self._outgoing, settings.folder("inference") / "artifacts", max_bytes=10_000_000, deadline_s=5.0
        )
        features = GrpcFeatures(self._outgoing)
        neighbours = Neighbours(MemoryBus(self.broker), features, artifacts, CollectorRegistry())
        self.parts = Inference(settings, neighbours)
        self.room = RoomProcess("inference", settings)
        self.room.on_start(self.parts.start)
        self.room.on_stop(self.parts.stop)
        for name, run in (
            ("definitions", self.parts.definitions.run),
            ("clocks", self.parts.clocks.run),
            ("releases", self.parts.follower.run),
            ("relay", self.parts.relay.run),
            ("shadows", self.parts.shadows.run),
            ("status", lambda: self.parts.reporter.run(self.parts.releases)),
        ):
            self.room.add_task(name, run)
        open_doors(self.room, self.parts)
        show(self.room, self.parts)
        self._running = asyncio.create_task(self.room.run())
        await until(lambda: self._running.done() or self.room.status.started, what="the room has started")
        if self._running.done():
            self._running.result()
        self.channel = grpc.aio.insecure_channel(self.room.status.grpc_address)
        self.inference = service_pb2_grpc.InferenceStub(self.channel)
        self.describe = common_pb2_grpc.RoomStub(self.channel)

    async def stop(self) -> None:
        await self.channel.close()
        self.room.request_stop()
        await self._running
        await self._outgoing.close()

    async def close(self) -> None:
        await self.stop()
        await self._server.stop(None)

    # What others do.

    def variant(
        self, version: int, model: bytes, *, role: str = "champion", weight: float = 0.0, fallback: bool = False,
        bundle: bytes | None = None,
    ) -> events_pb2.Variant:  # fmt: skip
        """A variant whose artifacts the registry has."""
        packed = onnx_models.bundle(model) if bundle is None else bundle
        return events_pb2.Variant(
            version=version,
            model_digest=self.registry.put(model),
            bundle_digest=self.registry.put(packed) if packed else "",
            role=ROLES[role],
            weight=weight,
            fallback=fallback,
        )

    async def release(self, *variants: events_pb2.Variant, model: str = MODEL, project: str = PROJECT) -> str:
        """Publishes a plan with the next epoch; the id of its event."""
        self.epoch += 1
        plan = events_pb2.ServingPlan(
            project=project, model=model, epoch=self.epoch, salt="salt", variants=variants, cause="released"
        )
        return await self.publish("models.releases", model, plan)

    async def released(self, *variants: events_pb2.Variant) -> str:
        """Publishes a plan and waits until it is served."""
        event_id = await self.release(*variants)
        await until(lambda: self.served_epoch() == self.epoch, what="the plan is served")
        return event_id

    def served_epoch(self, model: str = MODEL) -> int:
        live = self.parts.serving.models.get(model)
        return live.plan.epoch if live else 0

    async def publish(self, topic: str, key: str, payload: Any) -> str:
        event_id = new_id()
        event = Event(event_id, "millrace.test.thing.happened.v1", "test", payload.SerializeToString())
        await self.outside.publish([Message(topic, event, key=key.encode())])
        return event_id

    async def ask(self, *entities: str, moment_us: int = 1, request_id: str = "", timeout_s: float | None = 5.0):
        items = [service_pb2.PredictItem(entity=e, moment_us=moment_us) for e in entities]
        request = service_pb2.PredictRequest(project=PROJECT, items=items, request_id=request_id)
        return await self.inference.Predict(request, timeout=timeout_s)

    # What came out.

    def records(self, topic: str) -> list:
        return [record for log in self.broker.logs[topic] for record in log.records]

    def predictions(self) -> list[inference_events.Prediction]:
        return [inference_events.Prediction.FromString(r.data) for r in self.records("predictions")]

    def statuses(self) -> list[inference_events.ServingStatus]:
        return [inference_events.ServingStatus.FromString(r.data) for r in self.records("serving.status")]

    async def logged(self, count: int) -> list[inference_events.Prediction]:
        """The predictions, once there are `count` of them."""
        await until(lambda: len(self.predictions()) >= count, what=f"{count} predictions are published")
        return self.predictions()


@contextlib.asynccontextmanager
async def world(home: Path, **knobs: Any) -> AsyncIterator[World]:
    """A world that is closed at the end."""
    made = World(home, **knobs)
    await made.open()
    try:
        yield made
    finally:
        await made.close()


def linear(
    bias: float, weights: Mapping[str, float] | None = None, texts: Mapping[str, Mapping[str, float]] | None = None
):
    """A model over `v.x` unless said otherwise."""
    return onnx_models.classifier(weights or {"v.x": 1.0}, texts, bias=bias)
