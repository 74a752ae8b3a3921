"""The gRPC door, over a real server on the loopback."""

import grpc
import pytest
from millrace.runtime.doors import grpc_errors
from millrace.wire.trainer.v1 import service_pb2, service_pb2_grpc
from millrace.wire.trainer.v1.events_pb2 import RunEvent, TrainingRequest, TrainingSwitch

from services.trainer.domain.scheduler import Request, Trigger
from services.trainer.entrypoints.rerun import Reruns
from services.trainer.entrypoints.rpc import TrainerDoor
from services.trainer.entrypoints.workshop import Workshop
from services.trainer.handlers import MOST_TOLD, look_again
from tests.unit.trainer.world import START_US, FakeFeatures, FakeJobs, FakeRegistry


@pytest.fixture
async def trainer(world, tmp_path):
    server = grpc.aio.server(interceptors=[grpc_errors()])
    shop = Workshop(FakeFeatures(), FakeRegistry(), FakeJobs(), tmp_path, "1.0", threads=1, patience_s=5.0)
    service_pb2_grpc.add_TrainerServicer_to_server(TrainerDoor(world.desk, Reruns(world.desk, shop)), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield service_pb2_grpc.TrainerStub(channel)
    await server.stop(None)


async def test_a_request_by_hand_is_published_and_becomes_a_run(world, trainer):
    reply = await trainer.RequestRun(TrainingRequest(project="pumps", reason="I want it"))
    [event] = await world.published("training.requests")
    assert event.id == reply.request_id and event.actor == "local"
    request = TrainingRequest.FromString(event.data)
    assert (request.trigger, request.asked_us, request.reason) == (TrainingRequest.MANUAL, START_US, "I want it")
    listed = (await trainer.ListRuns(service_pb2.ListRunsRequest(project="pumps"))).runs
    assert [(run.state, list(run.triggers)) for run in listed] == [(RunEvent.QUEUED, ["manual"])]
    run = await trainer.GetRun(service_pb2.GetRunRequest(run_id=listed[0].run_id))
    assert list(run.request_ids) == [reply.request_id] and run.asked_us == START_US


async def test_that_the_data_are_accepted_is_on_the_topic_and_on_the_run(world, trainer):
    await trainer.RequestRun(TrainingRequest(project="pumps", accept_data=True))
    [event] = await world.published("training.requests")
    assert TrainingRequest.FromString(event.data).accept_data
    async with world.runs.read() as book:
        [run] = await book.newest_runs("pumps", 1, unfinished_only=False)
        assert run.accept_data and (await book.requests_of(run.run_id))[0].accept_data


async def test_who_asks_is_who_the_caller_says_where_nobody_has_to_prove_it(world, trainer):
    await trainer.RequestRun(TrainingRequest(project="pumps", actor="ada"))
    [event] = await world.published("training.requests")
    assert event.actor == "ada"


async def test_what_does_not_exist_is_not_found(trainer):
    for call in (
        trainer.RequestRun(TrainingRequest(project="nothing")),
        trainer.GetRun(service_pb2.GetRunRequest(run_id="nothing")),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call
        assert refused.value.code() is grpc.StatusCode.NOT_FOUND


async def test_unfinished_runs_can_be_asked_for_alone(trainer):
    await trainer.RequestRun(TrainingRequest(project="pumps"))
    request = service_pb2.ListRunsRequest(unfinished_only=True, limit=1)
    assert len((await trainer.ListRuns(request)).runs) == 1


async def test_what_is_switched_off_refuses_a_person_holds_what_asks_and_goes_on_when_it_is_on_again(world, trainer):
    off = await trainer.SwitchTraining(TrainingSwitch(project="pumps", off=True, reason="costs", actor="ana"))
    assert (off.off, off.actor) == (True, "ana")
    words = "training of pumps is switched off by ana: costs; `millrace training on pumps` switches it on again"
    with pytest.raises(grpc.aio.AioRpcError, match=words) as refused:
        await trainer.RequestRun(TrainingRequest(project="pumps"))
    assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    for number in range(3):
        await world.ask(TrainingRequest.DRIFT, START_US - 10 * 3_600_000_000 + number, f"drift-{number}")
    await look_again(world.desk)
    assert not (await trainer.ListRuns(service_pb2.ListRunsRequest())).runs
    held = await trainer.ListWaiting(service_pb2.ListWaitingRequest())
    assert [w.request_id for w in held.waiting] == ["drift-0", "drift-1", "drift-2"]
    assert {w.waits_for for w in held.waiting} == {"training of pumps is switched off by ana: costs"}
    assert world.runs.off == "training of pumps is switched off by ana: costs"
    await trainer.SwitchTraining(TrainingSwitch(project="pumps", off=False, actor="bo"))
    [run] = (await trainer.ListRuns(service_pb2.ListRunsRequest())).runs
    assert list(run.request_ids) == ["drift-0", "drift-1", "drift-2"]
    assert run.asked_us == START_US, "as of now, not of when it was asked for"
    assert not (await trainer.ListWaiting(service_pb2.ListWaitingRequest(project="pumps"))).total
    assert world.runs.off == ""
    told = [(e.actor, TrainingSwitch.FromString(e.data)) for e in await world.published("training.switches")]
    assert [(actor, s.project, s.off, s.reason) for actor, s in told] == [
        ("ana", "pumps", True, "costs"),
        ("bo", "pumps", False, ""),
    ]


async def test_all_training_is_one_switch_and_each_project_keeps_its_own(world, trainer):
    await trainer.SwitchTraining(TrainingSwitch(project="*", off=True, reason="an incident"))
    await trainer.SwitchTraining(TrainingSwitch(project="pumps", off=True, reason="its upstream"))
    off = (await trainer.ListSwitches(service_pb2.ListSwitchesRequest())).switches
    assert [(switch.project, switch.reason) for switch in off] == [("*", "an incident"), ("pumps", "its upstream")]
    await trainer.SwitchTraining(TrainingSwitch(project="*", off=False))
    with pytest.raises(grpc.aio.AioRpcError, match="its upstream"):
        await trainer.RequestRun(TrainingRequest(project="pumps"))


@pytest.mark.parametrize(
    ("change", "code", "says"),
    [
        (TrainingSwitch(project="nothing", off=True, reason="x"), grpc.StatusCode.NOT_FOUND, "no project nothing"),
        (TrainingSwitch(project="pumps", off=True), grpc.StatusCode.INVALID_ARGUMENT, "give a reason"),
    ],
)
async def test_a_switch_that_says_too_little_changes_nothing(trainer, change, code, says):
    with pytest.raises(grpc.aio.AioRpcError, match=says) as refused:
        await trainer.SwitchTraining(change)
    assert refused.value.code() is code
    assert not (await trainer.ListSwitches(service_pb2.ListSwitchesRequest())).switches


async def test_of_a_storm_a_run_names_people_and_the_newest_and_counts_all(world, trainer):
    await trainer.SwitchTraining(TrainingSwitch(project="pumps", off=True, reason="a storm is coming"))
    async with world.runs.transaction() as book:
        for number in range(MOST_TOLD + 50):
            await book.add_request(Request(f"drift-{number:04}", "pumps", Trigger.DRIFT, START_US - 10**9 + number))
        await book.add_request(Request("by-hand", "pumps", Trigger.MANUAL, START_US - 10**10))
    await trainer.SwitchTraining(TrainingSwitch(project="pumps", off=False))
    [event] = await world.run_events()
    assert (event.requests, len(event.request_ids)) == (MOST_TOLD + 51, MOST_TOLD)
    assert {event.request_ids[0], event.request_ids[-1]} == {"by-hand", f"drift-{MOST_TOLD + 49:04}"}
    [listed] = (await trainer.ListRuns(service_pb2.ListRunsRequest())).runs
    assert (listed.requests, len(listed.request_ids), listed.request_ids[0]) == (MOST_TOLD + 51, 100, "by-hand")


async def test_a_project_that_is_gone_can_be_switched_on_again(world, trainer):
    await trainer.SwitchTraining(TrainingSwitch(project="pumps", off=True, reason="costs"))
    world.definitions.projects = {}
    await trainer.SwitchTraining(TrainingSwitch(project="pumps", off=False))
    assert world.runs.off == ""


async def test_a_run_that_is_not_there_is_not_made_again(trainer):
    with pytest.raises(grpc.aio.AioRpcError, match="no run r9") as refused:
        async for _ in trainer.Rerun(service_pb2.RerunRequest(run_id="r9")):
            pass
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND
