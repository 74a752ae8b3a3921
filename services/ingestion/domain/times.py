"""Visible time: stamped once, monotone per partition, never before the event happened."""

from __future__ import annotations

from millrace.definitions.model import Clock


def reference_us(clock: Clock, now_us: int, available_us: int, wall_us: int, max_ahead_us: int) -> int:
    """The time that an event is judged by and that it becomes visible at, before the partition has its say.

    `wall`: now; a declared availability is ignored. `replay`: the declared availability, at most `max_ahead_us` past
    the clock (a producer that declares the year 2099 must not carry a partition there), else the clock. A replayed
    clock that never ticked is bounded by the wall.
    """
    if clock is Clock.WALL:
        return now_us
    if not now_us:
        return min(available_us, wall_us) or wall_us
    return max(now_us, min(available_us, now_us + max_ahead_us))


def visible_us(wanted_us: int, event_us: int, last_us: int) -> int:
    """The stamp: not before what the partition carries already, and after the event itself."""
    return max(wanted_us, event_us + 1, last_us)
