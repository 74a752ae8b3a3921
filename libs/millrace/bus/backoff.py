"""Waiting between attempts: doubling, capped, with jitter."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field


@dataclass(slots=True)
class Backoff:
    """`first_s`, twice that, and so on up to `cap_s`, each scaled by 0.5 to 1: many do not march in step."""

    first_s: float = 0.05
    cap_s: float = 5.0
    _next_s: float = field(default=0.0)

    def reset(self) -> None:
        """Begin again at `first_s`."""
        self._next_s = 0.0

    def next_s(self) -> float:
        """The next delay, seconds."""
        self._next_s = min(self.cap_s, self._next_s * 2 or self.first_s)
        return self._next_s * (0.5 + random.random() / 2)

    async def wait(self, unless: asyncio.Event | None = None) -> None:
        """Sleep for the next delay, or until the event."""
        if unless is None:
            await asyncio.sleep(self.next_s())
            return
        try:
            async with asyncio.timeout(self.next_s()):
                await unless.wait()
        except TimeoutError:
            return
