"""What every handler works with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from millrace.stores.objects import Objects
from millrace.stores.sql import Database, Transaction

from services.registry.adapters.releases_sql import Releases
from services.registry.ports import ModelInspector, ProjectClock, TopicMaker


@dataclass(frozen=True, slots=True)
class Desk:
    """The room's ports, joined in the bootstrap."""

    database: Database
    objects: Objects
    clock: ProjectClock
    inspector: ModelInspector
    topics: TopicMaker
    wall_us: Callable[[], int]
    artifact_max_bytes: int = 512 * 1024 * 1024

    def releases(self, transaction: Transaction) -> Releases:
        """The repository of release state; rows are locked where writers do not queue up in this process."""
        return Releases(transaction, lock=not self.database.is_sqlite)
