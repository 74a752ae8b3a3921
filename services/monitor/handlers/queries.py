"""Answers of the doors: why an event happened, how well versions do, what the fleet looks like."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from millrace.definitions.model import DAY_US, Project
from millrace.wire.common.v1.common_pb2 import RoomStatus

from services.monitor.domain import causes
from services.monitor.domain.causes import Chain, Link
from services.monitor.domain.live import Live
from services.monitor.domain.performance import Cell
from services.monitor.errors import UnknownEvent
from services.monitor.ports import Fleet, Index, Log, State

PERFORMANCE_KEPT_S = 5.0  # a page that refreshes every two seconds shall not scan the log each time
FLEET_KEPT_S = 1.0
RATES_KEPT = 60  # snapshots per room
FOREVER_US = 2**62


@dataclass(slots=True)
class _Kept:
    made_s: float
    cells: list[Cell]


@dataclass(slots=True)
class RoomView:
    """One room as the console shows it; the rate is over the last snapshots, in records per second of wall time."""

    room: str
    status: RoomStatus | None
    rate: float
    rates: list[float]


@dataclass(slots=True)
class Queries:
    """Read-only; results of scans are kept for a few seconds."""

    log: Log
    index: Index
    state: State
    fleet: Fleet
    projects: Callable[[], Mapping[str, Project]]
    now_us: Callable[[str], int]
    live: Callable[[], Mapping[str, Live]]
    _performance: dict[tuple[str, int], _Kept] = field(default_factory=dict)
    _locks: dict[tuple[str, int], asyncio.Lock] = field(default_factory=dict)
    _seen: dict[str, list[tuple[float, int]]] = field(default_factory=dict)
    _fleet: tuple[float, dict[str, RoomStatus | None]] = (0.0, {})

    async def why(self, event_id: str) -> Chain:
        """The causal chain; UnknownEvent when no topic carried the id (yet)."""
        first = await self._find(event_id)
        if first is None:
            raise UnknownEvent(f"no platform event {event_id} is known here")
        return await causes.chain(first, self._find, self.index.by_run, self.index.by_version)

    async def performance(self, project: str, window_us: int = 0) -> list[Cell]:
        """Realised metrics of every version, per window of the moment, as labels are known now."""
        definition = self.projects().get(project)
        if definition is None:
            return []
        key = (project, window_us or 7 * DAY_US)
        async with self._locks.setdefault(key, asyncio.Lock()):
            kept = self._performance.get(key)
            if kept is None or time.monotonic() - kept.made_s > PERFORMANCE_KEPT_S:
                cells = await self.log.performance(
                    project, definition.model.name, definition.model.task, key[1], 0, FOREVER_US, FOREVER_US
                )
                kept = self._performance[key] = _Kept(time.monotonic(), cells)
        return kept.cells

    async def rooms(self) -> list[RoomView]:
        """Every room's status, with the rate at which it handles records."""
        now_s = time.monotonic()
        if now_s - self._fleet[0] > FLEET_KEPT_S:
            self._fleet = (now_s, dict(await self.fleet.describe()))
            for room, status in self._fleet[1].items():
                self._remember(room, now_s, status)
        return [self._view(room, status) for room, status in self._fleet[1].items()]

    def _remember(self, room: str, now_s: float, status: RoomStatus | None) -> None:
        history = self._seen.setdefault(room, [])
        if status is not None:
            history.append((now_s, status.handled_records))
            del history[:-RATES_KEPT]

    def _view(self, room: str, status: RoomStatus | None) -> RoomView:
        history = self._seen.get(room, [])
        pairs = list(itertools.pairwise(history))
        rates = [max(0.0, (b[1] - a[1]) / max(1e-6, b[0] - a[0])) for a, b in pairs]
        recent = rates[-5:]
        return RoomView(room, status, sum(recent) / len(recent) if recent else 0.0, rates)

    async def _find(self, event_id: str) -> Link | None:
        return await self.index.by_id(event_id) or await self.log.find_label(event_id)
