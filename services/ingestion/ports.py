"""What this room needs of the outside, beside the bus."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from millrace.wire.ingestion.v1.forgetting_pb2 import Forget, ForgetReceipt


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

    async def read(self, topic: str, ids: int) -> Tail:
        """The last times, and the newest ids: `ids` of them (more where some were sent at once), or as many as a
        bounded look back finds. Raises BusUnavailable."""
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


class Sealable(NamedTuple):
    """A value to be encrypted: whose it is, where it stands (project/source/field), and what it says."""

    entity: str
    place: str
    text: str


class Keys(Protocol):
    """The key of each entity whose fields are encrypted. Once destroyed, nobody reads them any more."""

    async def seal(self, project: str, values: Sequence[Sealable]) -> list[str]:
        """Each value encrypted under its entity's key, which is made where there is none yet."""
        ...

    async def unseal(self, project: str, entity: str, values: Mapping[str, str]) -> dict[str, str]:
        """By place: the values in the clear. Raises Unreadable."""
        ...

    async def destroy(self, project: str, entities: Collection[str]) -> int:
        """How many of them had a key; they have none afterwards."""
        ...


@dataclass(slots=True)
class ForgetRow:
    """One request as kept. `seq` orders the proofs: 1 for the first that was done, 0 before."""

    id: str
    project: str
    entity_digest: str
    fields: list[str]
    reason: str
    actor: str
    asked_us: int
    request: Forget
    done_us: int = 0
    published: int = 0
    seq: int = 0
    proof: str = ""
    signature: str = ""
    receipts: list[ForgetReceipt] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Reveal:
    """Somebody saw encrypted values in the clear."""

    project: str
    source: str
    entity_digest: str
    fields: tuple[str, ...]
    reason: str
    actor: str
    revealed_us: int


class Forgets(Protocol):
    """Requests to forget with their receipts and proofs, and who saw what."""

    async def save(self, row: ForgetRow) -> None:
        """Writes the request without its receipts; the bytes of what it said before are overwritten."""
        ...

    async def receive(self, receipt: ForgetReceipt) -> None:
        """Keeps the first answer of a replica to a phase: what it deleted then, a repeat finds gone."""
        ...

    async def get(self, request_id: str) -> ForgetRow | None:
        """One request with its receipts."""
        ...

    async def newest(self, project: str = "", entity_digest: str = "") -> Sequence[ForgetRow]:
        """Newest first."""
        ...

    async def last_proof(self) -> tuple[int, str]:
        """(seq, proof) of the request that was done last; (0, "") before the first."""
        ...

    async def proof_before(self, seq: int) -> str:
        """The proof that the one of `seq` stands on."""
        ...

    async def note(self, reveal: Reveal) -> None:
        """Keeps who saw what."""
        ...

    async def reveals(self, project: str) -> Sequence[Reveal]:
        """Newest first, at most a thousand; of every project for ""."""
        ...
