"""What the stream spends on each view and feature, in this process since it started."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import perf_counter

log = logging.getLogger(__name__)
# Batches between two that are weighed: weighing does a view's work a second time.
WEIGH_EVERY = 128

ViewOf = tuple[str, str]
"""Project and view id."""


@dataclass(slots=True)
class _Spent:
    events: int = 0
    seconds: float = 0.0
    batches: int = 0
    weights: list[float] = field(default_factory=list)


class Spending:
    """Events worked into each view, and the seconds that took; the store's round trips are not in it."""

    def __init__(self) -> None:
        self._spent: dict[ViewOf, _Spent] = {}

    def note(self, view: ViewOf, events: int, seconds: float) -> bool:
        """A batch was worked into a view. Whether it is one of those to be weighed: not the first, which is cold."""
        spent = self._spent.setdefault(view, _Spent())
        spent.events += events
        spent.seconds += seconds
        spent.batches += events > 0
        return events > 0 and spent.batches % WEIGH_EVERY == 2

    def weigh(self, view: ViewOf, works: Callable[[], Sequence[Callable[[], object]]]) -> None:
        """Measures what each part of the view's work takes. What fails is not weighed: the work itself was done, and
        with other rows."""
        try:
            found = [_seconds(work) for work in works()]
        except Exception as error:
            log.debug("%s of %s is not weighed: %s", view[1], view[0], error)
            return
        spent = self._spent.setdefault(view, _Spent())
        if len(spent.weights) != len(found):  # the first time, or of another view: its project was made anew
            spent.weights = [0.0] * len(found)
        spent.weights = [was + now for was, now in zip(spent.weights, found, strict=True)]

    def weights(self, view: ViewOf) -> list[float] | None:
        """Seconds of each part, as far as they were measured: for comparing them; None before the first."""
        return self._of(view).weights or None

    def per_event_us(self, view: ViewOf) -> float | None:
        """Microseconds an event of its source; None before the first."""
        spent = self._of(view)
        return spent.seconds / spent.events * 1e6 if spent.events else None

    def share(self, view: ViewOf) -> float:
        """Of what all views of this process took, between 0 and 1."""
        whole = sum(spent.seconds for spent in self._spent.values())
        return self._of(view).seconds / whole if whole else 0.0

    def forget(self, project: str, view_id: str) -> None:
        """A view was dropped: should it come again, it may be another one."""
        self._spent.pop((project, view_id), None)

    def _of(self, view: ViewOf) -> _Spent:
        return self._spent.get(view, _Spent())


def _seconds(work: Callable[[], object]) -> float:
    began = perf_counter()
    work()
    return perf_counter() - began
