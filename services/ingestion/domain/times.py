"""Visible time: stamped once, monotone per partition, never before the event happened."""

from __future__ import annotations

from millrace.definitions.model import Clock


def reference_us(clock: Clock, now_us: int, available_us: int, wall_us: int, max_ahead_us: int) -> int:
    """The time that an event is judged by and that it becomes visible at, before the partition has its say.

    `wall`: now; a declared availability is ignored. `replay`: the declared availability, at most `max_ahead_us` past
    the clock (a producer that declares the year 2099 must not carry a partition there), else the clock. Before the
    clock's first move (0) a declared availability is bounded by the wall; without one the answer is 0, nobody knows:
    any guess would be carried by the partition, and hide what is replayed from before it.
    """
    if clock is Clock.WALL:
        return now_us
    if not now_us:
        return min(available_us, wall_us)
    return max(now_us, min(available_us, now_us + max_ahead_us))


def latest_us(reference_us: int, allowance_us: int) -> int:
    """The latest event time that is accepted at `reference_us`; 0, which is before every event, where that is 0."""
    return reference_us + allowance_us if reference_us else 0


def visible_us(wanted_us: int, event_us: int, last_us: int) -> int:
    """The stamp: not before what the partition carries already, and after the event itself."""
    return max(wanted_us, event_us + 1, last_us)
