"""Publish data events and know that they are safe: accepted means acknowledged by the broker, spooled on the disk."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Coroutine, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import msgspec

from millrace.client.batching import BATCH_BYTES, BATCH_EVENTS, cut
from millrace.client.calls import call_with_retries
from millrace.client.errors import CallFailed
from millrace.client.pipeline import Pipeline
from millrace.client.spool import MAX_BYTES, Spool
from millrace.runtime.channels import open_channel, outgoing_metadata
from millrace.wire.ingestion.v1 import service_pb2, service_pb2_grpc

log = logging.getLogger(__name__)

T = TypeVar("T")
JsonEvent = bytes | str | Mapping[str, Any] | service_pb2.DataEvent
DEADLINE_S = 60.0
SPOOL_AFTER_S = 2.0  # with a spool: what the platform has not taken by then goes to the disk
HAND_OVER_S = 10.0  # nobody waits for what was spooled: a slow platform may take longer over it
LONGEST_PAUSE_S = 30.0  # between attempts to hand over what waits on the disk
MAX_IN_FLIGHT = 8  # calls of one producer on the way at once; the next `publish` waits


@dataclass(slots=True)
class PublishResult:
    """Counts, and a verdict for each event that was not plainly accepted, in the order published. What was `spooled`
    has no verdict yet."""

    accepted: int = 0
    duplicates: int = 0
    quarantined: int = 0
    spooled: int = 0
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

    Batches of one `publish` call go one behind the other, over one stream where there are several, so events of one key
    keep their order; calls for different sources may run at once. `tls_ca` is a file of the certificates (PEM) that the
    platform's is checked against; without it nothing is encrypted.

    With a folder for `spool`, what the platform does not take within `deadline_s` is written to a file there and handed
    over, in its order, when the platform is back, by this producer or by the next one on the same folder: nothing is
    lost while the platform is away. A spooled event without `available_us` becomes visible when it is handed over.
    `handed_over` counts what became of them, `problem` says why the platform does not take them. Raises SpoolTaken when
    another producer has the folder.
    """

    def __init__(
        self,
        address: str,
        project: str,
        *,
        batch_events: int = BATCH_EVENTS,
        deadline_s: float | None = None,
        token: str = "",
        tls_ca: Path | None = None,
        spool: Path | None = None,
        spool_max_bytes: int = MAX_BYTES,
    ) -> None:
        root = tls_ca.read_bytes() if tls_ca is not None else None
        self._channel = open_channel(address, root_certificates=root, secure=root is not None, is_bare=True)
        self._token = token
        self._stub: Any = service_pb2_grpc.IngestionStub(self._channel)
        self._project = project
        self._batch_events = batch_events
        self._deadline_s = deadline_s if deadline_s is not None else SPOOL_AFTER_S if spool else DEADLINE_S
        self._slots = asyncio.Semaphore(MAX_IN_FLIGHT)
        self._spool = Spool(spool / f"{project}.db", spool_max_bytes) if spool else None
        self._spooled, self._empty = asyncio.Event(), asyncio.Event()
        self._emptying: asyncio.Task[None] | None = None
        self.handed_over = PublishResult()
        self.problem = ""

    @property
    def waiting(self) -> int:
        """Events on the disk that the platform has not taken yet."""
        return self._spool.waiting if self._spool else 0

    async def __aenter__(self) -> Producer:
        self._hand_over()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.close()

    async def publish(self, source: str, events: Iterable[JsonEvent]) -> PublishResult:
        """Publishes events of one source; waits while too many batches are on the way. Raises CallFailed, SpoolFull."""
        result = PublishResult()
        batches = self._batches(events)
        first = next(batches, None)
        if first is None:
            return result
        second = None if self.waiting else next(batches, None)
        left = iter([first]) if second is None else await self._stream(source, chain((first, second), batches), result)
        for batch in chain(left, batches):
            await self._publish(source, batch, result)
        return result

    def _batches(self, events: Iterable[JsonEvent]) -> Iterator[list[service_pb2.DataEvent]]:
        return cut(map(_data_event, events), _size, self._batch_events, BATCH_BYTES)

    async def _publish(self, source: str, batch: list[service_pb2.DataEvent], result: PublishResult) -> None:
        """One batch by a call of its own, or onto the disk."""
        if self.waiting:  # behind those that came before
            self._put_aside(source, batch, result)
            return
        try:
            result.add(await self._send(source, batch))
        except CallFailed as error:
            if self._spool is None or error.is_lasting:
                raise
            self._put_aside(source, batch, result)

    async def _stream(
        self, source: str, batches: Iterator[list[service_pb2.DataEvent]], result: PublishResult
    ) -> Iterator[list[service_pb2.DataEvent]]:
        """Many batches over one stream; returns those that nobody took, which then go to the disk."""
        pipeline = Pipeline(self._what(source), self._open_stream, self._deadline_s)
        try:
            async with self._slots:
                async for reply in pipeline.run(self._request(source, batch) for batch in batches):
                    result.add(reply)
        except CallFailed as error:
            if self._spool is None or error.is_lasting:
                raise
            for request in pipeline.unanswered:
                self._put_aside(source, list(request.events), result)
        return batches

    def _open_stream(self) -> Any:
        return self._stub.PublishStream(metadata=outgoing_metadata(self._token))

    def _what(self, source: str) -> str:
        return f"publish to {self._project}/{source}"

    def _request(self, source: str, batch: list[service_pb2.DataEvent]) -> service_pb2.PublishRequest:
        return service_pb2.PublishRequest(project=self._project, source=source, events=batch)

    async def flush(self, deadline_s: float) -> bool:
        """Whether the platform took everything that waited on the disk, within the deadline."""
        self._hand_over()
        try:
            async with asyncio.timeout(deadline_s):
                while self.waiting:
                    await self._empty.wait()
        except TimeoutError:
            return False
        return True

    async def close(self) -> None:
        """Closes the channel; what waits on the disk stays there."""
        if self._emptying is not None:
            self._emptying.cancel()
            await asyncio.wait([self._emptying])
        await self._channel.close(None)
        if self._spool is not None:
            self._spool.close()

    def _put_aside(self, source: str, batch: list[service_pb2.DataEvent], result: PublishResult) -> None:
        assert self._spool is not None
        self._spool.add(source, batch)
        result.spooled += len(batch)
        self._hand_over()

    def _hand_over(self) -> None:
        """Sees to it that somebody hands over what waits on the disk, if anything does."""
        if not self.waiting:
            return
        self._empty.clear()
        self._spooled.set()
        if self._emptying is not None and self._emptying.done():
            self._emptying.result()  # it only ends by a failure of the disk
        if self._emptying is None:
            self._emptying = asyncio.create_task(self._empty_spool(), name="millrace spool")

    async def _empty_spool(self) -> None:
        assert self._spool is not None
        pause_s = SPOOL_AFTER_S / 4
        while True:
            await self._spooled.wait()
            head = self._spool.head(self._batch_events, BATCH_BYTES)
            if head is None:
                self._spooled.clear()
                self._empty.set()
                continue
            try:
                self.handed_over.add(await self._send(head.source, head.events, max(self._deadline_s, HAND_OVER_S)))
            except CallFailed as error:
                self.problem = str(error)
                log.warning("%d events wait on the disk: %s", self.waiting, error)
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
                continue
            self._spool.remove(head)
            self.problem, pause_s = "", SPOOL_AFTER_S / 4

    async def _send(
        self, source: str, batch: list[service_pb2.DataEvent], deadline_s: float = 0.0
    ) -> service_pb2.PublishReply:
        request = self._request(source, batch)
        async with self._slots:
            return await call_with_retries(
                self._what(source),
                lambda remaining_s: self._stub.Publish(
                    request, timeout=remaining_s, metadata=outgoing_metadata(self._token)
                ),
                deadline_s or self._deadline_s,
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

    @property
    def waiting(self) -> int:
        """As Producer.waiting."""
        return self._producer.waiting

    def flush(self, deadline_s: float) -> bool:
        """As Producer.flush, blocking."""
        return self._wait(self._producer.flush(deadline_s))

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
    return await Producer(address, project, **options).__aenter__()


def _size(event: service_pb2.DataEvent) -> int:
    return len(event.json)


def _data_event(event: JsonEvent) -> service_pb2.DataEvent:
    if isinstance(event, service_pb2.DataEvent):
        return event
    if isinstance(event, str):
        return service_pb2.DataEvent(json=event.encode())
    return service_pb2.DataEvent(json=event if isinstance(event, bytes) else msgspec.json.encode(event))
