"""The gRPC door, over a real server on the loopback."""

import grpc
import pytest
from millrace.runtime.doors import grpc_errors
from millrace.wire.trainer.v1 import service_pb2, service_pb2_grpc
from millrace.wire.trainer.v1.events_pb2 import RunEvent, TrainingRequest

from services.trainer.entrypoints.rpc import TrainerDoor
from tests.unit.trainer.world import START_US


@pytest.fixture
async def trainer(world):
    server = grpc.aio.server(interceptors=[grpc_errors()])
    service_pb2_grpc.add_TrainerServicer_to_server(TrainerDoor(world.desk), server)
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
