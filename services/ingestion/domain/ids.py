"""The window in which a repeated event id is recognised."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence


class RecentIds:
    """The last `capacity` ids of one source, oldest forgotten first."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._ids: set[str] = set()
        # Beside the set, because the first key of a dict that is emptied from its front is looked for past every
        # place that was: in a full window of 100,000 that took longer than everything else done for an event.
        self._order: deque[str] = deque()

    def __contains__(self, event_id: str) -> bool:
        return event_id in self._ids

    def __len__(self) -> int:
        return len(self._ids)

    def restore(self, ids: Sequence[str]) -> None:
        """Remembers ids, oldest first, all of them: where they are more, more are remembered from now on."""
        self._capacity = max(self._capacity, len(ids))
        for event_id in ids:
            self.add(event_id)

    def add(self, event_id: str) -> None:
        """Remembers an id."""
        if event_id in self._ids:
            return
        self._ids.add(event_id)
        self._order.append(event_id)
        if len(self._order) > self._capacity:
            self._ids.discard(self._order.popleft())
