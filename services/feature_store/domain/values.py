"""Small values that every part of the room shares."""

from __future__ import annotations

from enum import IntEnum
from typing import Any, NamedTuple


class Status(IntEnum):
    """What an answer says of one feature; the numbers are the wire's."""

    PRESENT = 1
    MISSING = 2
    EXPIRED = 3


class Position(NamedTuple):
    """How far a view has applied one partition of its source."""

    offset: int
    visible_us: int


class Filling(NamedTuple):
    """How far the rows of a place have been made from history: as of `position`, `done` of `parts` parts."""

    position: Position
    parts: int
    done: int


def as_number(value: Any) -> float | None:
    """A value as a model sees it: whole numbers, booleans and timestamps are numbers; None stays None."""
    return None if value is None else float(value)
