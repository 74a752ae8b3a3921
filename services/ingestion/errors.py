"""Failures of this room, each with its policy.

RoomError
├── UnknownProject   not_found, retry: a definition may be on its way
├── UnknownSource    not_found
├── TooLarge         invalid: one request holds more events than a request may
├── LaneFull         exhausted: too much waits for the broker; come back
├── ClockHeld        precondition: somebody else drives the clock
├── NoSuchLease      precondition: the lease is not, or no longer, the caller's
├── WallClock        precondition: this project's clock cannot be driven
├── ClockMovedBack   invalid
└── DefinitionOnItsWay  unavailable, retry: the producer knows a newer definition than this room
"""

from __future__ import annotations

from millrace.runtime.errors import Exhausted, Invalid, NotFound, Policy, Precondition, Unavailable


class UnknownProject(NotFound):
    """No project of that name is known here (yet)."""

    policy = Policy.RETRY


class UnknownSource(NotFound):
    """The project declares no source of that name."""


class TooLarge(Invalid):
    """More events in one request, or bytes in one body, than allowed."""


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
