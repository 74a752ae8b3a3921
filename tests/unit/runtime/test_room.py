"""The life of a process: doors, identity, restarts of tasks, signals, ports that are taken."""

import asyncio
import os
import signal
import socket
import subprocess
import sys

import grpc
import httpx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from millrace.bus.events import Event, Message
from millrace.bus.memory import MemoryBus
from millrace.bus.ports import TopicSpec
from millrace.bus.worker import Worker
from millrace.runtime.channels import open_channel
from millrace.runtime.errors import ConfigurationError, DataLoss, Exhausted, NotFound, Policy, Unavailable
from millrace.runtime.room import RoomProcess
from millrace.runtime.settings import RoomSettings
from millrace.wire.common.v1 import common_pb2, common_pb2_grpc
from millrace.wire.ingestion.v1 import service_pb2 as ingestion_pb2
from millrace.wire.ingestion.v1 import service_pb2_grpc as ingestion_grpc

from tests.support.poll import until


async def run(process):
    task = asyncio.create_task(process.run())
    await until(lambda: process.status.started or task.done())
    return task


async def stop(process, task):
    process.request_stop()
    await asyncio.wait_for(task, 20)


async def test_describe_health_and_readiness_agree(tmp_path):
    process = RoomProcess("toy", RoomSettings(home=tmp_path))
    trouble = ["disk is full"]
    process.status.problem("disk", lambda: trouble[0])
    process.status.problem("cache", lambda: "cold", degrades_only=True)
    process.status.lag(lambda: 2)
    process.status.lag(lambda: 3)
    process.status.watermarks(lambda: {"p": 5, "q": 1})
    process.status.watermarks(lambda: {"p": 4})
    task = await run(process)
    channel = open_channel(process.status.grpc_address)
    status = await common_pb2_grpc.RoomStub(channel).Describe(common_pb2.DescribeRequest())
    assert not status.ready and list(status.reasons) == ["disk: disk is full", "cache: cold"]
    assert status.lag_records == 5 and dict(status.watermarks_us) == {"p": 4, "q": 1} and status.pid == os.getpid()
    async with httpx.AsyncClient(base_url=f"http://{process.status.http_address}") as client:
        assert (await client.get("/readyz")).status_code == 503
        trouble[0] = ""
        assert (await client.get("/readyz")).json() == {"ready": True, "reasons": ["cache: cold"]}
        assert (await client.get("/healthz")).status_code == 200
    answer = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
    assert answer.status == health_pb2.HealthCheckResponse.SERVING
    await channel.close(None)
    await stop(process, task)


async def test_who_waits_for_rest_hurries_what_is_being_gathered(tmp_path):
    asked = []

    class Gathering:
        handled_records = 0
        lag_records = 0

        def __init__(self, name):
            self.name = name

        async def learn_lag(self):
            asked.append(f"lag of {self.name}")

        def hurry(self):
            asked.append(f"hurry {self.name}")

    process = RoomProcess("toy", RoomSettings(home=tmp_path))
    process.status.consumes(Gathering("one"))
    process.status.defers(Gathering("two"))
    task = await run(process)
    async with open_channel(process.status.grpc_address) as channel:
        stub = common_pb2_grpc.RoomStub(channel)
        for how in ({}, {"hurry": True}, {"exact": True, "hurry": True}):
            await stub.Describe(common_pb2.DescribeRequest(**how))
            asked.append("|")
    await stop(process, task)
    assert asked == ["|", "hurry one", "|", "hurry one", "lag of one", "lag of two", "|"]


async def test_a_room_that_is_starting_does_not_say_that_something_is_not_there(tmp_path):
    process = RoomProcess("toy", RoomSettings(home=tmp_path))
    trouble = ["not caught up"]
    process.status.problem("definitions", lambda: trouble[0])

    class Door(ingestion_grpc.IngestionServicer):
        async def Publish(self, request, context):
            raise NotFound("no project p")

    process.add_grpc(lambda server: ingestion_grpc.add_IngestionServicer_to_server(Door(), server))

    @process.http.get("/p")
    async def missing():
        raise NotFound("no project p")

    async def ask():
        async with open_channel(process.status.grpc_address) as channel, httpx.AsyncClient() as client:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await ingestion_grpc.IngestionStub(channel).Publish(ingestion_pb2.PublishRequest())
            status = (await client.get(f"http://{process.status.http_address}/p")).status_code
        return caught.value.code(), status

    task = await run(process)
    assert await ask() == (grpc.StatusCode.UNAVAILABLE, 503)
    trouble[0] = ""
    assert await ask() == (grpc.StatusCode.NOT_FOUND, 404)
    trouble[0] = "the broker is away"
    assert await ask() == (grpc.StatusCode.NOT_FOUND, 404)  # what it knew it knows
    await stop(process, task)


async def test_errors_reach_http_with_their_code(tmp_path):
    process = RoomProcess("toy", RoomSettings(home=tmp_path))

    @process.http.get("/full")
    async def full():
        raise Exhausted("later", retry_after_ms=1500)

    @process.http.get("/lost")
    async def lost():
        raise DataLoss("bytes")

    task = await run(process)
    async with httpx.AsyncClient(base_url=f"http://{process.status.http_address}") as client:
        answer = await client.get("/full")
        assert (
            answer.status_code == 429 and answer.headers["retry-after"] == "2" and answer.json()["code"] == "exhausted"
        )
        assert (await client.get("/lost")).status_code == 500
    await stop(process, task)


async def test_tokens_are_asked_for_at_both_doors(tmp_path):
    (tmp_path / "tokens").write_text("s3cret ada admin\n")
    process = RoomProcess("toy", RoomSettings(home=tmp_path, token_file=str(tmp_path / "tokens")))
    task = await run(process)
    for token, works in (("", False), ("s3cret", True)):
        channel = open_channel(process.status.grpc_address, token=token)
        call = common_pb2_grpc.RoomStub(channel).Describe(common_pb2.DescribeRequest())
        if works:
            assert (await call).room == "toy"
        else:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call
            assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
        await channel.close(None)
    async with httpx.AsyncClient(base_url=f"http://{process.status.http_address}") as client:
        assert (await client.get("/metrics")).status_code == 401
        assert (await client.get("/readyz")).status_code == 200
        assert (await client.get("/metrics", headers={"authorization": "Bearer s3cret"})).status_code == 200
        assert (await client.get("/metrics", headers={"cookie": "millrace_token=s3cret"})).status_code == 200
    await stop(process, task)


async def test_a_crashed_task_is_shown_and_started_again_and_a_lasting_failure_ends_the_process(tmp_path):
    process = RoomProcess("toy", RoomSettings(home=tmp_path))
    runs = []

    async def shaky():
        runs.append(process.status.reasons()[1])
        if len(runs) == 1:
            raise ValueError("first")
        if len(runs) == 2:
            raise ConfigurationError("for good")

    process.add_task("shaky", shaky)
    assert ConfigurationError("x").policy is Policy.CRASH
    task = await run(process)
    with pytest.raises(ConfigurationError, match="for good"):
        await asyncio.wait_for(task, 20)
    assert len(runs) == 2


async def test_start_hooks_wait_for_what_may_come_and_stop_hooks_run_backwards(tmp_path):
    process = RoomProcess("toy", RoomSettings(home=tmp_path))
    seen = []

    async def store():
        seen.append("store")
        if len(seen) < 3:
            raise Unavailable("not yet")

    async def note(what):
        seen.append(what)

    process.on_start(store)
    process.on_stop(lambda: note("first"))
    process.on_stop(lambda: note("second"))
    await stop(process, await run(process))
    assert seen == ["store"] * 3 + ["second", "first"]


@pytest.mark.parametrize("door", ["grpc_bind", "http_bind"])
async def test_a_taken_port_is_one_clear_line(tmp_path, door):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        process = RoomProcess("toy", RoomSettings(home=tmp_path, **{door: f"127.0.0.1:{taken.getsockname()[1]}"}))
        with pytest.raises(ConfigurationError, match="cannot listen on"):
            await process.run()


TOY = """
from millrace.runtime.main import main
from millrace.runtime.room import RoomProcess
from millrace.runtime.settings import RoomSettings
main(lambda: RoomProcess("toy", RoomSettings()))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_drains_and_exits_with_0(tmp_path, number):
    environment = os.environ | {"MILLRACE_HOME": str(tmp_path)}
    child = await asyncio.create_subprocess_exec(sys.executable, "-c", TOY, env=environment)
    await until((tmp_path / "run" / "toy.json").exists, 60)
    child.send_signal(number)
    assert await asyncio.wait_for(child.wait(), 20) == 0
    assert not (tmp_path / "run" / "toy.json").exists()


async def test_a_bad_setting_is_one_line_and_exit_2(tmp_path):
    for name, value in (("MILLRACE_GRPC_BIND", "0.0.0.0:0"), ("MILLRACE_DRAIN_S", "soon")):
        environment = os.environ | {"MILLRACE_HOME": str(tmp_path), name: value}
        done = await asyncio.to_thread(
            subprocess.run, [sys.executable, "-c", TOY], env=environment, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 2 and done.stderr.count("\n") == 1 and done.stderr.startswith("millrace: ")


async def test_metrics_say_per_group_topic_and_partition_what_waits_and_what_happened(tmp_path):
    bus, process = MemoryBus(), RoomProcess("toy", RoomSettings(home=tmp_path))
    await bus.ensure_topics([TopicSpec("things", 2)])
    for partition in (0, 0, 1):
        event = Event(f"e{partition}", "t", "s", b"x")
        await bus.publish([Message("things", event, partition=partition)])
    released = asyncio.Event()

    async def handle(batch, effects):
        if batch.partition == 0 and not released.is_set():
            raise ConnectionError("away")
        for record in batch.records:
            effects.reject(record, "Odd", "is odd")

    worker = Worker(bus, room="toy", group="toy.things", handle=handle, topics=["things"])
    process.status.consumes(worker)
    process.add_task("things", worker.run)
    task = await run(process)
    async with httpx.AsyncClient(base_url=f"http://{process.status.http_address}") as client:

        async def figures():
            lines = (await client.get("/metrics")).text.splitlines()
            return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if line[0] != "#")}

        def of(kind, partition=None):
            place = f',partition="{partition}"' if partition is not None else ""
            labels = f'group="toy.things"{place},room="toy",topic="things"'
            return f"millrace_consumer_{kind}{{{labels}}}"

        async def stuck():
            found = await figures()
            assert found[of("lag_records", 0)] == 2
            assert found[of("lag_records", 1)] == 0
            assert found[of("oldest_seconds", 0)] > 0.05
            assert found[of("oldest_seconds", 1)] == 0
            assert found[of("retries_total")] >= 1
            assert found[of("dead_letters_total")] == found[of("handled_total")] == 1
            return True

        await until(stuck, 20)
        described = process.status.snapshot()
        assert described.oldest_s > 0.05
        assert described.retries >= 1
        released.set()

        async def done():
            found = await figures()
            assert found[of("lag_records", 0)] == found[of("oldest_seconds", 0)] == 0
            assert found[of("dead_letters_total")] == 3
            return True

        await until(done, 20)
    await stop(process, task)
