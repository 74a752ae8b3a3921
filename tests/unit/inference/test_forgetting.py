"""Forgetting in inference's spool: the entity's records are not told, and the files that held them are deleted."""

import asyncio

import pytest
from millrace.bus.memory import MemoryBroker, MemoryBus
from millrace.bus.ports import TopicSpec
from millrace.runtime.errors import Unavailable
from millrace.runtime.forgotten import Forgotten, entity_digest
from millrace.wire.inference.v1.events_pb2 import Prediction
from millrace.wire.ingestion.v1.forgetting_pb2 import Forget, Identity

from services.inference.adapters import spool_forgetting
from services.inference.adapters.log_records import SpooledLog
from services.inference.adapters.log_relay import LogRelay
from services.inference.adapters.log_spool import Spool
from services.inference.adapters.spool_forgetting import SpoolForgetting
from services.inference.ports import LogRecord

SEALED_US = 1_000


def request(phase: int = Forget.ASKED) -> Forget:
    """As ingestion asks."""
    example = Identity(source="s", field="f", entity="ann-lee", digest=entity_digest(b"s", "ann-lee"), cut_us=50)
    return Forget(id="1", project="shop", phase=phase, salt=b"s", sealed_us=SEALED_US, example=example)


def record(entity: str, number: int, moment_us: int = 10, answered_us: int = 900) -> LogRecord:
    """One answered prediction."""
    return LogRecord(
        prediction_id=f"p{number}", request_id="r", project="shop", entity=entity, moment_us=moment_us, model="m",
        version=1, role="champion", answered=True, error="", outputs=[0.5], inputs={}, ages_us={}, missing=[],
        answered_us=answered_us, latency_us=1, epoch=1, as_of_us=0, door="key", causation_id="", traceparent="",
    )  # fmt: skip


class World:
    """A spool with its relay, not running, over a memory bus."""

    def __init__(self, folder) -> None:
        self.folder = folder
        self.bus = MemoryBus(MemoryBroker())
        self.spool = Spool(folder, segment_bytes=10_000, max_bytes=100_000)
        self.spool.open()
        self.forgotten = Forgotten()
        self.relay = LogRelay(self.spool, self.bus, source="i", batch_records=2, forgotten=self.forgotten)
        self.log = SpooledLog(self.spool, self.relay.wake)
        self.forgetting = SpoolForgetting(self.spool, self.relay, lambda: 7)

    def told(self) -> list[str]:
        return [Prediction.FromString(r.data).key.entity for r in self.bus.records("predictions")]

    def on_disk(self) -> int:
        return sum(path.read_bytes().count(b"ann-lee") for path in self.folder.glob("*.log"))


@pytest.fixture
async def world(tmp_path):
    made = World(tmp_path)
    await made.bus.ensure_topics([TopicSpec("predictions", 1)])
    yield made
    made.spool.close()


async def test_what_waits_in_the_spool_is_neither_told_nor_kept(world):
    world.log.append([record("ann-lee", 1), record("bob", 2), record("ann-lee", 3), record("cyd", 4)])
    assert world.on_disk()
    world.forgotten.put(request())
    running = asyncio.ensure_future(world.relay.run())
    try:
        (store,) = (await world.forgetting.obey(request())).stores
        assert store.store == "inference: spool"
        assert world.told() == ["bob", "cyd"]
        assert world.on_disk() == 0
        world.log.append([record("ann-lee", 5, moment_us=60, answered_us=SEALED_US + 1)])
        await world.relay.drain()
        assert world.told() == ["bob", "cyd", "ann-lee"], "a later moment, asked later: a new life"
    finally:
        running.cancel()


async def test_what_was_told_already_leaves_the_disk_too(world):
    world.log.append([record("ann-lee", 1)])
    await world.relay.drain()
    assert world.on_disk(), "the segment that is written to stays until it is full"
    world.forgotten.put(request())
    running = asyncio.ensure_future(world.relay.run())
    try:
        await world.forgetting.obey(request())
        assert world.on_disk() == 0
        assert (await world.forgetting.obey(request(Forget.DONE))).stores == []
    finally:
        running.cancel()


async def test_a_spool_that_nobody_empties_is_not_said_to_be_empty(world, monkeypatch):
    monkeypatch.setattr(spool_forgetting, "PATIENCE_S", 0.2)
    world.log.append([record("ann-lee", 1)])
    with pytest.raises(Unavailable, match="1 records wait"):
        await world.forgetting.obey(request())
