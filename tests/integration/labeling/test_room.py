"""The whole room over real Kafka and ClickHouse: data in, labels and spine out."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import grpc
import pyarrow as pa
import pytest
from millrace.bus.events import Event, Message, Record, new_id
from millrace.bus.follower import Follower
from millrace.bus.kafka import KafkaBus
from millrace.bus.ports import TopicSpec
from millrace.definitions.canonical import digest, to_canonical_json
from millrace.definitions.model import Project
from millrace.runtime.doors import grpc_errors
from millrace.stores.clickhouse import ClickHouse
from millrace.stores.sql import Database
from millrace.wire.labeling.v1 import events_pb2, service_pb2, service_pb2_grpc
from millrace.wire.registry.v1.events_pb2 import DefinitionPublished

from services.labeling.adapters.history_clickhouse import ClickHouseHistory
from services.labeling.bootstrap import MIGRATIONS, Labeling, Neighbours
from services.labeling.entrypoints import rpc
from services.labeling.handlers.messages import CLOCK_TYPE
from services.labeling.settings import Settings
from tests.contract.bus.support import running
from tests.support.poll import until
from tests.unit.labeling.world import HORIZON_US, MINUTE_US, clock, delivery, order, project

pytestmark = pytest.mark.stack
T0 = 1_000 * MINUTE_US
DUE = T0 + HORIZON_US


@pytest.fixture
def shop() -> Project:
    return replace(project(), name=f"shop{uuid.uuid4().hex[:8]}")


@asynccontextmanager
async def labeling_room(stack, home: Path) -> AsyncIterator[tuple[Labeling, service_pb2_grpc.LabelingStub]]:
    settings = Settings(home=home, spine_deadline_s=20)
    clickhouse = ClickHouse(stack.clickhouse, database="labeling")
    await clickhouse.start(MIGRATIONS / "clickhouse")
    bus = KafkaBus(stack.kafka, "labeling-test")
    database = Database(settings.database_url("labeling"), room="labeling")
    room = Labeling(settings, Neighbours(bus, database, ClickHouseHistory(clickhouse)))
    await room.start()
    server = grpc.aio.server(interceptors=[grpc_errors()])
    rpc.register(room.service, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with (
            running(room.definitions.run),
            running(room.data_worker.run),
            running(room.history_worker.run),
            running(room.relay.run),
            grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel,
        ):
            yield room, service_pb2_grpc.LabelingStub(channel)
    finally:
        await server.stop(None)
        await room.stop()
        await clickhouse.close()


def published(shop: Project) -> Message:
    body = DefinitionPublished(
        project=shop.name, version=1, digest=digest(shop), canonical_json=to_canonical_json(shop)
    ).SerializeToString()
    event = Event(new_id(), "millrace.registry.definition.published.v1", "tests", body)
    return Message("definitions", event, key=shop.name.encode())


def at(shop: Project, *messages: Message) -> list[Message]:
    return [replace(m, topic=m.topic.replace("data.shop.", f"data.{shop.name}.")) for m in messages]


async def spine(stub: service_pb2_grpc.LabelingStub, shop: Project, **bounds) -> list[dict]:
    request = service_pb2.SpineRequest(project=shop.name, **bounds)
    chunks = [chunk.data async for chunk in stub.Spine(request)]
    return pa.ipc.open_stream(b"".join(chunks)).read_all().to_pylist()


async def test_data_becomes_labels_and_a_spine_that_remembers_what_was_known(
    stack, shop: Project, tmp_path: Path
) -> None:
    async with labeling_room(stack, tmp_path) as (room, stub):
        await room.bus.ensure_topics([TopicSpec(f"data.{shop.name}.{s.name}", 2) for s in shop.sources])
        await room.bus.publish([published(shop)])
        await until(lambda: shop.name in room.projects.names, 20)
        await room.bus.publish(
            at(shop, order("a", T0, T0 - 50), order("b", T0, T0 - 40), delivery("a", 30, T0 + 5), *clock(DUE + 10))
        )
        await until(lambda: room.data.watermarks_us.get(shop.name, -1) >= DUE + 10, 20)
        await room.bus.publish(at(shop, delivery("b", 1, DUE + 20), *clock(DUE + 30)))
        await until(lambda: room.data.watermarks_us[shop.name] >= DUE + 30, 20)

        now = await spine(stub, shop)
        assert [(row["entity"], row["label"], row["outcome"], row["visible_us"]) for row in now] == [
            ("a", 1.0, "observed", DUE),
            ("b", 0.0, "observed", DUE + 20),
        ]
        then = await spine(stub, shop, as_of_us=DUE + 19, include_censored=True)
        assert [(row["entity"], row["label"], row["outcome"]) for row in then] == [
            ("a", 1.0, "observed"),
            ("b", None, "censored"),
        ]
        assert [row["entity"] for row in await spine(stub, shop, as_of_us=DUE + 19)] == ["a"]
        assert await spine(stub, shop, as_of_us=DUE - 1) == []
        assert await spine(stub, shop, to_us=T0) == []
        stats = await stub.Stats(service_pb2.StatsRequest(project=shop.name))
        assert (stats.matured, stats.corrected, stats.pending) == (2, 1, 0)
        await until(lambda: room.data_worker.lag_records == room.history_worker.lag_records == 0, 20)


async def test_after_a_restart_nothing_is_lost_and_a_repeat_keeps_its_id(stack, shop: Project, tmp_path: Path) -> None:
    async with labeling_room(stack, tmp_path) as (room, _):
        await room.bus.ensure_topics([TopicSpec(f"data.{shop.name}.{s.name}", 2) for s in shop.sources])
        await room.bus.publish([published(shop)])
        await until(lambda: shop.name in room.projects.names, 20)
        await room.bus.publish(at(shop, *[order(f"o{i}", T0 + i, T0 - 50 + i) for i in range(30)], *clock(DUE + 14)))
        await until(lambda: room.data.watermarks_us.get(shop.name, -1) >= DUE + 14, 20)
    async with labeling_room(stack, tmp_path) as (room, stub):
        await until(lambda: shop.name in room.projects.names, 20)
        await room.bus.publish(at(shop, *clock(DUE + 100)))
        await until(lambda: room.data.watermarks_us[shop.name] >= DUE + 100, 20)
        await until(lambda: room.relay.unpublished_records == 0, 20)
        rows = await spine(stub, shop, include_censored=True)
        assert [row["entity"] for row in rows] == [f"o{i}" for i in range(30)]
    ids: dict[tuple[str, int], set[str]] = {}

    async def remember(record: Record) -> None:
        label = events_pb2.Label.FromString(record.data) if record.event.type != CLOCK_TYPE else None
        if label is not None and label.key.project == shop.name:
            ids.setdefault((label.key.entity, label.revision), set()).add(record.event.id)

    follower = Follower(KafkaBus(stack.kafka, "labeling-test"), ["labels"], remember)
    async with running(follower.run):
        await follower.wait_ready(20)
    assert len(ids) == 30
    assert all(len(known) == 1 for known in ids.values())


async def test_an_unknown_project_is_not_found(stack, tmp_path: Path) -> None:
    async with labeling_room(stack, tmp_path) as (_, stub):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await asyncio.wait_for(stub.Stats(service_pb2.StatsRequest(project="nobody")), 10)
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND
