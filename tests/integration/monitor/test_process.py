"""The room as a process: starts over real Kafka, says what it is, and leaves nothing running."""

import asyncio
import json
import os
import signal
import sys

import grpc
import pytest
from millrace.wire.common.v1.common_pb2 import DescribeRequest
from millrace.wire.common.v1.common_pb2_grpc import RoomStub
from millrace.wire.monitor.v1.service_pb2 import ListAlertsRequest, WhyRequest
from millrace.wire.monitor.v1.service_pb2_grpc import MonitorStub

from tests.support.poll import until

pytestmark = pytest.mark.stack


async def test_it_starts_answers_and_drains(stack, tmp_path):
    environment = {**os.environ, **stack.env(tmp_path)}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.monitor", env=environment, stderr=asyncio.subprocess.PIPE
    )
    said = asyncio.create_task(process.stderr.read())
    run_file = tmp_path / "run" / "monitor.json"
    try:
        await until(lambda: run_file.exists() or process.returncode is not None, 60)
        addresses = json.loads(run_file.read_text())
        async with grpc.aio.insecure_channel(addresses["grpc"]) as channel:

            async def is_ready():
                status = await RoomStub(channel).Describe(DescribeRequest())
                return status.ready and status.lag_records == 0 and status.room == "monitor"

            await until(is_ready, 30)
            assert list((await MonitorStub(channel).ListAlerts(ListAlertsRequest())).alerts) == []
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await MonitorStub(channel).Why(WhyRequest(event_id="nobody"))
            assert refused.value.code() == grpc.StatusCode.NOT_FOUND
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 20) == 0, (await said).decode()
        assert not run_file.exists()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
