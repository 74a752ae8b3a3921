"""What this room needs of the outside, beside the bus."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
