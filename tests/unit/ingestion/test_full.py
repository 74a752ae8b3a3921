"""A lane that is full, and requests that are too large: every door says so in its own words, and clients obey."""

import asyncio
import contextlib
from itertools import pairwise

import grpc
import httpx
import pytest
from cloudevents.core.bindings.http import to_structured_event
from cloudevents.core.v1.event import CloudEvent
from millrace.client.calls import call_with_retries
from millrace.client.errors import CallFailed
from millrace.client.producer import Producer
from millrace.runtime.channels import open_channel
from millrace.wire.ingestion.v1 import service_pb2, service_pb2_grpc

from services.ingestion.handlers.lanes import RETRY_AFTER_MS
from tests.support.poll import until
from tests.unit.ingestion.test_doors import Room, running
from tests.unit.ingestion.world import T0, reading


class Held:
    """A room whose broker answers nobody until it is let go."""

    def __init__(self, room: Room) -> None:
        self.room = room
        self._gate = asyncio.Event()
        self.waiting = 0
        self._publish = room.bus.publish
        room.bus.publish = self._wait  # the broker's answer is what is missing, not the room

    async def _wait(self, messages):
        self.waiting += len(messages)
        await self._gate.wait()
        await self._publish(messages)

    def let_go(self):
        self._gate.set()

    def request(self, count, first=0):
        events = [
            service_pb2.DataEvent(json=b'{"sensor":"s%d","at":%d}' % (n, T0 + n)) for n in range(first, first + count)
        ]
        return service_pb2.PublishRequest(project="live", source="readings", events=events)


@pytest.fixture
async def held(tmp_path):
    """Ten events may wait, and ten do: all that comes is too much."""
    async with running(tmp_path, max_waiting_events=10, max_request_events=50) as room:
        made = Held(room)
        channel = open_channel(room.grpc)
        stub = service_pb2_grpc.IngestionStub(channel)
        waiting = asyncio.ensure_future(stub.Publish(made.request(10, first=1_000)))
        await until(lambda: made.waiting >= 10)
        made.stub = stub
        yield made
        made.let_go()
        assert (await waiting).accepted == 10
        await channel.close(None)


def wait_of(error):
    return dict(error.trailing_metadata() or ()).get("retry-after-ms")


async def test_grpc_says_when_to_come_back(held):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await held.stub.Publish(held.request(1))
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert wait_of(caught.value) == str(RETRY_AFTER_MS) and "wait for data.live.readings" in caught.value.details()


async def test_a_stream_that_was_refused_has_appended_nothing_behind_the_refusal(held):
    call = held.stub.PublishStream()
    await call.write(held.request(5))
    with contextlib.suppress(asyncio.InvalidStateError):  # it may have been refused already
        await call.write(held.request(1, first=5))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call.read()
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED and wait_of(caught.value) == str(RETRY_AFTER_MS)
    held.let_go()
    await until(lambda: len(held.room.data(name="live")) == 10)  # those that waited before, and no other
    assert {record.event.subject for record in held.room.data(name="live")} == {f"s{n}" for n in range(1_000, 1_010)}


@pytest.mark.parametrize("kind", ["one", "array", "ndjson", "structured", "binary"])
async def test_http_says_when_to_come_back(held, kind):
    event = CloudEvent({"id": "c1", "source": "/s", "type": "plant.reading.taken"}, reading("s1", T0))
    structured = to_structured_event(event)
    line = b'{"sensor":"s1","at":%d}' % T0
    content, headers, path = {
        "one": (line, {}, "events"),
        "array": (b"[" + line + b"]", {}, "events"),
        "ndjson": (line + b"\n", {"content-type": "application/x-ndjson"}, "events"),
        "structured": (structured.body, dict(structured.headers), "events"),
        "binary": (
            line,
            {"ce-specversion": "1.0", "ce-id": "c1", "ce-source": "/s", "ce-type": "plant.reading.taken"},
            "events",
        ),
    }[kind]
    async with httpx.AsyncClient(base_url=f"{held.room.http}/v1/live/readings/") as client:
        answer = await client.post(path, content=content, headers=headers)
    assert answer.status_code == 429, answer.text
    assert (answer.headers["retry-after"], answer.headers["retry-after-ms"]) == ("1", str(RETRY_AFTER_MS))


async def test_large_events_are_too_much_before_they_are_too_many(tmp_path):
    """Each holds some 1,000 bytes: two may wait, the third is sent away."""
    async with running(tmp_path, max_waiting_bytes=2_500) as room:
        made = Held(room)
        events = [service_pb2.DataEvent(json=b'{"sensor":"%s","at":%d}' % (b"s%d" % n * 500, T0)) for n in range(3)]
        requests = [service_pb2.PublishRequest(project="live", source="readings", events=[event]) for event in events]
        channel = open_channel(room.grpc)
        stub = service_pb2_grpc.IngestionStub(channel)
        calls = [asyncio.ensure_future(stub.Publish(request)) for request in requests]
        done, held = await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED, timeout=20)
        (refused,) = done
        with pytest.raises(grpc.aio.AioRpcError, match=r"2 events of \d{4} bytes wait") as caught:
            refused.result()
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert wait_of(caught.value) == str(RETRY_AFTER_MS)
        made.let_go()
        assert [(await one).accepted for one in held] == [1, 1]
        assert (await stub.Publish(requests[calls.index(refused)])).accepted == 1
        await channel.close(None)


async def test_a_file_that_has_come_waits_its_turn(held):
    lines = b"".join(b'{"sensor":"s%d","at":%d}\n' % (n, T0) for n in range(3))
    async with httpx.AsyncClient(base_url=f"{held.room.http}/v1/live/readings/", timeout=30) as client:
        asked = asyncio.ensure_future(client.post("files?format=ndjson", content=lines))
        done, _ = await asyncio.wait([asked], timeout=5 * RETRY_AFTER_MS / 1000)
        assert not done
        held.let_go()
        assert (await asked).json()["accepted"] == 3


async def test_the_producer_comes_back_when_it_was_refused(held, caplog):
    def refusals():
        return sum("exhausted" in record.getMessage() for record in caplog.records)

    with caplog.at_level("DEBUG", "millrace.runtime.doors"):
        async with Producer(held.room.grpc, "live", batch_events=2) as producer:
            single = asyncio.ensure_future(producer.publish("readings", [reading("one", T0)]))
            many = [reading(f"many{n}", T0) for n in range(7)]
            several = asyncio.ensure_future(producer.publish("readings", many))
            await until(lambda: refusals() >= 4)
            held.let_go()
            assert ((await single).accepted, (await several).accepted) == (1, 7)
    subjects = [record.event.subject for record in held.room.data(name="live")]
    assert [s for s in subjects if s.startswith("many")] == [f"many{n}" for n in range(7)]


async def test_a_client_waits_for_as_long_as_it_was_asked_to():
    asked_ms, attempts = 120, []

    async def call(_):
        attempts.append(asyncio.get_running_loop().time())
        if len(attempts) < 3:
            trailing = grpc.aio.Metadata(("retry-after-ms", str(asked_ms)))
            raise grpc.aio.AioRpcError(grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.aio.Metadata(), trailing, "full")
        return "taken"

    assert await call_with_retries("a call", call, 30.0) == "taken"
    assert all(later - earlier >= asked_ms / 1000 for earlier, later in pairwise(attempts))


async def test_what_is_too_large_is_said_once_and_not_repeated(held, tmp_path):
    held.let_go()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await held.stub.Publish(held.request(51))
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert wait_of(caught.value) == "-1" and "50 are allowed" in caught.value.details()
    async with httpx.AsyncClient(base_url=f"{held.room.http}/v1/live/readings/") as client:
        answer = await client.post("events", content=b"[" + b",".join([b"{}"] * 51) + b"]")
    assert answer.status_code == 413 and "retry-after" not in answer.headers
    async with Producer(held.room.grpc, "live", batch_events=51, spool=tmp_path / "spool") as producer:
        with pytest.raises(CallFailed, match="50 are allowed") as failed:
            await producer.publish("readings", [reading(f"m{n}", T0) for n in range(51)])
        assert failed.value.is_lasting and producer.waiting == 0  # waiting on the disk would not make it smaller
