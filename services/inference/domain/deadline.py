"""How long a caller still waits."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Deadline:
    """A point of a monotonic clock, seconds."""

    at_s: float

    def remaining_s(self, now_s: float) -> float:
        """Seconds left at `now_s`; 0 or less: too late."""
        return self.at_s - now_s


def deadline_of(asked_s: float | None, now_s: float, *, default_s: float, max_s: float) -> Deadline:
    """The deadline of a caller who gives `asked_s` from `now_s` on, or names none."""
    return Deadline(now_s + min(default_s if asked_s is None else asked_s, max_s))
