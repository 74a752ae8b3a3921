"""By the command line: the real registry and the feature store's doors, over gRPC, one bus and a real Valkey.

A view is found, read, followed to the model that reads it, and dropped when nothing needs it any more.
"""

import asyncio
import json
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
from millrace.bus.memory import MemoryBus
from millrace.cli.main import app
from millrace.definitions import load_text
from millrace.runtime.channels import open_channel
from millrace.runtime.definitions import DefinitionBook
from millrace.runtime.room import RoomProcess
from millrace.wire.registry.v1 import service_pb2, service_pb2_grpc
from typer.testing import CliRunner

from services.feature_store.adapters.models_registry import RegistryModels
from services.feature_store.bootstrap import join
from services.feature_store.settings import Settings
from services.registry.bootstrap import assemble
from services.registry.domain.bundle import expected_inputs
from services.registry.settings import Settings as RegistrySettings
from tests.support.onnx_models import classifier
from tests.support.poll import until
from tests.unit.feature_store.conftest import redis_client, valkey_url
from tests.unit.feature_store.test_drops import of
from tests.unit.feature_store.test_pages import SAID, filled
from tests.unit.feature_store.world import make

__all__ = ["redis_client", "valkey_url"]
# The next definition: the view's second version in place of the first, and services that say so.
NEXT = SAID.replace("habits@1", "habits@2").replace("desk@1", "desk@3").replace("customers@1", "customers@2")


class Platform:
    """Two rooms of seven, and the command line."""

    def __init__(self, home: Path, world, registry) -> None:
        self.home = home
        self.world = world
        self.registry = registry

    async def apply(self, text: str, based_on: int) -> None:
        """A project file, until the feature store runs it."""
        await self.registry.Apply(service_pb2.ApplyRequest(yaml=text, based_on_version=based_on))
        feed = self.world.store.feeds.project
        await until(lambda: feed("shop").definition.digest.startswith("sha256:") and self.runs(based_on + 1), 20)

    def runs(self, version: int) -> bool:
        """Whether the room runs the registry's version; before that it has the world's own."""
        definition = self.world.store.feeds.project("shop").definition
        return definition.version == version and definition.digest != f"sha256:{version}"

    async def release(self, text: str) -> None:
        """A model with the inputs that the project declares, released by force."""

        async def chunks():
            yield service_pb2.ArtifactChunk(data=model)

        inputs = expected_inputs(load_text(text))
        numbers = {name: 0.1 for name, kind in inputs.items() if kind == "FP32"}
        texts = {name: {"ann": 1.0} for name, kind in inputs.items() if kind == "BYTES"}
        model = classifier(numbers, texts, bias=float(text.count("habits@2")))
        digest = (await self.registry.PutArtifact(chunks())).digest
        await self.registry.RegisterVersion(
            service_pb2.RegisterVersionRequest(project="shop", model_digest=digest, reason="a test", force=True)
        )

    async def __call__(self, *words: str):
        """`millrace features ...`; its result."""
        arguments = ["features", *words, "--home", str(self.home)]
        return await asyncio.to_thread(CliRunner().invoke, app, arguments)

    async def json(self, *words: str):
        """The same, which must succeed and print JSON."""
        result = await self(*words, "--json")
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)


@asynccontextmanager
async def platform(client, home: Path):
    """Both rooms, serving."""
    bus = MemoryBus()
    registry = assemble(RegistrySettings(home=home), bus)
    running = [asyncio.create_task(registry.run())]
    rooms = [registry]
    try:
        await until(lambda: running[0].done() or registry.status.started, 30)
        async with open_channel(registry.status.grpc_address) as channel:
            world = await make(client, bus=bus, registry=RegistryModels(channel))
            room = RoomProcess("feature_store", Settings(home=home))
            join(room, world.store, DefinitionBook(bus))
            rooms.append(room)
            running.append(asyncio.create_task(room.run()))
            await until(lambda: running[1].done() or room.status.started, 30)
            yield Platform(home, world, service_pb2_grpc.RegistryStub(channel))
    finally:
        for room in rooms:
            room.request_stop()
        await asyncio.gather(*running)


async def test_a_view_from_the_first_look_to_the_drop(redis_client, tmp_path):
    async with platform(redis_client, tmp_path) as millrace:
        await millrace.apply(SAID, 0)
        await filled(millrace.world)
        found = await millrace.json("list", "shop", "--search", "postage")
        assert [fact["feature"] for fact in found] == ["order.amount"] and found[0]["owner"] == "ann"
        read = await millrace.json("read", "shop", "o7", "--service", "desk@1")
        assert [(row["feature"], row["value"]) for row in read] == [("order.amount", 7), ("theirs.delay_sum_1h", 45)]
        read = await millrace.json("read", "shop", "ann", "--by", "customer", "--feature", "habits.payments_1h")
        assert [(row["entity"], row["value"]) for row in read] == [("ann", 10)]
        refused = await millrace("read", "shop", "ann", "--feature", "tills.delay")
        assert refused.exit_code == 1 and "ask by=channel" in str(refused.output)
        stats = await millrace.json("stats", "shop", "order.amount")
        assert stats["views"][0]["columns"][0]["present"] == 30

        await millrace.release(SAID)
        shown = await millrace.json("show", "shop", "habits.delay_sum_1h")
        assert [(v["version"], v["state"]) for v in shown["model_versions"]] == [(1, "champion")]
        await millrace.apply(NEXT, 1)
        assert await of(redis_client, "habits@1")
        refused = await millrace("drop", "shop", "habits@1")
        assert "habits@1 is needed by late-payment version 1 (champion)" in refused.output
        refused = await millrace("drop", "shop", "habits@2")
        assert "habits@2 is declared by shop (used by model late-payment, service desk@3" in refused.output

        await millrace.release(NEXT)
        shown = await millrace.json("show", "shop", "habits.delay_sum_1h")
        assert [(v["version"], v["state"]) for v in shown["model_versions"]] == [(2, "champion")]
        refused = await millrace("drop", "shop", "habits@1")
        assert "habits@1 is needed by late-payment version 1 (retired)" in refused.output
        dropped = await millrace.json("drop", "shop", "habits@1", "--force")
        assert dropped["deleted_keys"] > 0 and await of(redis_client, "habits@1") == 0
        assert (await millrace.json("drop", "shop", "habits@1", "--force"))["deleted_keys"] == 0
        refused = await millrace("drop", "shop", "habbits@1")
        assert "did you mean habits@1?" in refused.output


async def test_without_the_registry_nothing_is_dropped_unless_by_force(redis_client, tmp_path):
    async with platform(redis_client, tmp_path) as millrace:
        await millrace.apply(SAID, 0)
        await filled(millrace.world)
        await millrace.apply(NEXT, 1)
        async with grpc.aio.insecure_channel("127.0.0.1:1") as nowhere:
            millrace.world.store.drops._models = RegistryModels(nowhere)
            refused = await millrace("drop", "shop", "habits@1")
            assert "who needs habits@1 is not known" in refused.output and await of(redis_client, "habits@1")
            await millrace.json("drop", "shop", "habits@1", "--force")
        assert await of(redis_client, "habits@1") == 0
