"""Failures of the bus.

RoomError
├── BusUnavailable     the broker cannot be reached or did not acknowledge; retry
│   └── UnknownTopic   the topic does not exist (yet); retry
├── MessageTooLarge    more bytes than the broker takes in one message; reject
├── MalformedEvent     headers that do not make a CloudEvent; reject
├── NotConsumed        a record came back to a group that does not read its topic; reject
├── OffsetsLost        the partition went to another member before the commit; the batch comes again there
└── NotReady           a follower did not catch up within the deadline
"""

from __future__ import annotations

from millrace.runtime.errors import DeadlineExceeded, Invalid, Policy, Unavailable


class BusUnavailable(Unavailable):
    """The broker cannot be reached, or did not acknowledge in time."""


class UnknownTopic(BusUnavailable):
    """The topic does not exist (yet)."""


class MessageTooLarge(Invalid):
    """More bytes than the broker takes in one message: it will be refused however often it is sent."""


class MalformedEvent(Invalid):
    """Headers that claim to be a CloudEvent but lack or garble an attribute."""


class NotConsumed(Invalid):
    """A record came back to a group that does not read its topic (any more)."""


class OffsetsLost(Unavailable):
    """A commit came after the partition had moved to another member of the group."""


class NotReady(DeadlineExceeded):
    """A follower did not catch up within its deadline."""


def policy_of(error: BaseException) -> Policy | None:
    """What a worker does about `error`; None where the error does not say.

    Connection failures and timeouts of any library are worth a retry.
    """
    policy = getattr(error, "policy", None)
    if isinstance(policy, Policy):
        return policy
    if isinstance(error, (ConnectionError, TimeoutError)):
        return Policy.RETRY
    return None
