"""Failures of labeling.

RoomError
├── UnknownProject     not_found, reject
├── UnknownTask        not_found, reject
├── NothingToDo        not_found, reject: no task for this annotator now
├── LeaseLost          precondition, reject: the task went to somebody else
├── BadAnswer          invalid, reject: an answer that is no label of this project
├── BadRecord          invalid, reject: a data record that cannot be read
└── NotCaughtUp        deadline, retry: the history has not reached the time asked for
"""

from __future__ import annotations

from millrace.runtime.errors import DeadlineExceeded, Invalid, NotFound, Precondition


class UnknownProject(NotFound):
    """No such project in `definitions`."""


class UnknownTask(NotFound):
    """No task of that id."""


class NothingToDo(NotFound):
    """No task for this annotator now."""


class LeaseLost(Precondition):
    """The lease is not the task's any more: it ran out and the task went on, or it is done."""


class BadAnswer(Invalid):
    """A person's answer that cannot be a label: not a number, or for a binary label neither 0 nor 1."""


class BadRecord(Invalid):
    """A data record whose body or headers cannot be read, or whose label is not a number."""


class NotCaughtUp(DeadlineExceeded):
    """The label history has not reached the time asked for within the deadline."""
