"""Publish data events and know that they are safe: accepted means acknowledged by the broker."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Coroutine, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import islice
from types import TracebackType
from typing import Any, TypeVar

import msgspec

from millrace.client.calls import call_with_retries
from millrace.runtime.channels import open_channel
from millrace.wire.ingestion.v1 import service_pb2, service_pb2_grpc

T = TypeVar("T")
JsonEvent = bytes | str | Mapping[str, Any] | service_pb2.DataEvent
BATCH_EVENTS = 500  # about 150 kB of JSON: large enough to hide the round trip, small enough to answer soon
MAX_IN_FLIGHT = 8  # batches of one producer on the way at once; the next `publish` waits


@dataclass(slots=True)
class PublishResult:
    """Counts, and a verdict for each event that was not plainly accepted, in the order published."""

    accepted: int = 0
    duplicates: int = 0
    quarantined: int = 0
    verdicts: list[service_pb2.Verdict] = field(default_factory=list)

    @property
    def events(self) -> int:
        """How many events were judged."""
        return self.accepted + self.duplicates + self.quarantined

    @classmethod
    def of(cls, reply: service_pb2.PublishReply) -> PublishResult:
        """The outcome of one batch."""
        result = cls()
        result.add(reply)
        return result

    def add(self, reply: service_pb2.PublishReply | PublishResult) -> None:
        """Adds another batch's outcome."""
        self.accepted += reply.accepted
        self.duplicates += reply.duplicates
        self.quarantined += reply.quarantined
        self.verdicts.extend(reply.verdicts)


class Producer:
    """Async producer of one project. Repeats are safe: an event without id gets one derived from its content.

    Batches of one `publish` call go one after the other, so events of one key keep their order; calls for different
    sources may run at once.
    """

    def __init__(
        self, address: str, project: str, *, batch_events: int = BATCH_EVENTS, deadline_s: float = 60.0, token: str = ""
    ) -> None:
        self._channel = open_channel(address, token=token)
        self._stub: Any = service_pb2_grpc.IngestionStub(self._channel)
        self._project = project
        self._batch_events = batch_events
        self._deadline_s = deadline_s
        self._slots = asyncio.Semaphore(MAX_IN_FLIGHT)

    async def __aenter__(self) -> Producer:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.close()

    async def publish(self, source: str, events: Iterable[JsonEvent]) -> PublishResult:
        """Publishes events of one source; waits while too many batches are on the way. Raises CallFailed."""
        result = PublishResult()
        waiting = iter(events)
        while batch := [_data_event(event) for event in islice(waiting, self._batch_events)]:
            result.add(await self._send(source, batch))
        return result

    async def close(self) -> None:
        """Closes the channel."""
        await self._channel.close(None)

    async def _send(self, source: str, batch: list[service_pb2.DataEvent]) -> service_pb2.PublishReply:
        request = service_pb2.PublishRequest(project=self._project, source=source, events=batch)
        async with self._slots:
            return await call_with_retries(
                f"publish to {self._project}/{source}",
                lambda remaining_s: self._stub.Publish(request, timeout=remaining_s),
                self._deadline_s,
            )


class SyncProducer:
    """The same for programs without an event loop: a loop of its own in a thread."""

    def __init__(self, address: str, project: str, **options: Any) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="millrace-producer", daemon=True)
        self._thread.start()
        self._producer = self._wait(_make(address, project, options))

    def __enter__(self) -> SyncProducer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def publish(self, source: str, events: Iterable[JsonEvent]) -> PublishResult:
        """As Producer.publish, blocking."""
        return self._wait(self._producer.publish(source, events))

    def close(self) -> None:
        """Closes the channel and ends the thread."""
        self._wait(self._producer.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


@asynccontextmanager
async def producers(address: str, project: str, count: int, **options: Any) -> AsyncIterator[list[Producer]]:
    """Several producers, each on a connection of its own."""
    made = [Producer(address, project, **options) for _ in range(count)]
    try:
        yield made
    finally:
        for producer in made:
            await producer.close()


async def _make(address: str, project: str, options: dict[str, Any]) -> Producer:
    return Producer(address, project, **options)


def _data_event(event: JsonEvent) -> service_pb2.DataEvent:
    if isinstance(event, service_pb2.DataEvent):
        return event
    if isinstance(event, str):
        return service_pb2.DataEvent(json=event.encode())
    return service_pb2.DataEvent(json=event if isinstance(event, bytes) else msgspec.json.encode(event))
