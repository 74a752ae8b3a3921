"""One leased replay drives a project's clock through recorded time, in bounded slices.

A slice: publish what became available in it, move the clock to its end (heartbeats reach every partition), ask for the
predictions of that moment. At every barrier the whole platform comes to rest, so that what is released when does not
depend on the machine's speed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

from millrace.client.batching import BATCH_EVENTS
from millrace.client.calls import call_with_retries
from millrace.client.errors import CallFailed
from millrace.client.producer import Producer, PublishResult
from millrace.runtime.channels import open_channel
from millrace.wire.ingestion.v1 import service_pb2, service_pb2_grpc

log = logging.getLogger(__name__)

LEASE_TTL_MS = 30_000
_CALL_DEADLINE_S = 60.0
NOTHING: Mapping[str, Sequence[service_pb2.DataEvent]] = MappingProxyType({})
_RELEASE_DEADLINE_S = 2.0  # a lease that was not given back runs out by itself
OnTime = Callable[[int], Awaitable[Any]]


class ReplayEvent(NamedTuple):
    """One recorded event: when it became available (microseconds), its source, its JSON, its id."""

    available_us: int
    source: str
    json: bytes
    id: str = ""


@dataclass(frozen=True, slots=True)
class Pace:
    """Widths in microseconds of project time; a barrier is a whole number of slices."""

    slice_us: int
    barrier_us: int

    def __post_init__(self) -> None:
        if self.slice_us <= 0 or self.barrier_us <= 0 or self.barrier_us % self.slice_us:
            raise ValueError("a barrier must be a whole number of slices, and both positive")


@dataclass(slots=True)
class Progress:
    """How far a replay is."""

    now_us: int
    slices: int = 0
    events: int = 0
    accepted: int = 0
    duplicates: int = 0
    quarantined: int = 0


class Replay:
    """Publishes `events` (sorted by `available_us`) and drives the clock from `start_us` to `end_us`.

    `on_slice(now_us)` runs after each move of the clock, `wait_quiet(now_us)` at each barrier, with the clock held.
    `next_moment(after_us)` says when `on_slice` next has something to do (None: never again): stretches with neither
    events nor moments are then crossed in one step, never past a barrier; without it no slice is left out.
    Events available at or before `start_us` are skipped, so a replay that was cut off is resumed from its last time.
    """

    def __init__(
        self,
        address: str,
        project: str,
        events: Iterable[tuple[int, str, bytes, str]],
        pace: Pace,
        *,
        on_slice: OnTime,
        wait_quiet: OnTime,
        next_moment: Callable[[int], int | None] | None = None,
        on_progress: Callable[[Progress], None] | None = None,
        holder: str = "replay",
        token: str = "",
    ) -> None:
        self._address = address
        self._project = project
        self._events = _Lookahead(events)
        self._pace = pace
        self._on_slice = on_slice
        self._wait_quiet = wait_quiet
        self._next_moment = next_moment
        self._on_progress = on_progress or (lambda progress: None)
        self._holder = holder
        self._token = token

    async def run(self, start_us: int, end_us: int) -> Progress:
        """Replays (start, end] and gives the lease back. The clock may not be past the first slice's end already.

        Raises CallFailed (also when somebody else holds the lease), NotQuiet, and whatever the callbacks raise.
        """
        self._check_aligned(start_us, end_us)
        self._events.skip(start_us)
        progress = Progress(start_us)
        clock = _Clock(self._address, self._project, self._token)
        async with Producer(self._address, self._project, token=self._token) as producer, clock.held(self._holder):
            await clock.reach(start_us)
            while progress.now_us < end_us:
                await self._slice(producer, clock, progress, end_us)
        return progress

    async def _slice(self, producer: Producer, clock: _Clock, progress: Progress, end_us: int) -> None:
        now_us = min(self._slice_end(progress.now_us), end_us)
        for result in await self._play(producer, clock, now_us):
            progress.events += result.events
            progress.accepted += result.accepted
            progress.duplicates += result.duplicates
            progress.quarantined += result.quarantined
        await self._on_slice(now_us)
        if now_us % self._pace.barrier_us == 0 or now_us == end_us:
            await self._wait_quiet(now_us)
        progress.now_us = now_us
        progress.slices += 1
        self._on_progress(progress)

    def _slice_end(self, now_us: int) -> int:
        """The next slice boundary that matters: never past a barrier, an event's slice or a moment's."""
        slice_us, barrier_us = self._pace.slice_us, self._pace.barrier_us
        if self._next_moment is None:
            return now_us + slice_us
        ends = [(now_us // barrier_us + 1) * barrier_us]
        for due_us in (self._events.next_us, self._next_moment(now_us)):
            if due_us is not None:
                ends.append(max(now_us + slice_us, -(-due_us // slice_us) * slice_us))
        return min(ends)

    async def _play(self, producer: Producer, clock: _Clock, until_us: int) -> list[PublishResult]:
        """Usually one call: what arrived travels with the move of the clock. What is too much for that goes first."""
        arrived: dict[str, list[service_pb2.DataEvent]] = {}
        for event in self._events.take(until_us):
            made = service_pb2.DataEvent(id=event.id, json=event.json, available_us=event.available_us)
            arrived.setdefault(event.source, []).append(made)
        results: list[PublishResult] = []
        if sum(map(len, arrived.values())) > BATCH_EVENTS:
            results = await asyncio.gather(*(producer.publish(source, events) for source, events in arrived.items()))
            arrived = {}
        return [*results, *await clock.advance(until_us, arrived)]

    def _check_aligned(self, start_us: int, end_us: int) -> None:
        if start_us % self._pace.slice_us or end_us % self._pace.slice_us or end_us < start_us:
            raise ValueError("a replay starts and ends on slice boundaries, and ends after it starts")


class _Lookahead:
    """The sorted events, one read ahead. ValueError when they are not sorted."""

    def __init__(self, events: Iterable[tuple[int, str, bytes, str]]) -> None:
        self._rest = iter(events)
        self._next: ReplayEvent | None = None
        self._advance()

    @property
    def next_us(self) -> int | None:
        """When the next event becomes available; None at the end."""
        return self._next.available_us if self._next else None

    def take(self, until_us: int) -> Iterator[ReplayEvent]:
        """Events available at or before `until_us`."""
        while self._next is not None and self._next.available_us <= until_us:
            yield self._next
            self._advance()

    def skip(self, until_us: int) -> None:
        """Drops events available at or before `until_us`."""
        for _ in self.take(until_us):
            pass

    def _advance(self) -> None:
        before = self._next
        found = next(self._rest, None)
        self._next = ReplayEvent(*found) if found is not None else None
        if before is not None and self._next is not None and self._next.available_us < before.available_us:
            raise ValueError(f"events are not sorted: {self._next.available_us} after {before.available_us}")


class _Clock:
    """The lease on a project's clock, renewed while it is held, also through long barriers."""

    def __init__(self, address: str, project: str, token: str) -> None:
        self._channel = open_channel(address, token=token)
        self._stub: Any = service_pb2_grpc.IngestionStub(self._channel)
        self._project = project
        self._lease_id = ""
        self._now_us = 0
        self._moving = asyncio.Lock()

    @contextlib.asynccontextmanager
    async def held(self, holder: str) -> AsyncIterator[service_pb2.ClockLease]:
        """Takes the lease for the block. Raises CallFailed (FAILED_PRECONDITION names the holder)."""
        request = service_pb2.AcquireClockRequest(project=self._project, holder=holder, ttl_ms=LEASE_TTL_MS)
        try:
            lease = await self._call("acquire the clock", self._stub.AcquireClock, request)
            self._lease_id, self._now_us = lease.lease_id, lease.now_us
            renewing = asyncio.create_task(self._renew())
            try:
                yield lease
            finally:
                renewing.cancel()
                for failure in await asyncio.gather(renewing, return_exceptions=True):
                    if isinstance(failure, Exception):
                        log.warning("renewing the lease failed: %s", failure)  # the next advance says it again
                await self._release()
        finally:
            await self._channel.close(None)

    async def _release(self) -> None:
        """Never in the way of what ended the block: a failure is only logged."""
        request = service_pb2.ReleaseClockRequest(project=self._project, lease_id=self._lease_id)
        try:
            await self._call("release the clock", self._stub.ReleaseClock, request, _RELEASE_DEADLINE_S)
        except CallFailed as error:
            log.warning("the lease runs out by itself: %s", error)

    async def reach(self, now_us: int) -> None:
        """As `advance`, but a clock that is later stays where it is."""
        if self._now_us < now_us:
            await self.advance(now_us)

    async def advance(
        self, now_us: int, arrived: Mapping[str, Sequence[service_pb2.DataEvent]] = NOTHING
    ) -> list[PublishResult]:
        """Moves the clock behind what arrived, source by source; heartbeats are out when this returns. A result per
        source. Raises CallFailed."""
        async with self._moving:
            return await self._move(now_us, arrived)

    async def _move(
        self, now_us: int, arrived: Mapping[str, Sequence[service_pb2.DataEvent]] = NOTHING
    ) -> list[PublishResult]:
        request = service_pb2.AdvanceClockRequest(
            project=self._project,
            lease_id=self._lease_id,
            now_us=now_us,
            arrivals=[service_pb2.Arrivals(source=source, events=events) for source, events in arrived.items()],
        )
        lease = await self._call("advance the clock", self._stub.AdvanceClock, request)
        self._now_us = now_us
        return [PublishResult.of(reply) for reply in lease.published]

    async def _renew(self) -> None:
        """An advance to the present time only renews; without it a long barrier would lose the lease."""
        while True:
            await asyncio.sleep(LEASE_TTL_MS / 3_000)
            async with self._moving:  # the present time is read under the lock: an older one would be refused
                if self._now_us:
                    await self._move(self._now_us)

    async def _call(
        self, what: str, method: Callable[..., Awaitable[Any]], request: Any, deadline_s: float = _CALL_DEADLINE_S
    ) -> Any:
        return await call_with_retries(
            f"{what} of {self._project}", lambda remaining_s: method(request, timeout=remaining_s), deadline_s
        )
