"""Time as a port: the wall, and each project's own clock."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from millrace.definitions.model import Clock
from millrace.runtime.book import TopicBook
from millrace.wire.common.v1 import common_pb2

if TYPE_CHECKING:
    from millrace.bus.events import Record
    from millrace.bus.ports import Bus
    from millrace.runtime.definitions import DefinitionBook

TOPIC = "clocks"
OnTick = Callable[[str, int], Awaitable[None]]


def wall_us() -> int:
    """Microseconds since the epoch, UTC, by the wall clock."""
    return time.time_ns() // 1_000


class ClockBook(TopicBook):
    """Every project's clock: the last tick of a replayed project, the wall for all others.

    With a `definitions` book a replayed project that never ticked reads 0; without one it reads as the wall.
    """

    def __init__(self, bus: Bus, definitions: DefinitionBook | None = None) -> None:
        super().__init__(bus, TOPIC)
        self._definitions = definitions
        self._now_us: dict[str, int] = {}
        self._listeners: list[OnTick] = []

    def on_tick(self, listener: OnTick) -> None:
        """`listener(project, now_us)` after each tick, also for those read at start."""
        self._listeners.append(listener)

    def now_us(self, project: str) -> int:
        """The project's clock, microseconds; 0 for a replayed project before its first tick."""
        if project in self._now_us:
            return self._now_us[project]
        known = self._definitions.projects.get(project) if self._definitions else None
        if known is not None and known.project.clock is Clock.REPLAY:
            return 0
        return wall_us()

    async def _apply(self, record: Record) -> None:
        project = (record.key or b"").decode()
        if not record.data:
            self._now_us.pop(project, None)  # a tombstone: the project's clock is forgotten
            return
        tick = common_pb2.ClockTick.FromString(record.data)
        self._now_us[tick.project] = tick.now_us
        for listener in self._listeners:
            await listener(tick.project, tick.now_us)
