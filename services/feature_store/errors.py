"""Failures of this room, each with its policy.

RoomError
├── BadRecord        reject   a record that no view or table can take
├── UnknownProject   not_found
├── UnknownFeature   invalid
├── UnknownService   not_found
├── UnknownView      not_found
├── ViewInUse        precondition  the definition, or a version that can be loaded, needs the view
├── StillWritten     retry    rows of a dropped view come back: another replica still feeds it
├── StoreBehind      retry    the online store lost what this worker had written: seek back
├── SwapRefused      retry    another writer was faster, again and again
├── TooLate          deadline the views did not reach the asked time before the caller's deadline
├── TooMuchHistory   too_large  a few entities with more events than one answer may take into memory
├── EmptyTrainingSet precondition
├── BadSpine         invalid
├── RowCorrupt       data_loss
└── SnapshotCorrupt  data_loss
"""

from __future__ import annotations

from millrace.runtime.errors import (
    Conflict,
    DataLoss,
    DeadlineExceeded,
    Invalid,
    NotFound,
    Policy,
    Precondition,
    TooLarge,
    Unavailable,
)


class BadRecord(Invalid):
    """A record that no view or table can take; the reason names the field."""


class TooMuchHistory(TooLarge):
    """A few entities have more events than one answer may take into memory; a training set is bounded."""


class UnknownProject(NotFound):
    """No definition of that name is known here."""


class UnknownFeature(Invalid):
    """A feature that nothing declares, or that another entity's key is needed for."""


class UnknownService(NotFound):
    """No feature service of that name is declared."""


class UnknownView(NotFound):
    """No view of that name was ever declared, or there is nothing of it."""


class ViewInUse(Precondition):
    """The definition, or a model version that can be loaded, needs the view."""


class StillWritten(Conflict):
    """Rows of a dropped view come back: another replica still runs an older definition."""

    policy = Policy.RETRY


class StoreBehind(Unavailable):
    """The online store is behind what this worker wrote to it: it was emptied or restored."""


class SwapRefused(Conflict):
    """Another writer moved the same position, again and again."""

    policy = Policy.RETRY


class TooLate(DeadlineExceeded):
    """The views did not reach the asked time before the deadline."""


class EmptyTrainingSet(Precondition):
    """No labelled example in the range."""


class BadSpine(Invalid):
    """A user's table that cannot be the rows of a training set; the text names the column or row."""


class RowCorrupt(DataLoss):
    """A row of the online store that its view did not write."""


class SnapshotCorrupt(DataLoss):
    """A snapshot whose parts do not fit together."""


class SnapshotSuperseded(Precondition):
    """A snapshot that held an entity which was forgotten; the reason names the one that took its place."""
