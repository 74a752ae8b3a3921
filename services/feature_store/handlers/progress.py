"""How far each view has come, for those who wait for it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from services.feature_store.ports import Place


class Progress:
    """Visible time applied per place: what this process wrote, or saw in the store."""

    def __init__(self) -> None:
        self._visible_us: dict[Place, int] = {}
        self._moved = asyncio.Event()

    def note(self, place: Place, visible_us: int) -> None:
        """The place has applied everything visible up to then; older news of it changes nothing."""
        if visible_us > self._visible_us.get(place, -1):
            self.reset(place, visible_us)

    def reset(self, place: Place, visible_us: int) -> None:
        """The place is exactly there: time goes back where a store was emptied."""
        self._visible_us[place] = visible_us
        self._moved.set()
        self._moved = asyncio.Event()

    def forget(self, project: str, view_id: str) -> None:
        """A view was dropped: should it come again, it begins with nothing."""
        for place in [p for p in self._visible_us if (p.project, p.view_id) == (project, view_id)]:
            del self._visible_us[place]

    def visible_us(self, places: Iterable[Place]) -> int:
        """The least visible time applied at `places`; 0 when one has none."""
        return min((self._visible_us.get(place, 0) for place in places), default=0)

    async def moved(self, timeout_s: float) -> None:
        """Returns when anything moved, at the latest after `timeout_s`."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._moved.wait()
        except TimeoutError:
            return
