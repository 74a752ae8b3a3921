"""Data docs and definition versions at the room's doors: pages, calls and commands as their users have them."""

import asyncio
import json
import time

import grpc
import httpx
import pytest
from cloudevents.core.bindings.http import to_binary_event
from cloudevents.core.v1.event import CloudEvent
from millrace.bus.events import Event, Message
from millrace.cli.main import app
from millrace.definitions.canonical import to_canonical_json
from millrace.definitions.model import Clock, Field, FieldType, QualityMonitor, Source
from millrace.runtime.channels import open_channel
from millrace.wire.ingestion.v1 import service_pb2, service_pb2_grpc
from millrace.wire.ingestion.v1.events_pb2 import Quarantined
from millrace.wire.registry.v1.events_pb2 import DefinitionPublished
from typer.testing import CliRunner

from tests.support.poll import until
from tests.unit.ingestion.test_doors import running
from tests.unit.ingestion.world import T0, project, reading

EVIL = "<script>alert(1)</script>"
ODD = Source(
    "odd",
    f"odd.{EVIL}",
    "id",
    "at",
    (
        Field("id", FieldType.STRING, required=True, unique=True),
        Field("at", FieldType.TIMESTAMP, required=True),
        Field("kind", FieldType.STRING, set=("fine", EVIL)),
        Field("size", FieldType.NUMBER, range=(0, 10), max_null_share=0.5),
    ),
    freshness_us=1_000,
)


def published(one, version: int) -> Message:
    payload = DefinitionPublished(project=one.name, version=version, canonical_json=to_canonical_json(one))
    event = Event(f"d-{one.name}-{version}", "t", "test", payload.SerializeToString())
    return Message("definitions", event, one.name.encode())


@pytest.fixture
async def room(tmp_path):
    async with running(tmp_path, max_definition_wait_ms=60_000) as made:
        made.home = tmp_path
        yield made


async def odd_source(room) -> None:
    """A source on the wall clock with short windows, with whatever may come in."""
    from dataclasses import replace

    one = project(Clock.WALL, "odd", (ODD,))
    quick = replace(one, monitors=replace(one.monitors, data_quality=QualityMonitor(window_us=1_000_000)))
    await room.bus.publish([published(quick, 1)])
    await until(lambda: "odd" in room.process.status.snapshot().definitions)
    rows = [{"id": f"i{i}", "at": T0 + i, "kind": EVIL, "size": i / 10} for i in range(40)]
    rows += [{"id": "i1", "at": T0, "kind": "fine"}, {"id": EVIL, "at": T0, "kind": EVIL + "?"}]
    async with httpx.AsyncClient(base_url=room.http) as client:
        answer = await client.post("/v1/odd/odd/events", json=rows)
        assert (answer.json()["accepted"], answer.json()["quarantined"]) == (41, 1)
    await until(lambda: any(b"unique" in r.data for r in room.bus.records("data.violations")))


async def command(*arguments: str):
    return await asyncio.to_thread(CliRunner().invoke, app, list(arguments))


async def test_the_page_of_a_source_shows_its_day_and_escapes_everything(room):
    await odd_source(room)
    async with httpx.AsyncClient(base_url=room.http, follow_redirects=True) as client:
        index = await client.get("/")
        assert index.status_code == 200 and '<a href="/data/odd/odd">odd</a>' in index.text
        page = await client.get("/data/odd/odd")
        assert page.status_code == 200 and EVIL not in page.text and "&lt;script&gt;" in page.text
        for said in ("42 events, 1 of them refused", "set broken 1 times", "no value twice in a window"):
            assert said in page.text, said
        assert 'id="violations"' in page.text and "1 of 41 values, for example i1" in page.text
        assert "events and refusals by window" in page.text and "from 0 to 10" in page.text
        today = time.strftime("%Y-%m-%d", time.gmtime(int(time.time())))
        assert (await client.get(f"/data/odd/odd?day={today}")).status_code == 200
        assert "Nothing came on 2013-07-01" in (await client.get("/data/odd/odd?day=2013-07-01")).text
        assert (await client.get("/data/odd/odd?day=yesterday")).status_code == 400
        assert (await client.get("/data/odd/none")).status_code == 404
        assert (await client.get("/data/none/odd")).status_code == 404
        assert "nothing has come yet" in (await client.get("/data")).text
        counted = 'millrace_ingestion_broken_rules_total{field="id",project="odd",rule="unique",source="odd"} 1.0'
        assert counted in (await client.get("/metrics")).text


async def test_the_command_shows_a_day(room):
    await odd_source(room)
    home = ("--home", str(room.home))
    result = await command("data", "profile", "odd", "odd", *home)
    assert result.exit_code == 0, result.output
    assert "42 events, 1 refused" in result.stdout and "unique" in result.stdout and "kind" in result.stdout
    told = json.loads((await command("data", "profile", "odd", "odd", "--json", *home)).stdout)
    size = next(field for field in told["day"]["fields"] if field["field"] == "size")
    assert (size["events"], size["nulls"], size["distinct"]) == (41, 1, 40)
    assert size["mean"] == pytest.approx(1.95) and size["quantiles"][2] == pytest.approx(1.95, rel=0.05)
    assert told["days"][-1]["events"] == 42 and told["fields"][0]["expectations"][0] == "the key"
    assert told["freshness_us"] == 1_000 and told["definition_version"] == 1
    past = await command("data", "profile", "odd", "odd", "--day", "2013-07-01", *home)
    assert past.exit_code == 0 and "nothing came from odd/odd on 2013-07-01" in past.stdout
    wrong = await command("data", "profile", "odd", "none", *home)
    assert wrong.exit_code == 1 and "declares no source none (sources: odd)" in wrong.stderr
    assert "write it as" in (await command("data", "profile", "odd", "odd", "--day", "july", *home)).stderr


async def test_an_event_may_name_the_version_that_it_was_written_by(room):
    channel = open_channel(room.grpc)
    stub = service_pb2_grpc.IngestionStub(channel)

    async def publish(number: int, event_version: int = 0, request_version: int = 0):
        one = service_pb2.DataEvent(json=b'{"sensor":"s%d","at":%d}' % (number, T0), schema_version=event_version)
        request = service_pb2.PublishRequest(project="live", source="readings", events=[one])
        request.schema_version = request_version
        return await stub.Publish(request)

    assert (await publish(1, 1)).accepted == 1
    assert (await publish(2, 0, 1)).accepted == 1
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await publish(3, 2)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE and "version 2 of live" in caught.value.details()
    await room.bus.publish([published(project(Clock.WALL, "live"), 2)])
    await until(lambda: room.process.status.snapshot().definitions["live"] == 2)
    assert (await publish(3, 2)).accepted == 1
    for impossible, said in ((-4, "is no definition version"), (900, "far beyond version 2")):
        (verdict,) = (await publish(4, impossible)).verdicts
        assert verdict.outcome == service_pb2.Verdict.QUARANTINED and said in verdict.reason
    assert [dict(r.headers)["schema_version"] for r in room.data(name="live")] == [b"1", b"1", b"2"]
    letters = [Quarantined.FromString(r.data) for r in room.bus.records("quarantine")]
    assert {(letter.rule, letter.payload[:9]) for letter in letters} == {("schema", b'{"sensor"')}
    await channel.close(None)


async def test_versions_come_by_every_door(room):
    async with httpx.AsyncClient(base_url=f"{room.http}/v1/live/readings") as client:
        named = {"millrace-schema-version": "1"}
        assert (await client.post("/events", json=reading("s1", T0), headers=named)).json()["accepted"] == 1
        lines = {"content-type": "application/x-ndjson", "millrace-schema-version": "2"}
        assert (await client.post("/files", content=b'{"sensor":"a","at":1}', headers=lines)).status_code == 503
        odd = await client.post("/events", json=reading("s2", T0), headers={"millrace-schema-version": "one"})
        assert "'one' is no definition version" in odd.json()["verdicts"][0]["reason"]

        async def cloudevent(schema: str, name: str):
            attributes = {"id": name, "type": "plant.reading.taken", "source": "/test", "specversion": "1.0"}
            message = to_binary_event(CloudEvent(attributes | {"dataschema": schema}, reading(name, T0)))
            return await client.post("/events", content=message.body, headers=dict(message.headers))

        assert (await cloudevent("millrace:live/readings/1", "c1")).json()["accepted"] == 1
        assert (await cloudevent("https://example.org/its-own.json", "c2")).json()["accepted"] == 1
        assert (await cloudevent("millrace:live/readings/2", "c3")).status_code == 503
        other = (await cloudevent("millrace:live/repairs/1", "c4")).json()
        assert "is not one of live/readings" in other["verdicts"][0]["reason"]


@pytest.fixture
async def brief_room(tmp_path):
    async with running(tmp_path, max_definition_wait_ms=300) as made:
        yield made


async def test_a_raw_record_of_a_version_that_never_comes_holds_its_topic_only_for_a_while(brief_room):
    room = brief_room
    body = b'{"sensor":"r1","at":%d}' % T0
    for number, headers in enumerate(({"schema_version": "5"}, {"schema_version": "1"}, {})):
        event = Event(f"raw-{number}", "plant.reading.taken", "test", body, extensions=headers)
        await room.bus.publish([Message("raw.live.readings", event, b"k", 0)])
    await until(lambda: len(room.data(name="live")) == 2)
    (letter,) = [Quarantined.FromString(r.data) for r in room.bus.records("quarantine")]
    assert (letter.event_id, letter.rule) == ("raw-0", "schema") and "no version 5 came in" in letter.reason
