"""What the feature store needs from outside."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import pyarrow as pa
from millrace.bus.events import Batch, Record
from millrace.definitions.model import FieldType

from services.feature_store.domain.answers import Reading
from services.feature_store.domain.consistency import CheckedRead, SampledRead
from services.feature_store.domain.online import Decoded
from services.feature_store.domain.values import Position
from services.feature_store.domain.views import CompiledView

# Partition label of records handed back from the dead letters: their offsets are those of another topic.
RETRIED = "r"


class Place(NamedTuple):
    """Where one view's rows of one source partition live. `label` is the partition's number, or RETRIED."""

    project: str
    source: str
    label: str
    view_id: str


@dataclass(frozen=True, slots=True)
class Write:
    """One view's part of a swap: rows by entity, valid only on top of the position `expected` (None: none yet)."""

    place: Place
    expected: Position | None
    position: Position
    rows: Mapping[str, bytes]


Reject = Callable[[Record, str, str], None]


class Reader(Protocol):
    """Decodes the records of one source."""

    def decode(self, batch: Batch, reject: Reject) -> Decoded:
        """The batch; what cannot be read goes to `reject` (record, error, reason) and is left out."""
        ...


class OnlineStore(Protocol):
    """Packed rows with the position that they reflect. All failures of the server are StoreUnavailable."""

    async def read(
        self, places: Sequence[Place], wanted: Sequence[tuple[Place, str]]
    ) -> tuple[list[Position | None], list[bytes | None]]:
        """Positions of `places` and the rows of (place, entity) pairs, as of one instant."""
        ...

    async def swap(self, writes: Sequence[Write]) -> bool:
        """Write all rows and positions if every expected position is still there, else nothing: False.

        All writes of one call belong to one source partition.
        """
        ...


@dataclass(frozen=True, slots=True)
class Table:
    """History of one source under one contract: column name and type of each field."""

    name: str
    project: str
    source: str
    fields: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Range:
    """Which history is read. `entities` None: of every entity; otherwise those whose `entity_fields` make one of the
    keys."""

    from_us: int
    to_us: int
    visible_to_us: int
    entity_fields: tuple[str, ...] = ()
    entities: tuple[str, ...] | None = None


# Columns that every history table has before the source's fields; `_via` names the retry topic, if there was one.
SYSTEM: tuple[tuple[str, pa.DataType], ...] = (
    ("_event_us", pa.int64()),
    ("_visible_us", pa.int64()),
    ("_partition", pa.int64()),
    ("_offset", pa.int64()),
    ("_event_id", pa.string()),
    ("_via", pa.string()),
)


FIELD_TYPES: dict[str, pa.DataType] = {
    FieldType.STRING: pa.string(),
    FieldType.NUMBER: pa.float64(),
    FieldType.INTEGER: pa.int64(),
    FieldType.BOOLEAN: pa.bool_(),
    FieldType.TIMESTAMP: pa.int64(),
}


def history_schema(fields: Sequence[tuple[str, str]]) -> pa.Schema:
    """The Arrow schema of history with these fields (name, type)."""
    return pa.schema([*SYSTEM, *((name, FIELD_TYPES[kind]) for name, kind in fields)])


class HistoryStore(Protocol):
    """Events of all time. All failures of the server are StoreUnavailable."""

    async def ensure(self, table: Table) -> None:
        """Create the table unless it exists, filled from the same source's table under its previous contract."""
        ...

    async def positions(self, table: Table) -> Mapping[int, Position]:
        """Per partition: the last offset that is in the table, and its visible time."""
        ...

    async def insert(self, table: Table, rows: pa.Table) -> None:
        """Append; rows that are there already stay one."""
        ...

    async def read(self, table: Table, fields: Sequence[str], span: Range) -> pa.Table:
        """Events of the range, each once, by (event time, id): the SYSTEM columns and the named fields."""
        ...


class SpineSource(Protocol):
    """Labelled examples, from labeling."""

    async def spine(self, project: str, from_us: int, to_us: int, as_of_us: int) -> pa.Table:
        """Columns entity, moment_us, label, outcome, origin, confidence (and more), ordered by (moment, entity)."""
        ...


class HistoryReader(Protocol):
    """Evaluates a view over history, away from the event loop."""

    async def read(
        self, view: CompiledView, keys: list[str | None], moments_us: np.ndarray, events: pa.Table, as_happened: bool
    ) -> Reading:
        """The view at each (key, moment), from `events` as `HistoryStore.read` gives them. Raises Unavailable."""
        ...


@dataclass(frozen=True, slots=True)
class Tally:
    """What came of one feature's sampled values on one day of the project's clock; `by_outcome` by Outcome's number."""

    feature: str
    day: str
    by_outcome: Mapping[int, int]
    largest_difference: float


@dataclass(frozen=True, slots=True)
class Example:
    """One value that was not what history says, in JSON: [value, status, age in microseconds]."""

    feature: str
    entity: str
    as_of_us: int
    outcome: int
    online: str
    offline: str


@dataclass(frozen=True, slots=True)
class ReadCounts:
    """Sampled reads of a project: recomputed, given up on, waiting."""

    checked: int
    skipped: int
    pending: int


class ReadLog(Protocol):
    """Sampled online reads and what came of them. All failures of the server are StoreUnavailable."""

    async def append(self, reads: Sequence[SampledRead]) -> None:
        """Keep reads; one that is there already stays one."""
        ...

    async def pending(self, since_us: int, until_us: int, limit: int) -> list[SampledRead]:
        """The oldest reads logged in [since, until) (wall time) that have no result."""
        ...

    async def record(self, checked: Sequence[CheckedRead]) -> None:
        """Keep results; one that is there already stays one."""
        ...

    async def tallies(self, project: str, from_us: int, to_us: int) -> list[Tally]:
        """Results of values as of [from, to) (the project's time), by (feature, day)."""
        ...

    async def examples(self, project: str, from_us: int, to_us: int, limit: int) -> list[Example]:
        """Values that differed, the newest first."""
        ...

    async def counts(self, project: str, since_us: int) -> ReadCounts:
        """How many reads were logged since then (wall time), and what became of them."""
        ...
