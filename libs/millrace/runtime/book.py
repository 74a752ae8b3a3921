"""What a process knows by following one compacted topic."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from millrace.bus.events import Record
    from millrace.bus.ports import Bus


class TopicBook(ABC):
    """Follows `topic` from its start; a book says what it makes of each record."""

    def __init__(self, bus: Bus, topic: str) -> None:
        from millrace.bus.follower import Follower

        self._follower = Follower(bus, [topic], self._apply)

    @property
    def ready(self) -> bool:
        """Whether the topic was read to its end once."""
        return self._follower.ready

    @property
    def lag_records(self) -> int:
        """Records not read yet."""
        return self._follower.lag_records

    @property
    def handled_records(self) -> int:
        """Records read since start."""
        return self._follower.handled_records

    async def learn_lag(self) -> None:
        """Asks the broker what waits now. Raises BusUnavailable."""
        await self._follower.learn_lag()

    def hurry(self) -> None:
        """Reads at once what waits, though it is being gathered."""
        self._follower.hurry()

    async def run(self) -> None:
        """Follows the topic until cancelled."""
        await self._follower.run()

    async def wait_ready(self, deadline_s: float) -> None:
        """Returns when caught up; raises NotReady when the deadline passes first."""
        await self._follower.wait_ready(deadline_s)

    @abstractmethod
    async def _apply(self, record: Record) -> None:
        """One record, in order per partition; it may come again and is ignored when it is not newer."""
