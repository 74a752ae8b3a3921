"""Failures of the registry, each with its policy.

RoomError
├── BadDefinition      a project file with errors; reject, every error in a line of its own
├── BadModel           an ONNX file or bundle that does not fit the definition; reject
├── StaleDefinition    the project changed since; conflict, names the current version
├── NameTaken          another project owns the model's name; reject
├── TooLarge           an artifact over the limit; reject
├── UnknownThing       no such project, model, version; reject
├── CheckUnavailable   the check of an ONNX file could not be run now; retry
└── ClockUnknown       the clocks are still being read; retry
"""

from __future__ import annotations

from millrace.runtime.errors import Conflict, Invalid, NotFound, Unavailable


class BadDefinition(Invalid):
    """A project file with errors: the message has one line for each."""


class BadModel(Invalid):
    """An ONNX file or a bundle that does not fit the project's definition."""


class StaleDefinition(Conflict):
    """The project's definition is not the one that the change was based on."""


class NameTaken(Invalid):
    """Another project owns the model's name."""


class TooLarge(Invalid):
    """An artifact over the limit."""


class UnknownThing(NotFound):
    """No such project, model or version."""


class CheckUnavailable(Unavailable):
    """The check of an ONNX file could not be run now."""


class ClockUnknown(Unavailable):
    """The projects' clocks are still being read."""
