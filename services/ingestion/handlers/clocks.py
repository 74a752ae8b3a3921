"""The desk of the clocks: one lease per replayed project, and what happens when time moves."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from millrace.bus.events import Message
from millrace.bus.ports import Bus
from millrace.runtime.errors import Unavailable

from services.ingestion.errors import ClockMovedBack, NoSuchLease
from services.ingestion.handlers import messages
from services.ingestion.handlers.judge import Judged
from services.ingestion.handlers.lanes import Lane, Outcome
from services.ingestion.ports import ClockRow, Ledger

Origin = tuple[str, str]  # (actor, traceparent)
Arrivals = Mapping[str, Sequence[Judged]]
"""Source to its events that became available since the clock last moved."""


class ClockDesk:
    """Gives leases and moves clocks. `lanes_of` names a project's lanes; times are microseconds."""

    def __init__(
        self, bus: Bus, ledger: Ledger, lanes_of: Callable[[str], Iterable[Lane]], wall_us: Callable[[], int]
    ) -> None:
        self._bus = bus
        self._ledger = ledger
        self._lanes_of = lanes_of
        self._wall_us = wall_us
        self._rows: dict[str, ClockRow] = {}
        self._ttl_ms: dict[str, int] = {}
        self._moving: dict[str, asyncio.Lock] = {}

    async def open(self) -> None:
        """Reads the clocks that were kept, with their leases."""
        self._rows = {row.project: row for row in await self._ledger.clocks()}

    def now_us(self, project: str) -> int:
        """The replayed project's clock; 0 before its first move."""
        row = self._rows.get(project)
        return row.now_us if row else 0

    async def acquire(self, project: str, holder: str, ttl_ms: int) -> ClockRow:
        """A fresh lease. Raises ClockHeld, which names the holder, while another one has not run out."""
        async with self._lock(project):
            wall_us = self._wall_us()
            wanted = ClockRow(project, 0, str(uuid.uuid4()), holder, wall_us + ttl_ms * 1_000)
            row = self._rows[project] = await self._ledger.lease(wanted, wall_us)
            self._ttl_ms[project] = ttl_ms
            return row

    async def advance(self, project: str, lease_id: str, now_us: int) -> ClockRow:
        """`play` without events."""
        row, _ = await self.play(project, lease_id, now_us, {})
        return row

    async def play(
        self, project: str, lease_id: str, now_us: int, arrivals: Arrivals, origin: Origin = ("", "")
    ) -> tuple[ClockRow, dict[str, list[Outcome]]]:
        """Appends `arrivals` and moves the clock: when this returns, heartbeats are on every partition behind them, the
        windows that ended are accounted for, and the tick is out. At the present time the lease is renewed, and
        nothing is told. Outcomes are in the order of each source's events.

        Raises NoSuchLease, ClockMovedBack, LaneFull, Unavailable; after a failure the same call may be repeated.
        """
        async with self._lock(project):
            row = self._held(project, lease_id)
            if now_us < row.now_us:
                raise ClockMovedBack(f"the clock of {project} is at {row.now_us}, which is after {now_us}")
            expires_us = self._wall_us() + self._ttl_ms.get(project, 30_000) * 1_000
            moved = replace(row, now_us=now_us, expires_us=expires_us)
            lanes = self._open_lanes(project, arrivals)
            if now_us > row.now_us:
                outcomes = await self._tell(moved, lanes, arrivals, origin)
            else:
                outcomes = await _append(lanes, arrivals, origin)
            await self._ledger.move(moved, open_windows(self._lanes_of(project)) if now_us > row.now_us else {})
            self._rows[project] = moved
            return moved, outcomes

    async def release(self, project: str, lease_id: str) -> None:
        """Gives the lease back. Raises NoSuchLease."""
        async with self._lock(project):
            row = self._held(project, lease_id)
            await self._ledger.release(project, lease_id)
            self._rows[project] = replace(row, lease_id="", holder="", expires_us=0)

    async def _tell(
        self, row: ClockRow, lanes: Mapping[str, Lane], arrivals: Arrivals, origin: Origin
    ) -> dict[str, list[Outcome]]:
        outcomes: dict[str, list[Outcome]] = {}
        if any(lane.ends_window(row.now_us) for lane in lanes.values()):
            # A window is accounted for before the time is told, and over all that came in it.
            outcomes, arrivals = await _append(lanes, arrivals, origin), {}
            for lane in lanes.values():
                lane.roll(row.now_us)
        tick = messages.clock_tick(row.project, row.now_us, row.lease_id)
        told, _, _ = await asyncio.gather(
            _append(lanes, {name: arrivals.get(name, ()) for name in lanes}, origin, row.now_us),
            self._bus.publish([tick]),
            publish_closed_windows(self._bus, lanes.values()),
        )
        return told | outcomes

    def _open_lanes(self, project: str, arrivals: Arrivals) -> dict[str, Lane]:
        """All of the project's. Raises LaneFull when one has no room for what arrived, Unavailable when one closed
        since its events were judged."""
        lanes = {lane.name: lane for lane in self._lanes_of(project)}
        closed = sorted(arrivals.keys() - lanes.keys())
        if closed:
            raise Unavailable(f"{project} has just been given a definition without {', '.join(closed)}: repeat")
        for name, events in arrivals.items():
            lanes[name].require_room(events)
        return lanes

    def _held(self, project: str, lease_id: str) -> ClockRow:
        row = self._rows.get(project)
        if row is None or not row.lease_id or row.lease_id != lease_id:
            holder = f"; {row.holder} holds it" if row and row.holder else ""
            raise NoSuchLease(f"the lease on the clock of {project} is not yours (any more){holder}")
        return row

    def _lock(self, project: str) -> asyncio.Lock:
        return self._moving.setdefault(project, asyncio.Lock())


async def _append(
    lanes: Mapping[str, Lane], arrivals: Arrivals, origin: Origin, then_us: int = 0
) -> dict[str, list[Outcome]]:
    outcomes = await asyncio.gather(*(lanes[name].append(arrivals[name], origin, then_us) for name in arrivals))
    return dict(zip(arrivals, outcomes, strict=True))


async def publish_closed_windows(bus: Bus, lanes: Iterable[Lane]) -> None:
    """Publishes the accounts of windows that ended; they are kept until the broker has them."""
    closed = [(lane, window) for lane in lanes for window in lane.closed_windows]
    told: list[Message] = [messages.window_closed(lane.project, lane.contract.source, w) for lane, w in closed]
    await bus.publish(told)
    for lane, window in closed:
        lane.closed_windows.remove(window)


def open_windows(lanes: Iterable[Lane]) -> dict[tuple[str, str], Mapping[str, object]]:
    """The lanes' open windows by (project, source), to be kept."""
    states = {(lane.project, lane.name): lane.window_state() for lane in lanes}
    return {place: state for place, state in states.items() if state is not None}
