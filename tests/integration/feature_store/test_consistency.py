"""The consistency check in a room of its own on the real stack: asked by gRPC, CLI, page and metric."""

import asyncio
import json
import os
import struct
import subprocess
import sys
import urllib.request
import uuid

import grpc
import numpy as np
import pytest
import redis.asyncio
from millrace.bus.kafka import KafkaBus
from millrace.wire.feature_store.v1 import service_pb2, service_pb2_grpc

from tests.integration.feature_store.test_process import (
    Process,
    ask_online,
    beats,
    fake_labeling,
    publish_definition,
    slice_of,
)
from tests.support.poll import until
from tests.unit.feature_store.world import MINUTE_US, START_US, shop

pytestmark = pytest.mark.stack
EVERYTHING = {
    "MILLRACE_FEATURE_STORE_CONSISTENCY_SHARE": "1",
    "MILLRACE_FEATURE_STORE_CONSISTENCY_READS_PER_S": "1000",
    "MILLRACE_FEATURE_STORE_CONSISTENCY_EVERY_S": "0.2",
    "MILLRACE_FEATURE_STORE_CONSISTENCY_SETTLE_S": "1",
}
ENTITIES = [f"o{1000 + i}" for i in range(0, 24, 3)]
SLICES = 6
ROW_HEADER_BYTES, AMOUNT = 24, struct.Struct("<d")  # the first number of a row of the view `order`


@pytest.fixture
async def room(stack, tmp_path):
    async with fake_labeling() as (_, address):
        process = Process(
            os.environ | stack.env(tmp_path) | EVERYTHING | {"MILLRACE_LABELING_ADDRESS": address}, tmp_path
        )
        await process.start()
        yield process, tmp_path
        if process.child.poll() is None:
            assert process.stop() == 0


async def test_reads_equal_history_until_the_store_is_altered(stack, room):
    process, home = room
    project = shop(f"shop{uuid.uuid4().hex[:8]}")
    bus = KafkaBus(stack.kafka, "consistency-test")
    await publish_definition(bus, project)
    rng = np.random.default_rng(11)
    try:
        for step in range(1, SLICES + 1):
            at_us = START_US + step * 30 * MINUTE_US
            await bus.publish(slice_of(project.name, step, rng))
            await bus.publish(beats(project.name, at_us))
            await ask_online(process.address, project.name, ENTITIES, at_us)
    finally:
        await bus.stop()
    async with grpc.aio.insecure_channel(process.address) as channel:
        stub = service_pb2_grpc.FeatureStoreStub(channel)
        whole = await finished(stub, project.name, SLICES * len(ENTITIES))
        assert sum(row.mismatch + row.missing + row.extra for row in whole.rows) == 0
        assert sum(row.compared for row in whole.rows) == SLICES * len(ENTITIES) * len(project.model.inputs)
        assert {row.day for row in whole.rows} == {"1970-02-11"}
        assert await command(home, project.name) == 0

        entity = await altered_amount(stack.redis, project.name)
        await ask_online(process.address, project.name, [entity], at_us)
        found = await finished(stub, project.name, SLICES * len(ENTITIES) + 1)
    assert {row.feature for row in found.rows if row.mismatch} == {"order.amount"}
    [example] = found.examples
    assert (example.entity, example.outcome, example.as_of_us) == (entity, "mismatch", at_us)
    assert example.online.value.number == pytest.approx(example.offline.value.number * 1.01)
    assert await command(home, project.name) == 1
    page = await asyncio.to_thread(fetch, home, f"/consistency/{project.name}")
    assert "1 of " in page and entity in page and "order.amount" in page
    assert f'"/consistency/{project.name}"' in await asyncio.to_thread(fetch, home, "/consistency")
    counted = f'consistency_cells_total{{feature="order.amount",outcome="mismatch",project="{project.name}"}} 1.0'
    assert counted in await asyncio.to_thread(fetch, home, "/metrics")


async def finished(stub, project: str, reads: int) -> service_pb2.ConsistencyReply:
    """The report once so many reads are checked and none waits."""
    last: list[service_pb2.ConsistencyReply] = []

    async def done() -> bool:
        last[:] = [await stub.Consistency(service_pb2.ConsistencyRequest(project=project))]
        assert (last[0].checked_reads, last[0].pending_reads) == (reads, 0), last[0]
        return True

    await until(done, 60, what=f"{reads} reads are checked")
    assert (last[0].skipped_reads, last[0].dropped_reads) == (0, 0)
    return last[0]


async def altered_amount(url: str, project: str) -> str:
    """Adds 1 % to what the online store holds as the amount of one order, as a faulty transform would; returns it."""
    client = redis.asyncio.from_url(url)
    try:
        keys = sorted([key async for key in client.scan_iter(f"millrace:{{{project}/orders/*}}:order@1:of:o10*", 1000)])
        for key in keys:
            row = await client.get(key)
            [amount] = AMOUNT.unpack_from(row, ROW_HEADER_BYTES)
            if amount > 0 and (entity := key.decode().rsplit(":", 1)[1]) in ENTITIES:
                altered = AMOUNT.pack(amount * 1.01)
                await client.set(key, row[:ROW_HEADER_BYTES] + altered + row[ROW_HEADER_BYTES + AMOUNT.size :])
                return entity
    finally:
        await client.aclose()
    raise AssertionError("no order with an amount")


async def command(home, project: str) -> int:
    """Exit status of `millrace features consistency`."""
    words = [sys.executable, "-m", "millrace.cli", "features", "consistency", project, "--home", str(home)]
    ran = await asyncio.to_thread(subprocess.run, words, capture_output=True, text=True, timeout=60, check=False)
    assert "checked" in ran.stdout, ran.stderr
    return ran.returncode


def fetch(home, path: str) -> str:
    address = json.loads((home / "run" / "feature_store.json").read_text())["http"]
    with urllib.request.urlopen(f"http://{address}{path}", timeout=10) as answer:
        return answer.read().decode()
