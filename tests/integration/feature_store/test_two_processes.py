"""Two processes of the room share the partitions: either answers for all of them, also when the other was killed."""

import asyncio
import json
import os
import re
import signal
import urllib.request
import uuid

import grpc
import numpy as np
import pytest
from millrace.bus.kafka import KafkaBus
from millrace.wire.common.v1 import common_pb2, common_pb2_grpc
from millrace.wire.feature_store.v1 import service_pb2_grpc

from tests.integration.feature_store.test_process import (
    Process,
    ask_online,
    beats,
    check_snapshot,
    fake_labeling,
    publish_definition,
    slice_of,
)
from tests.support.columns import assert_same, cells_of
from tests.support.poll import until
from tests.unit.feature_store.world import MINUTE_US, START_US, shop

pytestmark = pytest.mark.stack
LAG = re.compile(
    r'millrace_consumer_lag_records\{group="feature_store.history",partition="(\d+)",room="feature_store",topic="([^"]*)"'
)
SHORT_SESSION = {"MILLRACE_KAFKA_SESSION_TIMEOUT_MS": "6000"}
ENTITIES = [f"o{step * 1000 + i}" for step in (1, 3, 6) for i in range(0, 12, 3)]


@pytest.fixture
async def rooms(stack, tmp_path):
    async with fake_labeling() as (labeling, address):
        pair = []
        for name in ("one", "two"):
            home = tmp_path / name
            home.mkdir()
            objects = {"MILLRACE_OBJECTS_URL": (tmp_path / "objects").as_uri()}
            env = os.environ | stack.env(home) | objects | SHORT_SESSION | {"MILLRACE_LABELING_ADDRESS": address}
            pair.append(Process(env, home))
            await pair[-1].start()
        yield pair, labeling
        for process in pair:
            if process.child.poll() is None:
                assert process.stop() == 0


async def test_training_sets_know_what_the_other_process_wrote(stack, rooms):
    pair, labeling = rooms
    project = shop(f"shop{uuid.uuid4().hex[:8]}")
    bus = KafkaBus(stack.kafka, "two-processes-test")
    await publish_definition(bus, project)
    rng, logged = np.random.default_rng(7), []
    try:
        for step in range(1, 9):
            at_us = START_US + step * 30 * MINUTE_US
            await bus.publish(slice_of(project.name, step, rng))
            await bus.publish(beats(project.name, at_us))
            if step == 5:
                await until(lambda: shared(pair, project.name), 60, what="both processes have partitions")
            if step == 7:
                pair[1].stop(signal.SIGKILL)
            living = pair if step < 7 else pair[:1]
            replies = [await ask_online(process.address, project.name, ENTITIES, at_us) for process in living]
            for reply in replies[1:]:
                assert_same(cells_of(replies[0], len(ENTITIES)), cells_of(reply, len(ENTITIES)))
            logged.append((at_us, replies[0]))
            for process in living:
                await until(lambda p=process, at=at_us: has_come_to(p, project.name, at), 60, what="the watermark")
            if step in (6, 8):
                labeling.examples = [(e, moment_us) for moment_us, _ in logged for e in ENTITIES]
                for process in living:
                    async with grpc.aio.insecure_channel(process.address) as channel:
                        stub = service_pb2_grpc.FeatureStoreStub(channel)
                        await check_snapshot(stub, project.name, logged, ENTITIES, at_us)
    finally:
        await bus.stop()


async def has_come_to(process: Process, project: str, at_us: int) -> bool:
    """Whether this process says so of all partitions, whoever applied them."""
    async with grpc.aio.insecure_channel(process.address) as channel:
        status = await common_pb2_grpc.RoomStub(channel).Describe(common_pb2.DescribeRequest())
    return status.watermarks_us.get(project, 0) >= at_us


async def shared(pair: list[Process], project: str) -> bool:
    """Whether each of the two writes the history of some partitions, and of none that the other writes."""
    owned = [await asyncio.to_thread(histories, process, project) for process in pair]
    return all(owned) and not owned[0] & owned[1] and len(owned[0] | owned[1]) == 4


def histories(process: Process, project: str) -> set[str]:
    """Partitions of the project's topics that the process's history has, by its own metrics."""
    address = json.loads((process.home / "run" / "feature_store.json").read_text())["http"]
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    found = [LAG.match(line) for line in lines]
    return {f"{m[2]}/{m[1]}" for m in found if m and m[2].startswith(f"data.{project}.")}
