"""Following definitions and clocks."""

import asyncio
import contextlib

import pytest
from millrace.bus.errors import BusUnavailable
from millrace.bus.events import Event, Message
from millrace.bus.memory import MemoryBus
from millrace.definitions.canonical import to_canonical_json
from millrace.definitions.model import Clock
from millrace.runtime.clock import ClockBook, wall_us
from millrace.runtime.definitions import DefinitionBook
from millrace.wire.common.v1.common_pb2 import ClockTick
from millrace.wire.registry.v1.events_pb2 import DefinitionPublished

from tests.support.poll import until
from tests.unit.ingestion.world import project


def message(topic, key, payload):
    return Message(topic, Event(f"{topic}-{key}", "t", "test", payload), key.encode())


def published(one, version, text=None):
    body = DefinitionPublished(project=one.name, version=version, canonical_json=text or to_canonical_json(one))
    return message("definitions", one.name, body.SerializeToString())


@pytest.fixture
async def bus():
    from millrace.bus.ports import TopicSpec

    made = MemoryBus()
    await made.ensure_topics([TopicSpec("definitions", compact=True), TopicSpec("clocks", compact=True)])
    return made


@contextlib.asynccontextmanager
async def following(*books):
    tasks = [asyncio.create_task(book.run()) for book in books]
    for book in books:
        await book.wait_ready(5)
    yield
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_the_newest_definition_runs_and_old_ones_are_kept(bus):
    book, heard = DefinitionBook(bus), []

    async def listen(name, definition):
        heard.append((name, definition.version if definition else None))
        if heard.count(("plant", 2)) == 1 and definition and definition.version == 2:
            raise BusUnavailable("once")

    book.on_change(listen)
    await bus.publish([published(project(), 1)])
    async with following(book):
        assert book.versions() == {"plant": 1} and book.projects["plant"].project == project()
        await bus.publish([published(project(Clock.WALL), 2), published(project(), 1)])
        await until(lambda: book.versions() == {"plant": 2} and heard.count(("plant", 2)) == 2)
        assert book.version("plant", 1).project == project()
        await bus.publish([published(project(), 3, "{}")])
        await until(lambda: "plant" in book.problem)
        assert book.versions() == {"plant": 2}
        await bus.publish([message("definitions", "plant", b"")])
        await until(lambda: book.versions() == {} and not book.problem)
    assert heard[-1] == ("plant", None)


async def test_a_replayed_clock_is_its_last_tick_and_all_others_the_wall(bus):
    definitions = DefinitionBook(bus)
    clocks = ClockBook(bus, definitions)
    ticks = []

    async def listen(name, now_us):
        ticks.append((name, now_us))

    clocks.on_tick(listen)
    await bus.publish([published(project(), 1), published(project(Clock.WALL, "live"), 1)])
    async with following(definitions, clocks):
        assert clocks.now_us("plant") == 0
        assert abs(clocks.now_us("live") - wall_us()) < 5_000_000
        await bus.publish([message("clocks", "plant", ClockTick(project="plant", now_us=7).SerializeToString())])
        await until(lambda: clocks.now_us("plant") == 7)
    assert ticks == [("plant", 7)]
