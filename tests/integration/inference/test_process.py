"""The room as its own process on a real Kafka: released without a restart, killed without a loss."""

import asyncio
import contextlib
import json
import os
import signal
import sys
import uuid

import grpc
import pytest
from millrace.bus.events import Event, Message, new_id
from millrace.bus.kafka import KafkaBus
from millrace.bus.topics import load_topics
from millrace.wire.common.v1 import common_pb2, common_pb2_grpc
from millrace.wire.feature_store.v1 import service_pb2_grpc as features_grpc
from millrace.wire.inference.v1 import events_pb2 as inference_events
from millrace.wire.inference.v1 import service_pb2, service_pb2_grpc
from millrace.wire.registry.v1 import events_pb2
from millrace.wire.registry.v1 import service_pb2_grpc as registry_grpc

from tests.support import onnx_models
from tests.support.poll import until
from tests.unit.inference.world import FakeFeatureStore, FakeRegistry, linear

pytestmark = pytest.mark.stack
START_S = 60.0


class Shop:
    """A project of this test's own, its neighbours, and the room's process."""

    def __init__(self, stack, home):
        self.project = self.model = f"shop-{uuid.uuid4().hex[:8]}"
        self.home, self.env = home, stack.env(home)
        self.features, self.registry = FakeFeatureStore(), FakeRegistry()
        self.features.values = {"v.x": {"*": 0.0}}
        self.bus = KafkaBus(stack.kafka, client_id="test")
        self.process = None

    async def open(self):
        self.server = grpc.aio.server()
        features_grpc.add_FeatureStoreServicer_to_server(self.features, self.server)
        registry_grpc.add_RegistryServicer_to_server(self.registry, self.server)
        address = f"127.0.0.1:{self.server.add_insecure_port('127.0.0.1:0')}"
        await self.server.start()
        self.env |= {"MILLRACE_FEATURE_STORE_ADDRESS": address, "MILLRACE_REGISTRY_ADDRESS": address}
        await self.bus.start()
        await self.bus.ensure_topics(load_topics().static())
        self.reader = self.bus.reader(["predictions"])
        await self.reader.start()
        self.seen = {}

    async def close(self):
        if self.process and self.process.returncode is None:
            self.process.terminate()
            await self.process.wait()
        await self.reader.stop()
        await self.bus.stop()
        await self.server.stop(None)

    async def start(self):
        run_file = self.home / "run" / "inference.json"
        run_file.unlink(missing_ok=True)
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "services.inference", env={**os.environ, **self.env}
        )
        await until(run_file.exists, START_S, what="the room serves")
        self.channel = grpc.aio.insecure_channel(json.loads(run_file.read_text())["grpc"])
        self.stub = service_pb2_grpc.InferenceStub(self.channel)

    async def kill(self):
        self.process.send_signal(signal.SIGKILL)
        await self.process.wait()
        await self.channel.close()

    async def release(self, epoch, version, model):
        variant = events_pb2.Variant(
            version=version,
            model_digest=self.registry.put(model),
            bundle_digest=self.registry.put(onnx_models.bundle(model)),
            role=events_pb2.Variant.CHAMPION,
        )
        plan = events_pb2.ServingPlan(
            project=self.project, model=self.model, epoch=epoch, salt="s", variants=[variant], cause="released"
        )
        event = Event(new_id(), "millrace.registry.plan.published.v1", "test", plan.SerializeToString())
        await self.bus.publish([Message("models.releases", event, key=self.model.encode())])

    async def ask(self, request_id):
        item = service_pb2.PredictItem(entity=request_id, moment_us=1)
        request = service_pb2.PredictRequest(project=self.project, items=[item], request_id=request_id)
        return (await self.stub.Predict(request, timeout=5.0)).answers[0]

    async def version(self):
        with contextlib.suppress(grpc.aio.AioRpcError):
            return (await self.ask("probe")).version
        return 0

    async def logged(self):
        """Prediction id -> how often it is on the topic."""
        for batch in await self.reader.poll(1000, 50):
            for record in batch.records:
                found = inference_events.Prediction.FromString(record.data)
                if found.key.project == self.project:
                    self.seen[found.prediction_id] = self.seen.get(found.prediction_id, 0) + 1
        return self.seen


@pytest.fixture
async def shop(stack, tmp_path):
    made = Shop(stack, tmp_path)
    await made.open()
    try:
        yield made
    finally:
        await made.close()


async def test_released_while_running_and_killed_without_losing_an_answer(shop):
    await shop.start()
    await shop.release(1, 1, linear(0.0))
    await until(lambda: shop.version(), START_S, what="the release is served")
    answered = [(await shop.ask(f"first-{n}")).prediction_id for n in range(40)]
    await shop.kill()  # some of these records may not be on the topic yet

    shop.registry.down = True
    await shop.start()
    answered += [(await shop.ask(f"second-{n}")).prediction_id for n in range(40)]
    assert (await shop.ask("once more")).version == 1
    shop.registry.down = False
    await shop.release(2, 2, linear(1.0))

    async def is_second():
        return await shop.version() == 2

    await until(is_second, START_S, what="the second release is served")

    async def all_logged():
        return set(answered) <= set(await shop.logged())

    await until(all_logged, START_S, what="every answer is on the topic")
    rooms = common_pb2_grpc.RoomStub(shop.channel)

    async def is_quiet():
        status = await rooms.Describe(common_pb2.DescribeRequest())
        return status.ready and not (status.unpublished_records or status.busy_jobs or status.lag_records)

    await until(is_quiet, START_S, what="the room is quiet")
    shop.process.terminate()
    assert await shop.process.wait() == 0
