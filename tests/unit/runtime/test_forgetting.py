"""Obeying requests to forget: each is tried until it is done, and none holds up the others."""

import asyncio

from millrace.bus.events import Event, Message
from millrace.bus.memory import MemoryBus
from millrace.runtime.errors import Unavailable
from millrace.runtime.forgetting import RECEIPTS, TOPIC, ForgetBook, Obeyed
from millrace.wire.ingestion.v1.forgetting_pb2 import Forget, ForgetReceipt

from tests.support.poll import until


class Room:
    """Obeys, but not yet those of a project that it does not know."""

    def __init__(self) -> None:
        self.unknown = {"strange"}
        self.tried: list[str] = []

    async def obey(self, request: Forget) -> Obeyed:
        self.tried.append(request.id)
        if request.project in self.unknown:
            raise Unavailable(f"the definition of {request.project} has not been read yet")
        done = Obeyed()
        done.add("room: rows", 1, 5, "deleted")
        return done


def asked(request_id: str, project: str) -> Message:
    request = Forget(id=request_id, project=project, phase=Forget.ASKED)
    return Message(TOPIC, Event(f"forget-{request_id}", "t", "test", request.SerializeToString()), request_id.encode())


def receipts(bus: MemoryBus) -> list[str]:
    return [ForgetReceipt.FromString(record.data).id for record in bus.records(RECEIPTS)]


async def test_a_request_that_cannot_be_obeyed_yet_does_not_hold_up_the_others():
    bus, room = MemoryBus(), Room()
    book = ForgetBook(bus, "room", room.obey, lambda: 7)
    tasks = [asyncio.ensure_future(run()) for run in (book.run, book.obey_all)]
    try:
        await book.caught_up()
        await bus.publish([asked("a", "strange"), asked("b", "shop"), asked("c", "shop")])
        await until(lambda: receipts(bus) == ["b", "c"], 10)
        assert book.busy == 1
        assert book.problem.startswith("a: Unavailable: the definition of strange")
        tries = room.tried.count("a")
        await until(lambda: room.tried.count("a") > tries, 10)
        room.unknown.clear()
        await until(lambda: not book.busy, 10)
        assert book.problem == ""
        assert receipts(bus) == ["b", "c", "a"]
        assert room.tried.count("b") == room.tried.count("c") == 1
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_request_that_is_withdrawn_while_it_is_tried_leaves_no_trouble_behind():
    bus, room = MemoryBus(), Room()
    tried, go_on = asyncio.Event(), asyncio.Event()

    async def obey(request: Forget) -> Obeyed:
        tried.set()
        await go_on.wait()
        return await room.obey(request)

    book = ForgetBook(bus, "room", obey, lambda: 7)
    tasks = [asyncio.ensure_future(run()) for run in (book.run, book.obey_all)]
    try:
        await book.caught_up()
        await bus.publish([asked("a", "strange")])
        await tried.wait()
        await bus.publish([Message(TOPIC, Event("withdrawn", "t", "test", b""), b"a")])
        await until(lambda: not book.busy, 10)
        go_on.set()
        await bus.publish([asked("b", "shop")])
        await until(lambda: receipts(bus) == ["b"], 10)
        assert book.problem == ""
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
