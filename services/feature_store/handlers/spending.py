"""What the stream spends on each view and feature, in this process since it started."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import perf_counter

# Batches between two that are weighed: weighing does a view's work a second time.
WEIGH_EVERY = 128


class Spending:
    """Events worked into each view, and the seconds that took; the store's round trips are not in it."""

    def __init__(self) -> None:
        self._events: dict[str, int] = {}
        self._seconds: dict[str, float] = {}
        self._batches: dict[str, int] = {}
        self._weights: dict[str, list[float]] = {}

    def note(self, view_id: str, events: int, seconds: float) -> bool:
        """A batch was worked into a view. Whether it is one of those to be weighed."""
        self._events[view_id] = self._events.get(view_id, 0) + events
        self._seconds[view_id] = self._seconds.get(view_id, 0.0) + seconds
        batches = self._batches[view_id] = self._batches.get(view_id, -1) + 1
        return events > 0 and batches % WEIGH_EVERY == 0

    def weigh(self, view_id: str, works: Sequence[Callable[[], object]]) -> None:
        """Measures what each part of the view's work takes."""
        weights = self._weights.setdefault(view_id, [0.0] * len(works))
        for place, work in enumerate(works):
            began = perf_counter()
            work()
            weights[place] += perf_counter() - began

    def weights(self, view_id: str) -> list[float] | None:
        """Seconds of each part, as far as they were measured: for comparing them; None before the first."""
        return self._weights.get(view_id)

    def per_event_us(self, view_id: str) -> float | None:
        """Microseconds an event of its source; None before the first."""
        events = self._events.get(view_id, 0)
        return self._seconds[view_id] / events * 1e6 if events else None

    def share(self, view_id: str) -> float:
        """Of what all views of this process took, between 0 and 1."""
        whole = sum(self._seconds.values())
        return self._seconds.get(view_id, 0.0) / whole if whole else 0.0
