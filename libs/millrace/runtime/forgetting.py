"""Every room follows the topic `data.forget`: it deletes what it holds of the entity, says so, and lets no reader of
old records bring it back."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from millrace.runtime.book import TopicBook
from millrace.runtime.forgotten import Forgotten
from millrace.wire.ingestion.v1 import forgetting_pb2
from millrace.wire.ingestion.v1.forgetting_pb2 import Forget, ForgetReceipt, StoreReceipt, Superseded

if TYPE_CHECKING:
    from millrace.bus.events import Message, Record
    from millrace.bus.ports import Bus

log = logging.getLogger(__name__)
TOPIC = "data.forget"
RECEIPTS = "data.forgotten"
PATIENCE_S = 60.0  # of one wait for the topic's end; it is waited for again


@dataclass(slots=True)
class Obeyed:
    """What a room did: per store what was deleted and when its bytes are gone; snapshots that were rewritten."""

    stores: list[StoreReceipt] = field(default_factory=list)
    snapshots: list[Superseded] = field(default_factory=list)

    def add(self, store: str, deleted: int, gone_by_us: int, how: str) -> None:
        """One store's account; `store` reads `room: what`."""
        self.stores.append(StoreReceipt(store=store, deleted=deleted, gone_by_us=gone_by_us, how=how))


Obey = Callable[[Forget], Awaitable[Obeyed]]


class ForgetBook(TopicBook):
    """Requests as last published. `obey` is called for each phase of each, again after a failure and after a restart:
    it must be idempotent."""

    def __init__(self, bus: Bus, room: str, obey: Obey, now_us: Callable[[], int], replica: str = "") -> None:
        super().__init__(bus, TOPIC)
        self._bus = bus
        self._room = room
        self._obey = obey
        self._now_us = now_us
        self._replica = replica or room
        self._waiting: dict[str, None] = {}
        self._woken = asyncio.Event()
        self._troubles: dict[str, str] = {}
        self.forgotten = Forgotten()

    @property
    def problem(self) -> str:
        """Why a request could not be obeyed yet; "" when none waits for its next try."""
        return next(iter(self._troubles.values()), "")

    @property
    def busy(self) -> int:
        """Requests that are being obeyed or wait for it."""
        return len(self._waiting)

    async def run(self) -> None:
        """Follows the topic until cancelled; it is made where it does not exist yet, since old records wait for it."""
        from millrace.bus.backoff import Backoff
        from millrace.bus.errors import BusUnavailable
        from millrace.bus.topics import load_topics

        backoff = Backoff()
        wanted = [spec for spec in load_topics().static() if spec.name in (TOPIC, RECEIPTS)]
        while True:
            try:
                await self._bus.ensure_topics(wanted)
                break
            except BusUnavailable as error:
                log.warning("the topic %s: %s", TOPIC, error)
                await backoff.wait()
        await super().run()

    async def caught_up(self) -> None:
        """Returns when everything that was asked before this process started is known: old records may be read."""
        from millrace.bus.errors import NotReady

        while not self.ready:
            try:
                await self.wait_ready(PATIENCE_S)
            except NotReady as error:
                log.warning("old records wait: %s", error)

    def after(self, run: Callable[[], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
        """`run`, begun once it is known what was forgotten."""

        async def begin() -> None:
            await self.caught_up()
            await run()

        return begin

    async def obey_all(self) -> None:
        """Obeys what is asked until cancelled. What cannot be obeyed yet does not hold up the others."""
        from millrace.bus.backoff import Backoff

        backoff = Backoff()
        while True:
            while not self._waiting:
                self._woken.clear()
                await self._woken.wait()
            request_id = next(iter(self._waiting))
            request = self.forgotten.get(request_id)
            try:
                if request is not None:
                    await self._obey_one(request)
            except Exception as error:
                reason = f"{request_id}: {type(error).__name__}: {error}"
                log.warning("forgetting waits: %s", reason, exc_info=True)
                if request_id in self._waiting:  # else it was withdrawn meanwhile
                    self._troubles[request_id] = reason
                    del self._waiting[request_id]
                    self._waiting[request_id] = None  # behind the others
                if self._troubles.keys() >= self._waiting.keys():
                    self._woken.clear()
                    await backoff.wait(self._woken)
                continue
            self._troubles.pop(request_id, None)
            backoff.reset()
            if self.forgotten.get(request_id) is request:  # else it has moved on, and is obeyed again
                self._waiting.pop(request_id, None)

    async def _obey_one(self, request: Forget) -> None:
        done = await self._obey(request)
        if request.phase == Forget.DONE:
            return
        receipt = ForgetReceipt(
            id=request.id,
            room=self._room,
            replica=self._replica,
            phase=request.phase,
            stores=done.stores,
            snapshots=done.snapshots,
            answered_us=self._now_us(),
        )
        await self._bus.publish([receipt_message(receipt)])

    async def _apply(self, record: Record) -> None:
        request_id = (record.key or b"").decode()
        if not record.data:
            self.forgotten.drop(request_id)
            self._waiting.pop(request_id, None)
            self._troubles.pop(request_id, None)
            return
        request = forgetting_pb2.Forget.FromString(record.data)
        known = self.forgotten.get(request.id)
        if known is not None and known.phase >= request.phase and known.sealed_us >= request.sealed_us:
            return
        self.forgotten.put(request)
        self._waiting[request.id] = None
        self._woken.set()


def receipt_message(receipt: ForgetReceipt) -> Message:
    """A room's answer on the bus; the same answer has the same id."""
    from millrace.bus.events import Event, Message, derive_id, event_type

    cause = f"{receipt.id}/{receipt.room}/{receipt.replica}/{receipt.phase}/{receipt.answered_us}"
    event = Event(
        id=derive_id(cause, "forgetting.receipt"),
        type=event_type(receipt.room, "entity", "forgotten"),
        source=f"millrace/{receipt.room}",
        data=receipt.SerializeToString(),
        subject=receipt.id,
        time_us=receipt.answered_us,
        causation_id=receipt.id,
    )
    return Message(RECEIPTS, event, key=receipt.id.encode())
