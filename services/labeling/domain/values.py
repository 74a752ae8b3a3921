"""The values of the room. Times are microseconds: event time, or the project's visible time; leases are wall time."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Outcome(StrEnum):
    """Whether the truth is known."""

    OBSERVED = "observed"
    CENSORED = "censored"


class Origin(StrEnum):
    """Who said it."""

    LATE_TRUTH = "late_truth"
    PERSON = "person"
    DECLARED_DEFAULT = "declared_default"


@dataclass(frozen=True, slots=True)
class Example:
    """Something a prediction is made for. `due_us`: when its first label is out; `label`: what was last published."""

    entity: str
    moment_us: int
    matured_us: int
    visible_us: int
    event_id: str
    label: Label | None = None

    @property
    def due_us(self) -> int:
        """Not before the example itself was known."""
        return max(self.matured_us, self.visible_us)


@dataclass(frozen=True, slots=True)
class Truth:
    """What was learnt about an entity; `value` None: unknowable. With `moment_us` it is about that example alone."""

    entity: str
    event_us: int
    visible_us: int
    event_id: str
    value: float | None
    origin: Origin = Origin.LATE_TRUTH
    moment_us: int | None = None

    @property
    def order(self) -> tuple[int, int, str]:
        """Later ones win; the same whatever the order of arrival."""
        return (self.visible_us, self.event_us, self.event_id)

    def is_about(self, example: Example) -> bool:
        """Whether it counts for `example`: what happened before the moment is no truth about it."""
        if self.moment_us is not None:
            return self.moment_us == example.moment_us
        return self.event_us >= example.moment_us


@dataclass(frozen=True, slots=True)
class Label:
    """One revision of one example's label. `cause_id`: the event that brought it about."""

    entity: str
    moment_us: int
    outcome: Outcome
    value: float
    origin: Origin
    event_us: int
    visible_us: int
    matured_us: int
    revision: int
    cause_id: str
    confidence: float = 1.0

    def says_the_same(self, other: Label) -> bool:
        """Whether a reader would learn nothing from the other."""
        if self.outcome is not other.outcome:
            return False
        return self.outcome is Outcome.CENSORED or self.value == other.value
