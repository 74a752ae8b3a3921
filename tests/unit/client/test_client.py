"""Addresses, rest, retries, releases."""

import asyncio
import itertools
import json

import grpc
import pytest
from millrace.bus.events import Event, Message
from millrace.bus.memory import MemoryBus
from millrace.bus.ports import TopicSpec
from millrace.client.addresses import Addresses, RoomAddress
from millrace.client.errors import CallFailed, NotQuiet, RoomUnknown
from millrace.client.predictor import Predictor, to_value
from millrace.client.quiet import Quiet, unrest_of
from millrace.client.releases import Releases
from millrace.client.replay import Pace, Replay
from millrace.wire.common.v1 import common_pb2, common_pb2_grpc
from millrace.wire.inference.v1 import service_pb2, service_pb2_grpc
from millrace.wire.registry.v1.events_pb2 import ServingPlan

from tests.support.poll import until


def test_addresses_are_what_the_run_files_say(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "inference.json").write_text(
        json.dumps({"pid": 1, "grpc": "h:1", "http": "h:2", "started_us": 1})
    )
    (tmp_path / "run" / "half.json").write_text("{")
    found = Addresses.discover(tmp_path)
    assert found.rooms == {"inference": RoomAddress("h:1", "h:2", 1)} and found.grpc("inference") == "h:1"
    with pytest.raises(RoomUnknown, match="monitor"):
        found.http("monitor")


def status(**facts):
    return common_pb2.RoomStatus(**facts)


def test_rest_is_no_lag_nothing_unpublished_nobody_busy_and_the_time_reached():
    assert unrest_of({"a": status(watermarks_us={"p": 10}), "b": status()}, "p", 10) == []
    (line,) = unrest_of({"a": status(lag_records=2, busy_jobs=1, watermarks_us={"p": 5})}, "p", 2_000_005)
    assert line == "a: lag of 2 records, 1 jobs under way, watermark 2 s of project time behind"
    assert unrest_of({"a": None}, "p", 0) == ["a: does not answer"]


class Rooms(common_pb2_grpc.RoomServicer):
    def __init__(self, statuses):
        self.statuses = statuses

    async def Describe(self, request, context):
        return self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]


class Answers(service_pb2_grpc.InferenceServicer):
    def __init__(self, failures):
        self.failures = failures

    async def Predict(self, request, context):
        if self.failures:
            await context.abort(self.failures.pop(), "no")
        answers = [service_pb2.Answer(entity=item.entity, value=item.moment_us) for item in request.items]
        return service_pb2.PredictReply(answers=answers)


@pytest.fixture
async def serve():
    servers = []

    async def start(add, servicer):
        server = grpc.aio.server()
        add(servicer, server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        servers.append(server)
        return f"127.0.0.1:{port}"

    yield start
    for server in servers:
        await server.stop(None)


async def test_quiet_waits_for_two_equal_snapshots_and_names_who_lags(serve):
    seen = [status(handled_records=n) for n in (1, 2, 3, 3)]
    address = await serve(common_pb2_grpc.add_RoomServicer_to_server, Rooms(seen))
    async with Quiet(Addresses({"a": RoomAddress(address, "")}), "p", rooms=["a"]) as quiet:
        assert (await quiet.wait(0))["a"].handled_records == 3
        seen[:] = [status(lag_records=4)]
        with pytest.raises(NotQuiet, match="a: lag of 4 records"):
            await quiet.wait(0, deadline_s=0.05)


async def test_predictions_come_in_order_over_retries(serve):
    failures = [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED]
    address = await serve(service_pb2_grpc.add_InferenceServicer_to_server, Answers(failures))
    async with Predictor(address, "p") as predictor:
        entities = [f"e{i}" for i in range(150)]
        answers = await predictor.predict_many(entities, moment_us=5)
        assert [a.entity for a in answers] == entities and {a.value for a in answers} == {5}
        assert predictor.retried == 2  # one for each refusal
        failures.append(grpc.StatusCode.NOT_FOUND)
        with pytest.raises(CallFailed, match="NOT_FOUND"):
            await predictor.predict("e", request={"x": 1.5})
        assert predictor.retried == 2  # what lasts is not asked for again
    assert to_value(None).WhichOneof("kind") is None and to_value(True).flag and to_value("a").text == "a"
    with pytest.raises(TypeError):
        to_value(object())


def plan(model, epoch):
    payload = ServingPlan(project="p", model=model, epoch=epoch).SerializeToString()
    return Message(
        "models.releases", Event(f"{model}{epoch}", "t", "registry", payload, causation_id="c"), model.encode()
    )


@pytest.mark.parametrize("from_start", [True, False])
async def test_releases_are_told_once_newest_epochs_only(from_start):
    bus = MemoryBus()
    await bus.ensure_topics([TopicSpec("models.releases", compact=True)])
    await bus.publish([plan("m", 1), plan("n", 4)])
    got, epochs, last = [], itertools.count(2), 10_000

    async def listen():
        async for release in Releases(bus=bus, from_start=from_start):
            got.append((release.plan.model, release.plan.epoch))
            if release.plan.epoch == last:
                return

    async def tell():
        """Only a release from after the listener caught up shows that it did."""
        await bus.publish([plan("m", next(epochs))])
        return len(got) > 2 if from_start else got

    listening = asyncio.create_task(listen())
    await until(tell)
    await bus.publish([plan("m", 1), plan("n", 4), plan("m", last)])
    await asyncio.wait_for(listening, 10)
    before, after = (got[:2], got[2:]) if from_start else ([], got)
    assert before == ([("m", 1), ("n", 4)] if from_start else [])
    assert {model for model, _ in after} == {"m"}
    assert [epoch for _, epoch in after] == sorted({epoch for _, epoch in after})
    assert after[-1] == ("m", last)
    assert all(epoch >= 2 for _, epoch in after)


def test_a_replay_refuses_what_it_cannot_cut():
    with pytest.raises(ValueError, match="whole number"):
        Pace(30, 45)


async def test_unsorted_events_are_an_error():
    async def nothing(now_us):
        return None

    with pytest.raises(ValueError, match="not sorted"):
        list(
            Replay(
                "", "p", [(5, "s", b"", ""), (4, "s", b"", "")], Pace(1, 1), on_slice=nothing, wait_quiet=nothing
            )._events.take(9)
        )
