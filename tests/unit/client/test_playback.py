"""A playback against rooms in this process: what it calls, in which order, and what it leaves out."""

import asyncio

import grpc
import pytest
from millrace.client.addresses import ROOMS, Addresses, RoomAddress
from millrace.client.errors import CallFailed, RoomUnknown
from millrace.client.playback import Hooks, Playback
from millrace.client.replay import Pace, ReplayEvent
from millrace.wire.common.v1 import common_pb2, common_pb2_grpc
from millrace.wire.inference.v1 import service_pb2 as inference_pb2
from millrace.wire.inference.v1 import service_pb2_grpc as inference_grpc
from millrace.wire.ingestion.v1 import service_pb2 as ingestion_pb2
from millrace.wire.ingestion.v1 import service_pb2_grpc as ingestion_grpc
from millrace.wire.registry.v1 import events_pb2 as registry_pb2
from millrace.wire.registry.v1 import service_pb2_grpc as registry_grpc

from tests.unit.client.conftest import SLICE, T0


class Platform(
    common_pb2_grpc.RoomServicer,
    ingestion_grpc.IngestionServicer,
    registry_grpc.RegistryServicer,
    inference_grpc.InferenceServicer,
):
    """All rooms behind one address. `log` holds what they were asked for, in order."""

    def __init__(self):
        self.log = []
        self.now_us = 0
        self.held = False
        self.released_from_us = 0
        self.plan_failures = []
        self.described = 0
        self.failing = ""
        self.away = False
        self.refusals = 0
        self.lost_at_us = 0
        self.refuses_release = grpc.StatusCode.OK

    async def Describe(self, request, context):
        self.described += 1
        return common_pb2.RoomStatus(handled_records=len(self.log))

    async def AcquireClock(self, request, context):
        self.held = True
        return ingestion_pb2.ClockLease(lease_id="lease")

    async def AdvanceClock(self, request, context):
        if self.lost_at_us and request.now_us >= self.lost_at_us:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "the lease went to somebody else")
        published = [await self.Publish(arrived, context) for arrived in request.arrivals]
        self.now_us = request.now_us
        self.log.append(("clock", request.now_us))
        return ingestion_pb2.ClockLease(lease_id="lease", now_us=request.now_us, published=published)

    async def ReleaseClock(self, request, context):
        if self.refuses_release is not grpc.StatusCode.OK:
            await context.abort(self.refuses_release, "no such lease")
        self.held = False
        return common_pb2.Empty()

    async def Publish(self, request, context):
        self.log.append(("publish", [event.id for event in request.events]))
        return ingestion_pb2.PublishReply(accepted=len(request.events))

    async def GetPlan(self, request, context):
        if self.plan_failures:
            await context.abort(self.plan_failures.pop(), "not now")
        if self.now_us < self.released_from_us:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no release yet")
        self.log.append(("plan", request.model))
        return registry_pb2.ServingPlan(variants=[registry_pb2.Variant(version=1)])

    async def Predict(self, request, context):
        if self.refusals:
            self.refusals -= 1
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "full")
        if self.away:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "nothing loaded")
        self.log.append(("predict", [(item.entity, item.moment_us) for item in request.items]))
        answers = [inference_pb2.Answer(error="unknown" * (item.entity == self.failing)) for item in request.items]
        return inference_pb2.PredictReply(answers=answers)

    def said(self, kind):
        """What was logged of one kind."""
        return [fact for name, fact in self.log if name == kind]


@pytest.fixture
async def platform():
    made = Platform()
    server = grpc.aio.server()
    for wire, room in ((common_pb2_grpc, "Room"), (ingestion_grpc, "Ingestion")):
        getattr(wire, f"add_{room}Servicer_to_server")(made, server)
    registry_grpc.add_RegistryServicer_to_server(made, server)
    inference_grpc.add_InferenceServicer_to_server(made, server)
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    made.addresses = Addresses({room: RoomAddress(address, "") for room in ROOMS})
    yield made
    await server.stop(None)


@pytest.fixture
def events(announced):
    """Four slices: each announces, in its first half, the parcel of the next boundary."""
    return [
        ReplayEvent(at, "schedule", announced(f"p{n}", T0 + n * SLICE), f"e{n}")
        for n, at in ((n, T0 + (n - 1) * SLICE + 1) for n in range(1, 5))
    ]


def playback(platform, project, events, **options):
    return Playback(platform.addresses, project, events, pace=Pace(SLICE, 2 * SLICE), **options)


async def test_predictions_are_asked_for_once_a_release_is_there(platform, project, events):
    platform.released_from_us = T0 + 2 * SLICE
    outcome = await playback(platform, project, events).run(T0, T0 + 4 * SLICE)
    # p2 is due at the barrier at which the release is found, and passes unasked like p1.
    assert platform.said("predict") == [[("p3", T0 + 3 * SLICE)], [("p4", T0 + 4 * SLICE)]]
    assert (outcome.asked, outcome.skipped, outcome.failures) == (2, 2, [])
    assert (outcome.progress.events, outcome.progress.accepted) == (4, 4)
    assert len(outcome.latencies_s) == 2
    assert platform.said("plan") == [project.model.name]  # found once, not asked for again
    assert not platform.held


async def test_where_a_release_is_there_already_the_first_moment_is_asked_for(platform, project, events):
    outcome = await playback(platform, project, events).run(T0, T0 + 4 * SLICE)
    assert platform.said("predict") == [[(f"p{n}", T0 + n * SLICE)] for n in range(1, 5)]
    assert (outcome.asked, outcome.skipped) == (4, 0)


@pytest.mark.parametrize("released", [True, False])
async def test_what_is_due_at_the_start_was_an_earlier_playbacks(platform, project, announced, events, released):
    platform.released_from_us = 0 if released else T0 + 9 * SLICE
    early = ReplayEvent(T0 + 2, "schedule", announced("later", T0 + 3 * SLICE), "early")  # known before, due after
    outcome = await playback(platform, project, [events[0], early, *events[1:]]).run(T0 + 2 * SLICE, T0 + 4 * SLICE)
    assert outcome.progress.events == 2
    assert (outcome.asked, outcome.skipped) == ((3, 0) if released else (0, 3))
    asked = [entity for request in platform.said("predict") for entity, _ in request]
    assert asked == (["later", "p3", "p4"] if released else [])


@pytest.mark.parametrize("lost", [grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.UNAVAILABLE])
async def test_a_lease_that_cannot_be_given_back_hides_nothing(platform, project, events, lost, caplog):
    platform.lost_at_us, platform.refuses_release = T0 + 2 * SLICE, lost
    async with asyncio.timeout(30):  # not the minute that other calls have
        with pytest.raises(CallFailed, match=r"advance the clock.*somebody else"):
            await playback(platform, project, events).run(T0, T0 + 4 * SLICE)
    assert "the lease runs out by itself: release the clock" in caplog.text


async def test_a_finished_playback_stays_finished_when_the_lease_is_gone(platform, project, events):
    platform.refuses_release = grpc.StatusCode.FAILED_PRECONDITION
    assert (await playback(platform, project, events).run(T0, T0 + 4 * SLICE)).asked == 4


async def test_a_slice_is_published_then_its_time_is_told_then_its_moments_are_asked(platform, project, events):
    await playback(platform, project, events[:3]).run(T0, T0 + 4 * SLICE)
    slice_three = platform.log.index(("publish", ["e3"]))
    assert platform.log[slice_three : slice_three + 3] == [
        ("publish", ["e3"]),
        ("clock", T0 + 3 * SLICE),
        ("predict", [("p3", T0 + 3 * SLICE)]),
    ]


async def test_without_a_release_nobody_is_asked(platform, project, events):
    platform.released_from_us = T0 + 9 * SLICE
    outcome = await playback(platform, project, events, free_running=True).run(T0, T0 + 4 * SLICE)
    assert (outcome.asked, outcome.skipped, platform.said("predict")) == (0, 4, [])


async def test_at_rest_runs_at_each_barrier_with_the_clock_held(platform, project, events):
    seen = []

    async def at_rest(now_us):
        seen.append((now_us, platform.now_us, platform.held, platform.described > 0))
        return False

    await playback(platform, project, events, hooks=Hooks(at_rest=at_rest)).run(T0, T0 + 4 * SLICE)
    assert seen == [(T0 + n * SLICE, T0 + n * SLICE, True, True) for n in (2, 4)]


@pytest.mark.parametrize("acted", [True, False])
async def test_the_clock_waits_for_what_the_hook_set_going(platform, project, events, acted):
    described = []

    async def at_rest(now_us):
        described.append(platform.described)
        return acted

    await playback(platform, project, events, hooks=Hooks(at_rest=at_rest)).run(T0, T0 + 4 * SLICE)
    assert len(described) == 2
    assert (platform.described > described[-1]) is acted


async def test_free_running_leaves_the_rests_out_but_not_the_hooks(platform, project, events):
    seen, slices = [], []

    async def at_rest(now_us):
        seen.append(now_us)
        return True

    hooks = Hooks(on_progress=lambda progress: slices.append(progress.now_us), at_rest=at_rest)
    outcome = await playback(platform, project, events, hooks=hooks, free_running=True).run(T0, T0 + 4 * SLICE)
    assert platform.described == 0
    assert seen == [T0 + 2 * SLICE, T0 + 4 * SLICE]
    assert slices == [T0 + n * SLICE for n in range(1, 5)]
    assert outcome.asked == 4


async def test_failed_answers_and_failed_requests_name_the_entity(platform, project, events):
    platform.failing = "p3"
    outcome = await playback(platform, project, events, free_running=True).run(T0, T0 + 4 * SLICE)
    assert outcome.failures == ["p3: unknown"]
    platform.away = True
    outcome = await playback(platform, project, events, free_running=True).run(T0, T0 + 4 * SLICE)
    assert [failure.split(":")[0] for failure in outcome.failures] == ["p1", "p2", "p3", "p4"]
    assert all("nothing loaded" in failure for failure in outcome.failures)


async def test_attempts_made_again_are_counted_apart_from_failures(platform, project, events):
    platform.refusals = 3
    outcome = await playback(platform, project, events, free_running=True).run(T0, T0 + 4 * SLICE)
    assert (outcome.asked, outcome.failures, outcome.retried) == (4, [], 3)


async def test_what_was_done_until_it_ended_early_can_be_read(platform, project, events):
    platform.lost_at_us, platform.failing, platform.refusals = T0 + 4 * SLICE, "p2", 1
    seen = []
    cut = playback(platform, project, events, hooks=Hooks(on_progress=lambda progress: seen.append(progress.slices)))
    assert cut.outcome is None
    with pytest.raises(CallFailed, match="somebody else"):
        await cut.run(T0, T0 + 4 * SLICE)
    assert (cut.outcome.asked, cut.outcome.failures, cut.outcome.retried) == (3, ["p2: unknown"], 1)
    assert len(cut.outcome.latencies_s) == 3
    assert cut.outcome.progress.slices == 3
    assert seen == [1, 2, 3]


async def test_a_registry_that_restarts_is_waited_for(platform, project, events):
    platform.plan_failures = [grpc.StatusCode.UNAVAILABLE] * 2
    outcome = await playback(platform, project, events, free_running=True).run(T0, T0 + 4 * SLICE)
    assert outcome.asked == 4


async def test_what_goes_wrong_ends_the_playback_and_gives_the_clock_back(platform, project, events):
    platform.plan_failures = [grpc.StatusCode.PERMISSION_DENIED]
    with pytest.raises(CallFailed, match="read the serving plan: PERMISSION_DENIED"):
        await playback(platform, project, events, free_running=True).run(T0, T0 + 4 * SLICE)
    assert not platform.held


async def test_a_room_that_does_not_serve_is_named(project):
    with pytest.raises(RoomUnknown, match="inference"):
        await Playback(Addresses({}), project, []).run(T0, T0)
