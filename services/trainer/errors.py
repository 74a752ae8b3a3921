"""The trainer's failures, each with its policy.

RoomError
├── NotFound: UnknownProject       no such project has been applied
├── NotFound: UnknownRun           no such run
├── Precondition: SwitchedOff      training of the project, or all training, is switched off
├── Invalid: BadRequest            the request says something that cannot be done
├── DataLoss: SnapshotUnusable     crash: a column lacks, or the bytes are not what their digest names
├── Unavailable: NeighbourUnavailable   retry
├── Conflict: NeighbourRefused     crash: asking again does not help
├── DataLoss: JobFailed            crash: the job's process left no result
└── Conflict: Superseded           crash: another attempt has the run

A run meets these one at a time: "crash" ends the run, not the room.
"""

from __future__ import annotations

from millrace.runtime.errors import Conflict, DataLoss, Invalid, NotFound, Policy, Precondition, Unavailable


class UnknownProject(NotFound):
    """No project of that name has been applied."""


class UnknownRun(NotFound):
    """No run has that id."""


class SwitchedOff(Precondition):
    """Training of the project, or all training, is switched off; the message says by whom and why."""


class BadRequest(Invalid):
    """The request says something that cannot be done."""


class SnapshotUnusable(DataLoss):
    """The training set lacks a column, or its bytes are not what its digest names."""

    policy = Policy.CRASH


class NeighbourUnavailable(Unavailable):
    """The feature store or the registry does not answer; asking again later may help."""


class NeighbourRefused(Conflict):
    """The feature store or the registry said no; asking again does not help."""

    policy = Policy.CRASH


class JobFailed(DataLoss):
    """The job's process ended without a result; the message is its last word."""

    policy = Policy.CRASH


class Superseded(Conflict):
    """Another attempt has taken the run over; what this one found out is dropped."""

    policy = Policy.CRASH
