"""Failures of inference, each with its policy.

RoomError
├── NotFound: UnknownModel         no such project, model or loaded version
├── Invalid: BadRequest            names, types, shapes, sizes; the text says what was expected
├── Invalid: ModelRejected         an artifact that is not a servable model, or misses its golden rows
├── Precondition: NotByKey         the model takes tensors only
├── Exhausted: Overloaded          more requests in hand than the bound
├── DataLoss: ArtifactCorrupt      bytes and digest disagree
├── Unavailable: NoPlanYet         a plan is known, nothing of it is loaded yet
├── Unavailable: ArtifactUnavailable, FeaturesUnavailable   a neighbour is gone
├── DeadlineExceeded: TooLate      the caller's deadline passed first
├── ScoringFailed                  the model ran and failed, and no fallback could answer
└── ConfigurationError: SpoolTaken another process writes the same spool
"""

from __future__ import annotations

from millrace.runtime.errors import (
    ConfigurationError,
    DataLoss,
    DeadlineExceeded,
    Exhausted,
    Invalid,
    NotFound,
    Precondition,
    RoomError,
    Unavailable,
)


class UnknownModel(NotFound):
    """No such project, model or loaded version."""


class BadRequest(Invalid):
    """The request can never succeed as it is; the text says what was expected."""


class ModelRejected(Invalid):
    """An artifact that is not a servable model, or does not meet its golden rows."""


class NotByKey(Precondition):
    """The model's inputs are not columns; it is asked with tensors."""


class Overloaded(Exhausted):
    """More requests in hand than the bound."""


class ArtifactCorrupt(DataLoss):
    """Bytes and digest disagree."""


class ArtifactMissing(NotFound):
    """The registry has no such artifact."""


class NoPlanYet(Unavailable):
    """A serving plan is known, and nothing of it is loaded yet."""


class ArtifactUnavailable(Unavailable):
    """The registry cannot be asked now."""


class FeaturesUnavailable(Unavailable):
    """The feature store cannot be asked now."""


class TooLate(DeadlineExceeded):
    """The caller's deadline passed before there was an answer."""


class ScoringFailed(RoomError):
    """The model ran and failed, and no fallback could answer."""

    code = "internal"


class SpoolTaken(ConfigurationError):
    """Another process writes the same spool."""
