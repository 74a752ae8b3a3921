"""Failures of the monitor, each with its policy.

RoomError
├── UnknownEvent       not_found, reject     (Why of an id that no topic carried)
├── BadEvent           invalid, reject       (a record whose payload is not what its topic promises)
├── ReportFailed       internal, reject      (a drift report could not be made: shown, nothing waits for it)
├── ReferenceMissing   unavailable, retry    (the registry cannot give a model's reference now)
└── CommandRefused     precondition, reject  (the console's button asks for what cannot be)
"""

from __future__ import annotations

from millrace.runtime.errors import Invalid, NotFound, Precondition, RoomError, Unavailable


class UnknownEvent(NotFound):
    """No platform event has this id, or it has not arrived yet."""


class BadEvent(Invalid):
    """A record that its topic's payload type cannot read."""


class ReportFailed(RoomError):
    """Evidently did not make a report; the next window is tried again."""


class ReferenceMissing(Unavailable):
    """The bundle of a version cannot be read from the registry now."""


class CommandRefused(Precondition):
    """Nothing to roll back to, or no such version."""
