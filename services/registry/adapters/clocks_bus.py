"""The projects' clocks: a replayed one is its last tick, any other is the wall."""

from __future__ import annotations

from collections.abc import Callable

from millrace.definitions import Project
from millrace.definitions.model import Clock
from millrace.runtime.clock import ClockBook

from services.registry.errors import ClockUnknown


class ProjectClocks:
    """The ProjectClock over the topic `clocks`. What a project's clock is, its definition says: not what was heard."""

    def __init__(self, book: ClockBook, wall_us: Callable[[], int]) -> None:
        self._book = book
        self._wall_us = wall_us
        self._ticks_us: dict[str, int] = {}
        book.on_tick(self._hear)

    def now_us(self, project: Project) -> int:
        """As ProjectClock.now_us; 0 for a replayed project that never ticked."""
        if project.clock is not Clock.REPLAY:
            return self._wall_us()
        if not self._book.ready:
            raise ClockUnknown(f"the clock of {project.name} is not known yet: the topic clocks is still being read")
        return self._ticks_us.get(project.name, 0)

    async def _hear(self, project: str, now_us: int) -> None:
        self._ticks_us[project] = now_us
