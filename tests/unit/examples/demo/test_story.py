"""The story against rooms in this process: what it does, when, and what it keeps when it is cut off."""

import io
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import msgspec
import pytest
from millrace.bus.events import Event, Message
from millrace.bus.memory import MemoryBus
from millrace.bus.ports import TopicSpec
from millrace.client.replay import ReplayEvent
from millrace.wire.common.v1 import common_pb2, common_pb2_grpc
from millrace.wire.inference.v1 import service_pb2 as inference_pb2
from millrace.wire.inference.v1 import service_pb2_grpc as inference_grpc
from millrace.wire.ingestion.v1 import events_pb2 as ingestion_events
from millrace.wire.ingestion.v1 import service_pb2 as ingestion_pb2
from millrace.wire.ingestion.v1 import service_pb2_grpc as ingestion_grpc
from millrace.wire.monitor.v1 import service_pb2 as monitor_pb2
from millrace.wire.monitor.v1 import service_pb2_grpc as monitor_grpc
from millrace.wire.registry.v1 import events_pb2 as registry
from millrace.wire.registry.v1 import service_pb2 as registry_pb2
from millrace.wire.registry.v1 import service_pb2_grpc as registry_grpc

from examples.flights.demo import report as reporting
from examples.flights.demo.bars import Bars
from examples.flights.demo.faults import BAD_RELEASE, DELAYS_IN_SECONDS, Fault
from examples.flights.demo.platform import CommandFailed, Platform
from examples.flights.demo.report import scorer
from examples.flights.demo.story import Story, narrate
from examples.flights.demo.witness import BULK_TOPICS, STORY_TOPICS, Seen
from tests.support.onnx_models import classifier
from tests.unit.examples.demo.conftest import BAD, DAY_US, GOOD, T0, alert, label, moved, plan, prediction, run

DAYS = 4
SOURCES = ("schedule", "departures", "arrivals", "weather")
HOUR_US = 3_600_000_000
MODEL = classifier({"plan.distance": 0.001})
ROOMS = ("ingestion", "labeling", "feature_store", "trainer", "registry", "inference", "monitor")


class Rooms(
    common_pb2_grpc.RoomServicer,
    ingestion_grpc.IngestionServicer,
    registry_grpc.RegistryServicer,
    inference_grpc.InferenceServicer,
    monitor_grpc.MonitorServicer,
):
    """All rooms behind one address; what they would publish goes to `bus`."""

    def __init__(self, bus: MemoryBus) -> None:
        self.bus = bus
        self.published: list[Any] = []
        self.released_at_us = T0 + DAY_US
        self.rolled_back_at_us = 0
        self.lost_at_us = 0
        self.refusals: list[grpc.StatusCode] = []
        self.plan: Seen | None = None

    async def say(self, *events: Seen) -> None:
        """Puts events on their topics."""
        await self.bus.publish(
            [
                Message(s.topic, Event(s.event_id, "test", "rooms", s.payload.SerializeToString()), b"key")
                for s in events
            ]
        )

    async def release(self, epoch: int, version: int) -> None:
        """A new plan, on the topic and for those who ask."""
        self.plan = plan(epoch, (version, registry.Variant.CHAMPION))
        await self.say(self.plan)

    async def Describe(self, request: Any, context: Any) -> common_pb2.RoomStatus:
        return common_pb2.RoomStatus()

    async def AcquireClock(self, request: Any, context: Any) -> ingestion_pb2.ClockLease:
        return ingestion_pb2.ClockLease(lease_id="lease")

    async def ReleaseClock(self, request: Any, context: Any) -> common_pb2.Empty:
        return common_pb2.Empty()

    async def AdvanceClock(self, request: Any, context: Any) -> ingestion_pb2.ClockLease:
        if self.lost_at_us and request.now_us >= self.lost_at_us:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "the lease went to [somebody] else")
        if self.plan is None and self.released_at_us and request.now_us >= self.released_at_us:
            await self.release(1, GOOD)
        if self.rolled_back_at_us and request.now_us >= self.rolled_back_at_us:
            await self.say(moved("rolled_back", BAD, GOOD, self.rolled_back_at_us))
            await self.release(3, GOOD)
            self.rolled_back_at_us = 0
        published = [await self.Publish(arrived, context) for arrived in request.arrivals]
        return ingestion_pb2.ClockLease(lease_id="lease", now_us=request.now_us, published=published)

    async def Publish(self, request: Any, context: Any) -> ingestion_pb2.PublishReply:
        self.published += [msgspec.json.decode(event.json) for event in request.events]
        return ingestion_pb2.PublishReply(accepted=len(request.events))

    async def GetPlan(self, request: Any, context: Any) -> Any:
        if self.plan is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no release yet")
        return self.plan.payload

    async def GetArtifact(self, request: Any, context: Any) -> AsyncIterator[registry_pb2.ArtifactChunk]:
        if request.digest != f"sha256:v{GOOD}":
            await context.abort(grpc.StatusCode.NOT_FOUND, f"no artifact {request.digest}")
        for half in (MODEL[:100], MODEL[100:]):
            yield registry_pb2.ArtifactChunk(data=half)

    async def Predict(self, request: Any, context: Any) -> inference_pb2.PredictReply:
        if self.refusals:
            await context.abort(self.refusals.pop(), "full")
        return inference_pb2.PredictReply(answers=[inference_pb2.Answer(entity=i.entity) for i in request.items])

    async def Why(self, request: Any, context: Any) -> monitor_pb2.WhyReply:
        links = [monitor_pb2.ChainLink(event_id=request.event_id, summary="rolled back")]
        return monitor_pb2.WhyReply(links=links, complete=True)


class Outside(Platform):
    """The platform without its command line and ClickHouse: what was commanded is kept, and done by the rooms."""

    def __init__(self, home: Path, rooms: Rooms) -> None:
        super().__init__(home)
        self.rooms = rooms
        self.words: list[tuple[str, ...]] = []
        self.forced_s = 0.0
        self.refuses = ""

    async def command(self, *words: str) -> str:
        self.words.append(words)
        if words[0] == self.refuses:
            raise CommandFailed(f"millrace {words[0]}: no")
        if words[:2] == ("models", "push"):
            self.forced_s = time.monotonic()
            await self.rooms.say(moved("forced", BAD, GOOD, T0 + DAY_US))
            await self.rooms.release(2, BAD)
        return ""

    def count_predictions(self, project: str) -> int:
        return len(self.rooms.bus.records("predictions"))


def recorded(days: int = DAYS) -> list[ReplayEvent]:
    """Each day at noon a flight is announced for the evening, and one departs."""
    made = []
    for n in range(days):
        at = T0 + n * DAY_US + 12 * HOUR_US
        flight = {"flight_id": f"f{n}", "announced_at": at, "scheduled_departure": at + 6 * HOUR_US}
        departed = {"flight_id": f"f{n}", "departed_at": at - 1, "departure_delay": 10.0}
        made.append(ReplayEvent(at, "departures", json.dumps(departed).encode(), f"d{n}"))
        made.append(ReplayEvent(at + 1, "schedule", json.dumps(flight).encode(), f"s{n}"))
    made.append(ReplayEvent(T0 + days * DAY_US, "weather", b'{"origin": "JFK"}', "last"))
    return made


@pytest.fixture
async def rooms() -> AsyncIterator[Rooms]:
    bus = MemoryBus()
    topics = [*STORY_TOPICS, *BULK_TOPICS, *(f"data.flights.{source}" for source in SOURCES)]
    await bus.ensure_topics([TopicSpec(name) for name in topics])
    yield Rooms(bus)


@pytest.fixture
async def platform(rooms: Rooms, tmp_path: Path) -> AsyncIterator[Outside]:
    server = grpc.aio.server()
    common_pb2_grpc.add_RoomServicer_to_server(rooms, server)
    ingestion_grpc.add_IngestionServicer_to_server(rooms, server)
    registry_grpc.add_RegistryServicer_to_server(rooms, server)
    inference_grpc.add_InferenceServicer_to_server(rooms, server)
    monitor_grpc.add_MonitorServicer_to_server(rooms, server)
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    (tmp_path / "run").mkdir()
    for room in ROOMS:
        (tmp_path / "run" / f"{room}.json").write_text(json.dumps({"grpc": address, "http": "", "pid": 1}))
    yield Outside(tmp_path, rooms)
    await server.stop(None)


async def told(story: Story, bars: Bars) -> dict[str, Any]:
    """The story and its report."""
    with bars:
        witness = await story.run(story.platform.rooms.bus)  # type: ignore[attr-defined]
        with bars.phase("weighing") as step:
            return await reporting.gather(story, witness, step)


async def test_both_faults_go_in_at_their_time_and_the_rollback_is_timed_from_the_news(
    platform: Outside, rooms: Rooms, bars: Bars, screen: io.StringIO
) -> None:
    rooms.rolled_back_at_us = T0 + 2 * DAY_US
    story = Story(platform, recorded(), bars)
    found = await told(story, bars)
    happened = story.happened
    assert [words[0] for words in platform.words] == ["apply", "models"]
    row = [{"plan.distance": 700.0}]
    assert scorer((platform.home / "bad.onnx").read_bytes())(row) == pytest.approx(1 - scorer(MODEL)(row))
    assert Fault(BAD_RELEASE, T0 + DAY_US, T0 + 2 * DAY_US) in happened.faults
    assert (happened.bad_version, happened.troubles) == (BAD, [])
    assert platform.forced_s <= happened.bad_release_wall_s < happened.rollback_wall_s
    seconds = happened.rollback_wall_s - happened.bad_release_wall_s
    assert found["rollback"]["seconds_from_bad_release"] == round(seconds, 2)
    assert found["chain_complete"]
    assert [r["variants"][0]["version"] for r in found["releases"]] == [GOOD, BAD, GOOD]
    assert "version 3 → 1" in screen.getvalue()
    delays = {body["flight_id"]: body["departure_delay"] for body in rooms.published if "departed_at" in body}
    assert delays == {"f0": 10.0, "f1": 10.0, "f2": 600.0, "f3": 10.0}
    # Felt as long as the longest window over departures looks back.
    assert Fault(DELAYS_IN_SECONDS, T0 + 2 * DAY_US, T0 + 3 * DAY_US + 3 * HOUR_US) in happened.faults
    assert list(found["durations_s"]) == ["apply", "replay", "single requests", "read topics"]


async def test_requests_that_were_made_again_are_counted_and_so_are_failures(
    platform: Outside, rooms: Rooms, bars: Bars
) -> None:
    rooms.released_at_us = T0
    rooms.refusals = [grpc.StatusCode.INTERNAL, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED]
    wrong = prediction("f9", T0, 0.0, error="the model failed", answered=False)
    await rooms.say(Seen("predictions", "p", "", "", wrong))
    found = await told(Story(platform, recorded(1), bars), bars)
    assert (found["failed_requests"], found["retried_requests"], found["logged_failures"]) == (1, 2, 1)
    assert any("INTERNAL: full" in failure for failure in found["failures"])
    assert "f9: the model failed" in found["failures"]
    assert found["latency_ms"]["single"]["requests"] == 1
    assert {"no failed request", "no failure in the prediction log (predictions)"} <= set(found["missing_links"])


async def test_where_nothing_was_released_the_report_says_which_links_are_missing(
    platform: Outside, rooms: Rooms, bars: Bars, tmp_path: Path
) -> None:
    rooms.released_at_us = 0
    story = Story(platform, recorded(1), bars)
    found = await told(story, bars)
    assert story.happened.troubles == []
    assert (found["input_rows"], found["auc_by_week"], found["rollback"]) == (3, [], {})
    assert "a first release (models.releases)" in found["missing_links"]
    assert "its rollback (models.events)" in found["missing_links"]
    assert reporting.exit_status(found) == 1
    reporting.write(found, tmp_path)
    assert json.loads((tmp_path / "report.json").read_text())["missing_links"] == found["missing_links"]
    assert not (tmp_path / "bad.onnx").exists()


async def test_a_replay_that_is_cut_off_is_told_with_all_that_was_seen(
    platform: Outside, rooms: Rooms, bars: Bars, screen: io.StringIO
) -> None:
    rooms.released_at_us, rooms.lost_at_us = T0, T0 + 2 * DAY_US
    refused = ingestion_events.Quarantined(source="departures", field="departure_delay", rule="range")
    truth = label(1.0)
    truth.key.entity = "f0"
    await rooms.say(Seen("labels", "l", "", "", truth), Seen("quarantine", "q", "", "", refused))
    await rooms.say(run("r", 4))
    found = await told(Story(platform, recorded(), bars), bars)
    (trouble,) = found["troubles"]
    assert trouble["during"] == "replay"
    assert trouble["reason"].endswith("FAILED_PRECONDITION: the lease went to [somebody] else")
    assert "Traceback" in trouble["traceback"]
    assert found["events"]["labels"] == 1
    assert found["quarantined"] == {"departures.departure_delay: range": 1}
    assert found["input_rows"] > 0
    assert found["predictions"]["asked"] == 1
    assert "labels matured (labels)" not in found["missing_links"]
    assert "its rollback (models.events)" in found["missing_links"]
    assert reporting.exit_status(found) == 1
    assert "replay" in found["durations_s"] and "single requests" not in found["durations_s"]
    assert "failed    replay:" in screen.getvalue()
    assert "[somebody]" in screen.getvalue()


async def test_a_project_that_cannot_be_applied_is_not_replayed(platform: Outside, rooms: Rooms, bars: Bars) -> None:
    platform.refuses = "apply"
    found = await told(Story(platform, recorded(), bars), bars)
    assert [(t["during"], t["reason"]) for t in found["troubles"]] == [("apply", "millrace apply: no")]
    assert rooms.published == []
    assert found["input_rows"] == 0
    assert found["missing_links"][0] == "events accepted (data topics)"


async def test_a_broker_that_is_gone_ends_in_a_line_too(platform: Outside, rooms: Rooms, bars: Bars) -> None:
    story = Story(platform, recorded(1), bars)
    rooms.bus = MemoryBus()  # one that has no topics
    found = await told(story, bars)
    assert {t["during"] for t in found["troubles"]} >= {"read topics", "following the topics"}
    assert all(t["reason"].startswith("topic ") for t in found["troubles"] if t["during"] == "read topics")
    assert reporting.exit_status(found) == 1


async def test_what_is_not_answered_any_more_is_left_empty_and_told(
    platform: Outside, rooms: Rooms, bars: Bars
) -> None:
    story = Story(platform, recorded(1), bars)
    rooms.released_at_us = T0
    with bars:
        witness = await story.run(rooms.bus)
        for room in ROOMS:
            (platform.home / "run" / f"{room}.json").unlink()
        with bars.phase("weighing") as step:
            found = await reporting.gather(story, witness, step)
    assert [t["during"] for t in found["troubles"]] == ["fetching the first model"]
    assert "registry does not serve here" in found["troubles"][0]["reason"]
    assert found["auc_by_week"] == []


@pytest.mark.parametrize(
    ("seen", "line"),
    [
        (moved("released", 1), "[green]released [/] version 1: "),
        (moved("rolled_back", 3, 1), "[bold red]rollback[/]  version 3 → 1: "),
        (alert("a", "drift", subject="plan.origin", reason="in [0, 1)"), "[yellow]alert[/]     drift on plan.origin: "),
        (run("0123456789", 5), "[blue]refused  [/] run 01234567: "),
        (run("0123456789", 2), ""),
        (moved("gated", 1), ""),
        (plan(1), ""),
    ],
)
def test_what_is_worth_a_line_gets_one(seen: Seen, line: str) -> None:
    said = narrate(seen)
    assert said.startswith(line)
    assert bool(said) is bool(line)
