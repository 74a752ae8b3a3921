"""What the feature store needs from outside."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import pyarrow as pa
from millrace.bus.events import Batch, Record
from millrace.definitions.model import FieldType, Project

from services.feature_store.domain.answers import Reading
from services.feature_store.domain.lineage import ModelVersion
from services.feature_store.domain.online import Decoded
from services.feature_store.domain.shadow import Difference
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
class Kept:
    """One key of the online store: whose it is, and of which entity; None where it is no entity's row."""

    key: bytes
    place: Place
    entity: str | None


@dataclass(frozen=True, slots=True)
class Stretch:
    """A part of a walk through the online store: keys looked at so far, keys there are, what was found in this part."""

    scanned: int
    total: int
    found: list[Kept]


class OnlineKeys(Protocol):
    """The online store key by key, in bounded steps. All failures of the server are StoreUnavailable."""

    def walk(self, project: str) -> AsyncIterator[Stretch]:
        """Everything kept of a project, in no order; what is there all the while comes at least once."""
        ...

    async def delete(self, keys: Sequence[bytes]) -> int:
        """How many of them were there."""
        ...

    async def sizes(self, keys: Sequence[bytes]) -> list[tuple[int, int]]:
        """(bytes of the value, bytes of memory with key and overhead) of each key that is still there."""
        ...


class EventRates(Protocol):
    """How busy a source is."""

    async def per_hour(self, table: Table, until_us: int) -> float | None:
        """Events per hour of event time over the day before `until_us`; None when there are none."""
        ...


class ModelBook(Protocol):
    """What the registry knows of a project. All failures are Unavailable."""

    async def definitions(self, project: str) -> Mapping[int, Project]:
        """The definitions of the project by version."""
        ...

    async def versions(self, project: str, models: Sequence[str]) -> list[ModelVersion]:
        """All versions of these models, the newest first."""
        ...


class ShadowRowStore(Protocol):
    """Online rows of a shadow beside the live ones."""

    async def compare(
        self, project: str, sources: Sequence[str], patiently: bool, looked_at: Callable[[int], None]
    ) -> list[Difference]:
        """One difference per view; `patiently` waits until both stand at one offset. Raises StoreUnavailable."""
        ...

    async def drop(self) -> None:
        """Delete all that is the shadow's. Raises StoreUnavailable."""
        ...


class ShadowTableStore(Protocol):
    """History rows of a shadow beside the live ones."""

    async def compare(self, table: Table, spans: Mapping[int, tuple[int, int]]) -> Difference:
        """Of the offsets `[start, end)` by partition. Raises StoreUnavailable."""
        ...

    async def drop(self) -> None:
        """Delete all that is the shadow's. Raises StoreUnavailable."""
        ...
