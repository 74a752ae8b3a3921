"""What this room needs of the outside, beside the bus."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class ClockRow:
    """A replayed project's clock and its lease; `expires_us` is wall time."""

    project: str
    now_us: int = 0
    lease_id: str = ""
    holder: str = ""
    expires_us: int = 0


@dataclass(frozen=True, slots=True)
class Tail:
    """What the end of a data topic says: last visible time per partition, and the newest event ids, oldest first."""

    last_us: Mapping[int, int] = field(default_factory=dict)
    ids: Sequence[str] = ()


Place = tuple[str, str, str]
"""(project, source, field)"""


@dataclass(frozen=True, slots=True)
class DayRow:
    """One day in few words; `null_share` is that of all values of its accepted events."""

    start_us: int
    events: int
    quarantined: int
    null_share: float
    broken: int  # rules of windows that were broken


class Ledger(Protocol):
    """What must survive this process: clocks with their leases, open windows, the secret of hashed fields."""

    async def clocks(self) -> list[ClockRow]:
        """Every replayed project's clock."""
        ...

    async def lease(self, wanted: ClockRow, wall_us: int) -> ClockRow:
        """Writes the lease of `wanted` and returns it with the clock; ClockHeld while another one has not run out."""
        ...

    async def move(self, row: ClockRow, windows: Mapping[tuple[str, str], Mapping[str, Any]]) -> None:
        """Writes clock and expiry where the lease is still `row`'s, with the open windows. NoSuchLease otherwise."""
        ...

    async def release(self, project: str, lease_id: str) -> None:
        """Gives the lease back. NoSuchLease when it is not the caller's."""
        ...

    async def windows(self) -> dict[tuple[str, str], Mapping[str, Any]]:
        """Open windows by (project, source), as Window.to_state wrote them."""
        ...

    async def save_windows(self, windows: Mapping[tuple[str, str], Mapping[str, Any]]) -> None:
        """Writes open windows."""
        ...

    async def secret(self, fresh: bytes) -> bytes:
        """The secret of hashed fields: `fresh` when there is none yet, and the same for ever after."""
        ...


class Tails(Protocol):
    """Reads the end of a data topic."""

    async def read(self, topic: str, records: int) -> Tail:
        """The last `records` records, spread over the partitions. Raises BusUnavailable."""
        ...


class References(Protocol):
    """Keeps the fingerprints of values seen in fields that others refer to. A place is (project, source, field)."""

    async def load(self, place: Place) -> tuple[Sequence[int], bool]:
        """The fingerprints, and whether the source's whole past is in them."""
        ...

    async def add(self, place: Place, values: Sequence[int], is_whole: bool) -> None:
        """Keeps more of them; one that is there already stays."""
        ...

    async def forget(self, project: str, kept: Collection[Place]) -> None:
        """Forgets the project's places that are not among `kept`."""
        ...

    def column(self, place: Place, records: int) -> AsyncIterator[list[Any]]:
        """The values of the field in the source's data topic, batch by batch, up to its present end: of all records
        (`records` 0) or of the last so many. Raises BusUnavailable."""
        ...


class Profiles(Protocol):
    """Keeps the days of the data docs. A day is named by its start, microseconds."""

    async def save(self, project: str, source: str, days: Mapping[int, Mapping[str, Any]]) -> None:
        """Writes days; of each source the newest ones stay."""
        ...

    async def load(self, project: str, source: str, start_us: int) -> Mapping[str, Any] | None:
        """One day; None when it was not kept."""
        ...

    async def newest(self, project: str, source: str, days: int) -> list[Mapping[str, Any]]:
        """The newest days, oldest first."""
        ...

    async def summaries(self, project: str, source: str, days: int) -> list[DayRow]:
        """The newest days in few words, oldest first."""
        ...
