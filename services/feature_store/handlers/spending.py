"""What the stream spends on each view, in this process since it started."""

from __future__ import annotations


class Spending:
    """Events worked into each view, and the seconds that took; the store's round trips are not in it."""

    def __init__(self) -> None:
        self._events: dict[str, int] = {}
        self._seconds: dict[str, float] = {}

    def note(self, view_id: str, events: int, seconds: float) -> None:
        """A batch was worked into a view."""
        self._events[view_id] = self._events.get(view_id, 0) + events
        self._seconds[view_id] = self._seconds.get(view_id, 0.0) + seconds

    def per_event_us(self, view_id: str) -> float | None:
        """Microseconds an event of its source; None before the first."""
        events = self._events.get(view_id, 0)
        return self._seconds[view_id] / events * 1e6 if events else None

    def share(self, view_id: str) -> float:
        """Of what all views of this process took, between 0 and 1."""
        whole = sum(self._seconds.values())
        return self._seconds.get(view_id, 0.0) / whole if whole else 0.0
