"""The whole room over real Kafka and ClickHouse: data and people's answers in, labels and spine out."""

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
from millrace.runtime.auth import Authenticator, Identity
from millrace.runtime.doors import grpc_errors
from millrace.stores.clickhouse import ClickHouse
from millrace.stores.sql import Database
from millrace.wire.common.v1.common_pb2 import ExampleKey, Row, Value
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
PEOPLE = {
    name: Identity(name, frozenset({role}))
    for name, role in (("sam", "scientist"), ("ana", "annotator"), ("bo", "annotator"), ("eve", "admin"))
}


@pytest.fixture
def shop() -> Project:
    return replace(project(), name=f"shop{uuid.uuid4().hex[:8]}")


@asynccontextmanager
async def labeling_room(
    stack, home: Path, people: dict[str, Identity] | None = None
) -> AsyncIterator[tuple[Labeling, service_pb2_grpc.LabelingStub]]:
    """The room and its door; with `people` (token to identity) the door asks for tokens."""
    settings = Settings(home=home, spine_deadline_s=20)
    clickhouse = ClickHouse(stack.clickhouse, database="labeling")
    await clickhouse.start(MIGRATIONS / "clickhouse")
    bus = KafkaBus(stack.kafka, "labeling-test")
    database = Database(settings.database_url("labeling"), room="labeling")
    room = Labeling(settings, Neighbours(bus, database, ClickHouseHistory(clickhouse)))
    await room.start()
    server = grpc.aio.server(interceptors=[grpc_errors(Authenticator(people or {}))])
    rpc.register(room.service, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with (
            running(room.definitions.run),
            running(room.clocks.run),
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


async def published_labels(stack, shop: Project) -> list[tuple[events_pb2.Label, Event]]:
    """What the topic `labels` holds of the project."""
    found = []

    async def remember(record: Record) -> None:
        label = events_pb2.Label.FromString(record.data) if record.event.type != CLOCK_TYPE else None
        if label is not None and label.key.project == shop.name:
            found.append((label, record.event))

    bus = KafkaBus(stack.kafka, "labeling-test")
    follower = Follower(bus, ["labels"], remember)
    async with running(follower.run):
        await follower.wait_ready(20)
    await bus.stop()
    return found


async def opened(room: Labeling, shop: Project, *messages: Message) -> None:
    """The project is known and its watermark stands at T0, behind what `messages` said."""
    await room.bus.ensure_topics([TopicSpec(f"data.{shop.name}.{s.name}", 2) for s in shop.sources])
    await room.bus.publish([published(shop)])
    await until(lambda: shop.name in room.projects.names, 20)
    await room.bus.publish(at(shop, *messages, *clock(T0)))
    await until(lambda: room.data.watermarks_us.get(shop.name, -1) >= T0, 20)


def by(name: str) -> tuple[tuple[str, str], ...]:
    """The metadata of a call by somebody who has a token."""
    return (("authorization", f"Bearer {name}"),)


def drafts(shop: Project, *entities: str) -> service_pb2.CreateTasksRequest:
    """One task per entity, the first the most urgent."""
    tasks = [
        service_pb2.TaskDraft(
            key=ExampleKey(project=shop.name, entity=entity, moment_us=T0),
            payload=Row(columns={"note": Value(text=f"what of {entity}?")}),
            priority=-place,
        )
        for place, entity in enumerate(entities)
    ]
    return service_pb2.CreateTasksRequest(project=shop.name, tasks=tasks)


async def refusal(call) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await asyncio.wait_for(call, 10)
    return refused.value


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
    for label, event in await published_labels(stack, shop):
        ids.setdefault((label.key.entity, label.revision), set()).add(event.id)
    assert len(ids) == 30
    assert all(len(known) == 1 for known in ids.values())


async def test_an_unknown_project_is_not_found(stack, tmp_path: Path) -> None:
    async with labeling_room(stack, tmp_path) as (_, stub):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await asyncio.wait_for(stub.Stats(service_pb2.StatsRequest(project="nobody")), 10)
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND


async def test_a_persons_answer_through_the_door_becomes_a_label_on_the_topic_and_in_the_spine(
    stack, shop: Project, tmp_path: Path
) -> None:
    async with labeling_room(stack, tmp_path, PEOPLE) as (room, stub):
        await opened(room, shop, order("a", T0, T0 - 50), order("b", T0, T0 - 40))
        made = await stub.CreateTasks(drafts(shop, "a", "b"), metadata=by("sam"))
        assert (len(made.task_ids), made.existing) == (2, 0)
        again = await stub.CreateTasks(drafts(shop, "a"), metadata=by("sam"))
        assert (list(again.task_ids), again.existing) == ([], 1)

        task = await stub.NextTask(service_pb2.NextTaskRequest(project=shop.name), metadata=by("ana"))
        assert (task.task_id, task.key.entity, task.state) == (made.task_ids[0], "a", "leased")
        assert task.payload.columns["note"].text == "what of a?"
        answer = service_pb2.SubmitAnnotationRequest(task_id=task.task_id, lease_id=task.lease_id, value=1.0)
        assert (await stub.SubmitAnnotation(answer, metadata=by("ana"))).state == "submitted"
        assert (await stub.SubmitAnnotation(answer, metadata=by("ana"))).state == "submitted"  # a repeat is harmless
        await room.bus.publish(at(shop, *clock(DUE + 10)))
        await until(lambda: room.data.watermarks_us[shop.name] >= DUE + 10, 20)

        request = service_pb2.SpineRequest(project=shop.name, include_censored=True)
        chunks = [chunk.data async for chunk in stub.Spine(request, metadata=by("sam"))]
        rows = pa.ipc.open_stream(b"".join(chunks)).read_all().to_pylist()
        assert [(row["entity"], row["label"], row["outcome"], row["origin"]) for row in rows] == [
            ("a", 1.0, "observed", "person"),
            ("b", None, "censored", "late_truth"),
        ]
        stats = await stub.Stats(service_pb2.StatsRequest(project=shop.name), metadata=by("sam"))
        assert stats.open_tasks == 1
        await until(lambda: room.relay.unpublished_records == 0, 20)
    labels = {label.key.entity: (label, event) for label, event in await published_labels(stack, shop)}
    told, event = labels["a"]
    assert (told.value, told.origin, told.outcome) == (1.0, events_pb2.Label.PERSON, events_pb2.Label.OBSERVED)
    assert (told.visible_us, told.matured_us, event.time_us) == (DUE, DUE, DUE)
    assert labels["b"][0].origin == events_pb2.Label.LATE_TRUTH


async def test_a_skipped_task_goes_to_somebody_else(stack, shop: Project, tmp_path: Path) -> None:
    async with labeling_room(stack, tmp_path, PEOPLE) as (room, stub):
        await opened(room, shop)
        await stub.CreateTasks(drafts(shop, "a"), metadata=by("sam"))
        ask = service_pb2.NextTaskRequest(project=shop.name)
        task = await stub.NextTask(ask, metadata=by("ana"))
        skip = service_pb2.SkipTaskRequest(task_id=task.task_id, lease_id=task.lease_id, reason="cannot tell")
        assert (await stub.SkipTask(skip, metadata=by("ana"))).state == "open"
        nothing = await refusal(stub.NextTask(ask, metadata=by("ana")))
        assert nothing.code() is grpc.StatusCode.NOT_FOUND
        assert (await stub.NextTask(ask, metadata=by("bo"))).task_id == task.task_id
        late = await refusal(stub.SkipTask(skip, metadata=by("ana")))
        assert late.code() is grpc.StatusCode.FAILED_PRECONDITION


async def test_the_door_refuses_the_wrong_person_and_a_task_about_nothing(stack, shop: Project, tmp_path: Path) -> None:
    ask = service_pb2.NextTaskRequest(project=shop.name, annotator="bo")
    pointless = {
        "no entity": ExampleKey(project=shop.name, moment_us=T0),
        "no moment": ExampleKey(project=shop.name, entity="a"),
        "another project": ExampleKey(project="other", entity="a", moment_us=T0),
    }
    async with labeling_room(stack, tmp_path, PEOPLE) as (room, stub):
        await opened(room, shop)
        for what, key in pointless.items():
            tasks = [*drafts(shop, "good").tasks, service_pb2.TaskDraft(key=key)]
            call = stub.CreateTasks(service_pb2.CreateTasksRequest(project=shop.name, tasks=tasks), metadata=by("sam"))
            refused = await refusal(call)
            assert refused.code() is grpc.StatusCode.INVALID_ARGUMENT, what
            assert f"an example of {shop.name}" in refused.details(), what
        many = service_pb2.CreateTasksRequest(project=shop.name, tasks=[service_pb2.TaskDraft()] * 10_001)
        assert (await refusal(stub.CreateTasks(many, metadata=by("sam")))).code() is grpc.StatusCode.INVALID_ARGUMENT
        assert (await stub.CreateTasks(drafts(shop, "good"), metadata=by("sam"))).existing == 0  # nothing was half made

        for call, code, words in (
            (stub.NextTask(ask, metadata=by("ana")), grpc.StatusCode.PERMISSION_DENIED, "ana cannot answer as bo"),
            (stub.NextTask(ask, metadata=by("sam")), grpc.StatusCode.PERMISSION_DENIED, "lacks the role annotator"),
            (
                stub.CreateTasks(drafts(shop, "a"), metadata=by("ana")),
                grpc.StatusCode.PERMISSION_DENIED,
                "lacks the role scientist",
            ),
            (stub.NextTask(ask), grpc.StatusCode.UNAUTHENTICATED, "token"),
        ):
            refused = await refusal(call)
            assert (refused.code(), words in refused.details()) == (code, True), refused.details()
        task = await stub.NextTask(ask, metadata=by("eve"))  # an admin may hand in somebody's answer
        stolen = service_pb2.SubmitAnnotationRequest(task_id=task.task_id, lease_id=task.lease_id, value=0.0)
        assert (await refusal(stub.SubmitAnnotation(stolen, metadata=by("ana")))).code() is (
            grpc.StatusCode.FAILED_PRECONDITION
        )
        stolen.task_id = "no such task"
        assert (await refusal(stub.SubmitAnnotation(stolen, metadata=by("bo")))).code() is grpc.StatusCode.NOT_FOUND
