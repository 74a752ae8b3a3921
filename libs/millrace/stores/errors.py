"""Failures of the stores.

RoomError
├── StoreUnavailable   cannot be reached, is locked or full; retry
├── StoreConflict      a unique or foreign key was violated
├── ObjectMissing      no object of that digest
└── ObjectCorrupt      the bytes do not have the digest they are filed under
"""

from __future__ import annotations

from millrace.runtime.errors import Conflict, DataLoss, NotFound, Unavailable


class StoreUnavailable(Unavailable):
    """The store cannot be reached, is locked or has no space."""


class StoreConflict(Conflict):
    """A constraint of the store was violated: somebody else wrote first."""


class ObjectMissing(NotFound):
    """No object of that digest."""


class ObjectCorrupt(DataLoss):
    """Bytes and digest disagree."""
