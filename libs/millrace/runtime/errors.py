"""Failures of a room, with their policy as data. Doors map the code; the core never says 404.

RoomError
├── NotFound          not_found
├── Invalid           invalid
│   └── TooLarge      too_large       (more in one request than a door takes: cut it)
├── Conflict          conflict        (somebody was faster: read again and retry)
├── Precondition      precondition    (the state does not allow it)
├── Exhausted         exhausted       (bounded: come back after `retry_after_ms`)
├── Unavailable       unavailable     (a neighbour is gone)
├── DeadlineExceeded  deadline
├── Unauthenticated   unauthenticated
├── Denied            denied
├── DataLoss          data_loss
└── ConfigurationError  invalid, crash
"""

from __future__ import annotations

from enum import Enum


class Policy(Enum):
    """What a consumer does with the record that met this failure."""

    RETRY = "retry"  # repeat the same batch, with capped backoff
    REJECT = "reject"  # to the dead letters, then on
    CRASH = "crash"  # the process cannot go on


class RoomError(Exception):
    """A failure that a door can explain to its caller; `policy` and `code` are data."""

    policy: Policy = Policy.REJECT
    code: str = "internal"

    def __init__(self, message: str, *, policy: Policy | None = None, code: str | None = None) -> None:
        super().__init__(message)
        if policy is not None:
            self.policy = policy
        if code is not None:
            self.code = code


class NotFound(RoomError):
    """No such thing."""

    code = "not_found"


class Invalid(RoomError):
    """The request can never succeed as it is."""

    code = "invalid"


class TooLarge(Invalid):
    """More in one request than a door takes: it fits once it is cut, which the text says how to do."""

    code = "too_large"


class Conflict(RoomError):
    """Somebody was faster: read again, then retry."""

    code = "conflict"


class Precondition(RoomError):
    """The state does not allow it now."""

    code = "precondition"


class Exhausted(RoomError):
    """A bound was reached; come back after `retry_after_ms` of wall time."""

    policy = Policy.RETRY
    code = "exhausted"

    def __init__(self, message: str, *, retry_after_ms: int = 100) -> None:
        super().__init__(message)
        self.retry_after_ms = retry_after_ms


class Unavailable(RoomError):
    """A neighbour or a store is gone; it may come back."""

    policy = Policy.RETRY
    code = "unavailable"


class DeadlineExceeded(RoomError):
    """The caller's deadline passed first."""

    policy = Policy.RETRY
    code = "deadline"


class Unauthenticated(RoomError):
    """No valid token."""

    code = "unauthenticated"


class Denied(RoomError):
    """The token's roles do not include what was asked."""

    code = "denied"


class DataLoss(RoomError):
    """Bytes and digest disagree."""

    code = "data_loss"


class ConfigurationError(RoomError):
    """A setting that the process cannot start with."""

    policy = Policy.CRASH
    code = "invalid"
