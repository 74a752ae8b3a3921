"""Failures of this room, each with its policy.

RoomError
├── UnknownProject   not_found, retry: a definition may be on its way
├── UnknownSource    not_found
├── TooLarge         too_large: one request holds more events, or bytes, than a request may
├── LaneFull         exhausted: too much waits for the broker; come back
├── ClockHeld        precondition: somebody else drives the clock
├── NoSuchLease      precondition: the lease is not, or no longer, the caller's
├── WallClock        precondition: this project's clock cannot be driven
├── ClockMovedBack   invalid
├── NoSuchRequest    not_found: nothing was asked to be forgotten under this id
├── NotForgettable   invalid: no field of the project can name this entity
├── Unreadable       precondition: an encrypted value, or a key, that nobody can read (any more)
└── DefinitionOnItsWay  unavailable, retry: the producer knows a newer definition than this room
"""

from __future__ import annotations

from millrace.runtime.errors import Exhausted, Invalid, NotFound, Policy, Precondition, TooLarge, Unavailable

__all__ = [
    "ClockHeld",
    "ClockMovedBack",
    "DefinitionOnItsWay",
    "LaneFull",
    "NoSuchLease",
    "TooLarge",
    "UnknownProject",
    "UnknownSource",
    "WallClock",
]


class UnknownProject(NotFound):
    """No project of that name is known here (yet)."""

    policy = Policy.RETRY


class UnknownSource(NotFound):
    """The project declares no source of that name."""


class LaneFull(Exhausted):
    """Events wait for the broker faster than it takes them."""


class ClockHeld(Precondition):
    """Another holder's lease has not run out."""


class NoSuchLease(Precondition):
    """The lease is unknown, was given back, or went to somebody else after it ran out."""


class WallClock(Precondition):
    """Only a replayed project's clock can be driven."""


class ClockMovedBack(Invalid):
    """Time does not run backwards."""


class DefinitionOnItsWay(Unavailable):
    """An event names a definition version that this room has not heard of yet."""


class NoSuchRequest(NotFound):
    """No request to forget has this id."""


class NotForgettable(Invalid):
    """The project has no such field, or one whose values name nobody."""


class Unreadable(Precondition):
    """An encrypted value that cannot be read: its key was destroyed, or it belongs elsewhere."""
