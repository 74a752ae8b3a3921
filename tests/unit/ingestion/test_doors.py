"""The room as a process has it: gRPC, HTTP, files and raw topics over the memory bus, and the clients against it."""

import asyncio
import contextlib
import json

import grpc
import httpx
import pyarrow as pa
import pyarrow.parquet
import pytest
from cloudevents.core.bindings.http import to_binary_event, to_structured_event
from cloudevents.core.v1.event import CloudEvent
from millrace.bus.events import Event, Message
from millrace.bus.memory import MemoryBroker, MemoryBus
from millrace.client.batching import BATCH_EVENTS
from millrace.client.errors import CallFailed
from millrace.client.files import EventFile
from millrace.client.producer import Producer, SyncProducer
from millrace.client.replay import Pace, Replay
from millrace.definitions.canonical import to_canonical_json
from millrace.definitions.model import Clock
from millrace.runtime.channels import open_channel
from millrace.wire.common.v1 import common_pb2, common_pb2_grpc
from millrace.wire.ingestion.v1 import service_pb2, service_pb2_grpc
from millrace.wire.ingestion.v1.events_pb2 import Quarantined
from millrace.wire.registry.v1.events_pb2 import DefinitionPublished

from services.ingestion.bootstrap import build
from services.ingestion.handlers.judge import MAX_EVENT_BYTES
from services.ingestion.settings import Settings
from tests.support.poll import until
from tests.unit.ingestion.world import HEARTBEAT, HOUR, SENSOR, T0, project, reading

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Room:
    """A running room and the bus it runs over."""

    def __init__(self, process, bus):
        self.process = process
        self.bus = bus
        self.grpc = process.status.grpc_address
        self.http = f"http://{process.status.http_address}"

    def data(self, source="readings", name="plant"):
        return [r for r in self.bus.records(f"data.{name}.{source}") if r.event.type != HEARTBEAT]


def definition(one):
    payload = DefinitionPublished(
        project=one.name, version=1, canonical_json=to_canonical_json(one)
    ).SerializeToString()
    event = Event("d-" + one.name, "millrace.registry.definition.published.v1", "test", payload)
    return Message("definitions", event, one.name.encode())


@contextlib.asynccontextmanager
async def running(home, **settings):
    bus = MemoryBus(MemoryBroker(default_partitions=1))
    process = build(Settings(home=home, **settings), bus)
    task = asyncio.create_task(process.run())
    await until(lambda: process.status.started or task.done())
    if task.done():
        task.result()
    await bus.publish([definition(project()), definition(project(Clock.WALL, "live"))])
    await until(lambda: len(process.status.snapshot().definitions) == 2)
    try:
        yield Room(process, bus)
    finally:
        process.request_stop()
        await asyncio.wait_for(task, 20)


@pytest.fixture
async def room(tmp_path):
    async with running(tmp_path) as made:
        yield made


async def test_publish_answers_one_by_one_and_carries_the_trace(room):
    channel = open_channel(room.grpc)
    stub = service_pb2_grpc.IngestionStub(channel)
    events = [service_pb2.DataEvent(id="a", json=b'{"sensor":"s1","at":%d}' % T0), service_pb2.DataEvent(json=b"[]")]
    request = service_pb2.PublishRequest(project="live", source="readings", events=events)
    reply = await stub.Publish(request, metadata=(("traceparent", TRACE),))
    assert (reply.accepted, reply.duplicates, reply.quarantined) == (1, 0, 1)
    assert [v.outcome for v in reply.verdicts] == [service_pb2.Verdict.QUARANTINED]
    assert room.data(name="live")[0].event.traceparent == TRACE

    async def requests():
        for _ in range(3):
            yield request

    replies = [reply async for reply in stub.PublishStream(requests())]
    assert [r.duplicates for r in replies] == [1, 1, 1]
    status = await common_pb2_grpc.RoomStub(channel).Describe(common_pb2.DescribeRequest())
    assert status.room == "ingestion" and status.definitions == {"plant": 1, "live": 1} and status.handled_records >= 8
    await channel.close(None)


async def test_errors_have_their_codes(room):
    channel = open_channel(room.grpc)
    stub = service_pb2_grpc.IngestionStub(channel)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.AcquireClock(service_pb2.AcquireClockRequest(project="live", holder="x", ttl_ms=1000))
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.Publish(service_pb2.PublishRequest(project="nobody", source="x"))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    await stub.AcquireClock(service_pb2.AcquireClockRequest(project="plant", holder="first", ttl_ms=10_000))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.AcquireClock(service_pb2.AcquireClockRequest(project="plant", holder="second", ttl_ms=10_000))
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION and "first" in caught.value.details()
    await channel.close(None)


async def test_http_takes_one_event_an_array_and_lines(room):
    async with httpx.AsyncClient(base_url=f"{room.http}/v1/live/readings") as client:
        one = await client.post("/events", json=reading("s1", T0), headers={"idempotency-key": "k"})
        assert one.json()["accepted"] == 1
        assert room.data(name="live")[0].event.id == "k"
        array = await client.post("/events", json=[reading("s2", T0), reading(None, T0), reading("s2", T0)])
        assert {k: array.json()[k] for k in ("accepted", "duplicates", "quarantined")} == {
            "accepted": 1,
            "duplicates": 1,
            "quarantined": 1,
        }
        lines = b'{"sensor":"s3","at":%d}\n\n{oops\n' % T0
        answer = (await client.post("/events", content=lines, headers={"content-type": "application/x-ndjson"})).json()
        assert (answer["accepted"], answer["quarantined"]) == (1, 1)
        broken = (await client.post("/events", content=b"[{]", headers={"content-type": "application/json"})).json()
        assert broken["verdicts"][0]["reason"].startswith("not JSON")
        assert (await client.post(f"{room.http}/v1/nobody/x/events", json={})).status_code == 404


def cloudevent(number, data=None, **more):
    attributes = {"id": f"c{number}", "source": "/plants/7", "type": SENSOR.event_type, **more}
    return CloudEvent(attributes, reading("s1", T0 + number) if data is None else data)


async def test_cloudevents_come_in_all_three_modes_of_the_http_binding(room):
    async with httpx.AsyncClient(base_url=f"{room.http}/v1/live/readings") as client:

        async def post(message):
            return await client.post("/events", headers=message.headers, content=message.body)

        assert (await post(to_binary_event(cloudevent(1)))).json()["accepted"] == 1
        assert (await post(to_structured_event(cloudevent(2)))).json()["accepted"] == 1
        batch = b"[" + b",".join(to_structured_event(cloudevent(n)).body for n in (1, 3)) + b"]"
        kind = {"content-type": "application/cloudevents-batch+json; charset=UTF-8"}
        answer = (await client.post("/events", content=batch, headers=kind)).json()
        assert (answer["accepted"], answer["duplicates"]) == (1, 1)
        # Another producer's event of the same id is another event.
        assert (await post(to_binary_event(cloudevent(1, source="/plants/8")))).json()["accepted"] == 1
        assert {r.event.id for r in room.data(name="live")} == {
            "/plants/7#c1",
            "/plants/7#c2",
            "/plants/7#c3",
            "/plants/8#c1",
        }
        other = (await post(to_structured_event(cloudevent(4, type="plant.repair.done")))).json()["verdicts"][0]
        assert (other["outcome"], other["reason"]) == (
            "quarantined",
            "readings takes plant.reading.taken, not plant.repair.done",
        )
        text = cloudevent(5, "not JSON", datacontenttype="text/plain")
        assert (await post(to_binary_event(text))).json()["verdicts"][0]["reason"].startswith("not JSON")
        encoded = cloudevent(6, b'{"sensor":"s9","at":%d}' % T0)
        assert (await post(to_structured_event(encoded))).json()["accepted"] == 1


async def test_a_cloudevent_may_claim_its_availability(room):
    async with httpx.AsyncClient(base_url=f"{room.http}/v1/plant/readings") as client:
        message = to_binary_event(cloudevent(5, availableus=str(T0 + 60)))
        assert (await client.post("/events", headers=message.headers, content=message.body)).json()["accepted"] == 1
        assert [int(r.header("visible_us")) for r in room.data()] == [T0 + 60]


HALF_A_PAIR = b'{"specversion":"1.0","id":"%s","source":"/","type":"plant.reading.taken","data":{"sensor":"%s"}}'


@pytest.mark.parametrize(
    ("headers", "body", "reason"),
    [
        ({"ce-specversion": "1.0", "ce-id": "1", "ce-type": "t"}, b"{}", "source"),
        ({"ce-specversion": "1.0", "ce-id": "1", "ce-type": "t", "ce-source": "/", "ce-time": "noon"}, b"{}", "no Cl"),
        ({"content-type": "application/cloudevents+json"}, b"{", "the event is no CloudEvent"),
        ({"content-type": "application/cloudevents+json"}, b"[]", "the event is no CloudEvent"),
        ({"content-type": "application/cloudevents+avro"}, b"", "not as application/cloudevents+avro"),
        ({"content-type": "application/cloudevents-batch+json"}, b"{}", "is a JSON array"),
        ({"content-type": "application/cloudevents-batch+json"}, b'[{"id":"1"}]', "event 0 of the batch"),
        ({"content-type": "application/cloudevents+json"}, HALF_A_PAIR % (b"\\ud800", b"x"), "surrogates not allowed"),
        ({"content-type": "application/cloudevents+json"}, HALF_A_PAIR % (b"1", b"\\ud800"), "surrogates not allowed"),
    ],
)
async def test_what_is_no_cloudevent_is_refused_as_a_whole_and_named(room, headers, body, reason):
    async with httpx.AsyncClient(base_url=f"{room.http}/v1/live/readings") as client:
        answer = await client.post("/events", headers=headers, content=body)
        assert answer.status_code == 400 and reason in answer.json()["error"]
    assert room.data(name="live") == [] and room.bus.records("quarantine") == []


async def test_files_of_three_formats_become_the_same_events(room, tmp_path):
    csv = b"sensor,at,degrees,is_on\nf1,2013-07-01T00:00:00Z,21.5,true\nf2,2013-07-01T00:00:00Z,,false\n"
    lines = b'{"sensor":"f1","at":"2013-07-01T00:00:00Z","degrees":21.5,"is_on":true}\n'
    table = pa.table(
        {"sensor": ["f2", "f3"], "at": pa.array([T0, T0], pa.timestamp("us", "UTC")), "is_on": [False, True]}
    )
    pa.parquet.write_table(table, tmp_path / "f.parquet")
    async with httpx.AsyncClient(base_url=f"{room.http}/v1/live/readings") as client:
        first = (await client.post("/files?format=csv", content=csv)).json()
        second = (await client.post("/files?name=x.ndjson", content=lines)).json()
        third = (await client.post("/files?name=f.parquet", content=(tmp_path / "f.parquet").read_bytes())).json()
        assert [first["accepted"], second["duplicates"]] == [2, 1]
        assert (third["accepted"], third["duplicates"]) == (1, 1)
        assert (await client.post("/files", content=b"?")).status_code == 400
        assert (await client.post("/files?format=parquet", content=b"?")).status_code == 400


async def test_a_table_means_the_same_to_this_door_and_to_the_client_that_reads_files(room, tmp_path):
    """Cells are read by what the source declares, not by what they look like."""
    text = "sensor,at,degrees,is_on\n007,2013-07-01T00:00:00Z,.5,TRUE\n123,2013-07-01T00:00:00Z,1e2,False\n"
    (tmp_path / "f.csv").write_text(text)
    types = {field.name: field.type.value for field in SENSOR.fields}
    async with httpx.AsyncClient(base_url=f"{room.http}/v1/live/readings") as client:
        reply = (await client.post("/files?name=f.csv", content=text.encode())).json()
        assert (reply["accepted"], reply["verdicts"]) == (2, [])
        with EventFile(str(tmp_path / "f.csv"), "csv", types) as file:
            lines = b"\n".join(row.json for row in file.rows())
        assert (await client.post("/files?name=f.ndjson", content=lines)).json()["duplicates"] == 2
    assert {record.key for record in room.data(name="live")} == {b"007", b"123"}


async def test_rows_that_do_not_fit_their_head_are_refused_with_their_cells(room):
    table = "sensor,at,degrees\nf1,2013-07-01T00:00:00Z,21.5\nf2,2013-07-01T00:00:00Z\nf3,2013-07-01T00:00:00Z,1,2\n\n"
    async with httpx.AsyncClient(base_url=f"{room.http}/v1/live/readings") as client:
        reply = (await client.post("/files?format=csv", content=table.encode())).json()
        assert (reply["accepted"], reply["quarantined"]) == (1, 2)
        letters = [Quarantined.FromString(record.data) for record in room.bus.records("quarantine")]
        assert sorted(json.loads(letter.payload) for letter in letters) == [
            ["f2", "2013-07-01T00:00:00Z"],
            ["f3", "2013-07-01T00:00:00Z", "1", "2"],
        ]


async def test_a_file_that_breaks_off_says_where_it_may_go_on(room):
    row = "f{},2013-07-01T00:00:00Z,21.5\n"
    head, good = "sensor,at,degrees\n", "".join(row.format(n) for n in range(600))
    async with httpx.AsyncClient(base_url=f"{room.http}/v1/live/readings") as client:
        broken = await client.post("/files?format=csv", content=(head + good + "x" * 200_000 + ",,\n").encode())
        said = broken.json()["error"]
        assert broken.status_code == 400 and "after line 602" in said and said.endswith("again with after=500")
        mended = head + good + row.format(600)
        rest = (await client.post("/files?format=csv&after=500", content=mended.encode())).json()
        assert (rest["accepted"], rest["duplicates"]) == (101, 0)
    assert len(room.data(name="live")) == 601


async def test_a_line_of_any_length_is_one_refused_event(room):
    lines = b"x" * (3 * MAX_EVENT_BYTES) + b"\n" + b'{"sensor":"s1","at":%d}\n' % T0
    async with httpx.AsyncClient(base_url=f"{room.http}/v1/live/readings") as client:
        reply = (await client.post("/files?format=ndjson", content=lines)).json()
    assert (reply["accepted"], reply["quarantined"]) == (1, 1)
    (letter,) = [Quarantined.FromString(record.data) for record in room.bus.records("quarantine")]
    assert letter.rule == "size"


async def test_bodies_are_bounded(tmp_path):
    async with running(tmp_path, max_body_bytes=1024, max_file_bytes=1024) as room, httpx.AsyncClient() as client:
        for path in ("events", "files?format=csv"):
            answer = await client.post(f"{room.http}/v1/live/readings/{path}", content=b"x" * 2000)
            assert answer.status_code == 413 and "larger" in answer.json()["error"]


async def test_raw_topics_go_through_the_same_contract(room):
    def raw(data, **headers):
        return Message("raw.live.readings", Event("r1", "x", "producer", data, extensions=headers), b"s1")

    await room.bus.publish([raw(b'{"sensor":"s1","at":%d}' % T0), raw(b"{"), raw(b'{"sensor":"s1","at":%d}' % T0)])
    await until(lambda: room.process.status.total("lag") == 0 and room.bus.records("quarantine"))
    assert [r.event.id for r in room.data(name="live")] == ["r1"]
    assert len(room.bus.records("quarantine")) == 1


async def test_a_replay_drives_the_clock_in_slices(room):
    step = HOUR // 2
    events = [
        (T0 + i * step // 3, "readings", b'{"sensor":"s%d","at":%d}' % (i, T0 + i * step // 3 - 5), f"e{i}")
        for i in range(1, 13)
    ]
    seen, barriers, progress = [], [], []

    async def on_slice(now_us):
        seen.append((now_us, len(room.data())))

    async def wait_quiet(now_us):
        barriers.append(now_us)

    def replay(some, **how):
        return Replay(room.grpc, "plant", some, Pace(step, 2 * step), on_slice=on_slice, wait_quiet=wait_quiet, **how)

    await replay(events, on_progress=lambda p: progress.append(p.now_us)).run(T0, T0 + 4 * step)
    assert seen == [(T0 + k * step, 3 * k) for k in range(1, 5)] and progress == [now for now, _ in seen]
    assert barriers == [T0 + 2 * step, T0 + 4 * step]
    assert all(int(r.header("visible_us")) >= T0 + int(r.event.id[1:]) * step // 3 for r in room.data())
    with pytest.raises(CallFailed, match="clock"):
        await replay([]).run(T0, T0 + step)
    again = await replay(events).run(T0 + 4 * step, T0 + 6 * step)  # resumed: nothing is sent twice
    assert (again.events, again.slices, len(room.data())) == (0, 2, 12)
    seen.clear()
    quiet = replay([(T0 + 12 * step, "readings", b"{}", "")], next_moment=lambda after_us: None)
    await quiet.run(T0 + 6 * step, T0 + 12 * step)
    assert [now for now, _ in seen] == [T0 + 8 * step, T0 + 10 * step, T0 + 12 * step]  # from barrier to barrier


async def test_more_than_travels_with_the_clock_is_published_before_it(room):
    event = b'{"sensor":"s%d","at":%d}'
    events = [(T0 + HOUR // 2, "readings", event % (i, T0 + i), f"e{i}") for i in range(BATCH_EVENTS + 1)]
    events += [(T0 + HOUR + 1, "readings", event % (0, T0 + HOUR), "last")]
    counts = []

    async def nothing(now_us):
        return None

    replay = Replay(
        room.grpc, "plant", events, Pace(HOUR, HOUR), on_slice=nothing, wait_quiet=nothing,
        on_progress=lambda p: counts.append((p.accepted, len(room.data()))),
    )  # fmt: skip
    assert (await replay.run(T0, T0 + 2 * HOUR)).accepted == BATCH_EVENTS + 2
    assert counts == [(BATCH_EVENTS + 1,) * 2, (BATCH_EVENTS + 2,) * 2]


async def test_a_source_that_comes_twice_with_one_move_is_refused(room):
    async with open_channel(room.grpc) as channel:
        stub = service_pb2_grpc.IngestionStub(channel)
        lease = await stub.AcquireClock(service_pb2.AcquireClockRequest(project="plant", holder="t", ttl_ms=9_000))
        request = service_pb2.AdvanceClockRequest(project="plant", lease_id=lease.lease_id, now_us=T0)
        request.arrivals.add(source="readings")
        request.arrivals.add(source="readings")
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.AdvanceClock(request)
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT and "twice" in refused.value.details()


async def test_a_replayed_project_takes_no_event_before_its_clock_starts_and_all_of_them_after(room):
    async with httpx.AsyncClient(base_url=f"{room.http}/v1/plant/readings") as client:
        early = (await client.post("/events", json=reading("s1", T0 + HOUR))).json()
        assert (early["accepted"], early["quarantined"]) == (0, 1)
        assert early["verdicts"][0]["field"] == "at"
        assert "available_us" in early["verdicts"][0]["reason"]
        raw = Event("raw", "x", "producer", b'{"sensor":"s1","at":%d}' % T0)
        await room.bus.publish([Message("raw.plant.readings", raw, b"s1")])
        await until(lambda: len(room.bus.records("quarantine")) == 2)
    async with Producer(room.grpc, "plant") as producer:
        assert (await producer.publish("readings", [reading("s1", T0 + HOUR)])).quarantined == 1
        event = (T0 + 60, "readings", b'{"sensor":"s1","at":%d}' % (T0 + 5), "first")

        async def nothing(now_us):
            return None

        await Replay(room.grpc, "plant", [event], Pace(HOUR, HOUR), on_slice=nothing, wait_quiet=nothing).run(
            T0, T0 + HOUR
        )
        assert (await producer.publish("readings", [reading("s1", T0 + HOUR)])).accepted == 1
    # Nothing that was sent too early stands before the replayed event, so it is known from when it was available.
    assert [int(r.header("visible_us")) - T0 for r in room.data()] == [60, HOUR + 1]


async def test_the_producers_count_and_retry(room):
    async with Producer(room.grpc, "live", batch_events=3) as producer:
        result = await producer.publish("readings", [reading(f"p{i}", T0) for i in range(8)] + ["nonsense"])
    assert (result.accepted, result.quarantined, result.events) == (8, 1, 9)

    def blocking():
        with SyncProducer(room.grpc, "live") as producer:
            return producer.publish("readings", [reading("p0", T0)])

    assert (await asyncio.to_thread(blocking)).duplicates == 1


async def test_a_process_leaves_its_run_file_only_while_it_serves(tmp_path):
    async with running(tmp_path) as room:
        assert (tmp_path / "run" / "ingestion.json").exists()
        async with httpx.AsyncClient(base_url=room.http) as client:
            assert (await client.get("/readyz")).status_code == 200
            assert "millrace_room_lag" in (await client.get("/metrics")).text
    assert not (tmp_path / "run" / "ingestion.json").exists()
