"""What the feature store needs from outside."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from millrace.bus.events import Batch, Record
from millrace.definitions.model import Project

from services.feature_store.domain.answers import Reading
from services.feature_store.domain.consistency import CheckedRead, SampledRead
from services.feature_store.domain.consistency import Example as Example
from services.feature_store.domain.consistency import ReadCounts as ReadCounts
from services.feature_store.domain.consistency import Tally as Tally
from services.feature_store.domain.histories import Census as Census
from services.feature_store.domain.histories import Extent as Extent
from services.feature_store.domain.histories import Range as Range
from services.feature_store.domain.histories import Stretch as Stretch
from services.feature_store.domain.histories import Table as Table
from services.feature_store.domain.histories import Weight as Weight
from services.feature_store.domain.lineage import ModelVersion
from services.feature_store.domain.online import Decoded
from services.feature_store.domain.shadow import Difference
from services.feature_store.domain.snapshot import Manifest
from services.feature_store.domain.values import Filling, Position
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
        self, places: Sequence[Place], wanted: Sequence[tuple[Place, Sequence[str]]] = ()
    ) -> tuple[list[Position | None], list[list[bytes | None]]]:
        """Positions of `places`, and for each of `wanted` the rows of its entities; all as of one instant."""
        ...

    async def swap(self, writes: Sequence[Write], gone: Sequence[str] = ()) -> bool:
        """Write all rows and positions if every expected position is still there, else nothing: False. With them go
        the rows of the entities `gone`, in the first write's place.

        All writes of one call belong to one source partition.
        """
        ...

    async def filling(self, place: Place) -> Filling | None:
        """How far the place has been filled from history; None when nobody fills it."""
        ...

    async def fill(self, place: Place, before: Filling | None, after: Filling, rows: Mapping[str, bytes]) -> bool:
        """Write rows and `after`, if the place has no position yet and its filling is `before`, else nothing: False.
        With the last part done the place gets its position."""
        ...

    async def begin_emptying(self, places: Sequence[Place], lapses_s: int) -> None:
        """Take positions and fillings away; until `end_emptying`, or until that time is over, nobody writes there."""
        ...

    async def is_emptying(self, place: Place) -> bool:
        """Whether somebody is deleting what the place holds."""
        ...

    async def end_emptying(self, places: Sequence[Place]) -> None:
        """The places may be filled."""
        ...

    async def expire(self, place: Place, entities: Sequence[str], before_us: int) -> int:
        """Delete those rows of the place whose newest event is older, as one step each; how many."""
        ...

    async def rewrite_log(self) -> None:
        """Let the server drop what its log holds of values that were deleted or replaced; it does so by and by."""
        ...


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

    async def count(self, table: Table, span: Range) -> int:
        """How many events `read` would give, or a few more."""
        ...

    async def read(self, table: Table, fields: Sequence[str], span: Range) -> pa.Table:
        """Events of the range, each once, by (event time, id): the SYSTEM columns and the named fields."""
        ...


class HistoryColumns(Protocol):
    """History for timelines: columns, in any order. All failures of the server are StoreUnavailable."""

    async def census(self, table: Table) -> Census:
        """What the table holds at one instant."""
        ...

    async def weigh(self, table: Table, fields: Sequence[str], stretch: Stretch) -> Weight:
        """How much `timeline` would give, roughly."""
        ...

    async def cuts(self, table: Table, stretch: Stretch, pieces: int) -> list[int]:
        """At most `pieces` - 1 event times, ascending, that cut the stretch into parts of about one size."""
        ...

    async def timeline(self, table: Table, fields: Sequence[str], stretch: Stretch) -> pa.Table:
        """Events of the stretch, as `timeline_schema`; each once, unless `after` is given: then as they came."""
        ...


class HistoryParts(Protocol):
    """History partition by partition, for the online store. `label` as in Place: a partition, or RETRIED. All failures
    of the server are StoreUnavailable."""

    async def extent(self, table: Table, label: str) -> Extent | None:
        """What there is; None for nothing, or no table."""
        ...

    async def part(
        self,
        table: Table,
        fields: Sequence[str],
        label: str,
        upto: int,
        entity_fields: Sequence[str],
        part: tuple[int, int],
    ) -> pa.Table:
        """Events up to an offset, each once, in any order, as `timeline_schema` with `_event_id` at the end; `part` as
        in Stretch."""
        ...


class History(HistoryStore, HistoryColumns, HistoryParts, Protocol):
    """All ways of reading, of one store."""


class SpineSource(Protocol):
    """Labelled examples, from labeling."""

    async def spine(self, project: str, from_us: int, to_us: int, as_of_us: int) -> pa.Table:
        """Columns entity, moment_us, label, outcome, origin, confidence (and more), ordered by (moment, entity)."""
        ...


class Spool(Protocol):
    """A table on its way, kept in a file. Failures to write are StoreUnavailable."""

    async def write(self, piece: bytes) -> None:
        """Append bytes of an Arrow IPC stream or file, or of a Parquet file."""
        ...

    async def append(self, batch: pa.RecordBatch) -> None:
        """Append rows; not beside `write`."""
        ...

    async def table(self) -> pa.Table:
        """All of it, its cells still in the file. Raises pyarrow's errors for bytes that are no table."""
        ...

    async def close(self) -> None:
        """The file goes when the table does."""
        ...


class Spools(Protocol):
    """Makes spools."""

    def open(self) -> Spool:
        """An empty one."""
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
    """One key of the online store: whose it is, and of which entity; None where it is no entity's row. What is not
    `is_held` only says that a place is being emptied."""

    key: bytes
    place: Place
    entity: str | None
    is_held: bool = True


@dataclass(frozen=True, slots=True)
class Walked:
    """A part of a walk through the online store: keys looked at so far, keys there are, what was found in this part."""

    scanned: int
    total: int
    found: list[Kept]


class OnlineKeys(Protocol):
    """The online store key by key, in bounded steps. All failures of the server are StoreUnavailable."""

    def walk(self, project: str) -> AsyncIterator[Walked]:
        """Everything kept of a project, in no order; what is there all the while comes at least once."""
        ...

    async def delete(self, keys: Sequence[bytes]) -> int:
        """How many of them were there."""
        ...

    async def sizes(self, keys: Sequence[bytes]) -> list[tuple[int, int]]:
        """(bytes of the value, bytes of memory with key and overhead) of each key that is still there."""
        ...


class MarkStore(Protocol):
    """How far each partition is in its history table, told by the process that writes it. StoreUnavailable."""

    async def tell(self, marks: Mapping[tuple[str, int], Position]) -> None:
        """These tables' partitions are there; it lapses after some seconds unless it is told again."""
        ...

    async def told(self, places: Sequence[tuple[str, int]]) -> list[Position | None]:
        """What was told of each last; None: nothing, or nothing lately."""
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
        self,
        project: str,
        sources: Sequence[str],
        lasts_us: Mapping[str, int],
        patiently: bool,
        looked_at: Callable[[int], None],
    ) -> list[Difference]:
        """One difference per view; `patiently` waits until both stand at one offset. Rows whose newest event is older
        than `lasts_us` of their view (id) may be gone from either side, and are left out. Raises StoreUnavailable."""
        ...

    async def keep(self, project: str) -> None:
        """Note that it will be left to look at. Raises StoreUnavailable."""
        ...

    async def drop(self) -> None:
        """Delete all that is the shadow's. Raises StoreUnavailable."""
        ...


class KeptShadows(Protocol):
    """Shadows that were left to look at."""

    async def drop(self, project: str) -> list[str]:
        """Delete all of the project's; their names. Raises StoreUnavailable."""
        ...


class ShadowTableStore(Protocol):
    """History rows of a shadow beside the live ones."""

    async def compare(self, table: Table, spans: Mapping[int, tuple[int, int]]) -> Difference:
        """Of the offsets `[start, end)` by partition. Raises StoreUnavailable."""
        ...

    async def drop(self) -> None:
        """Delete all that is the shadow's. Raises StoreUnavailable."""
        ...


class Erasing(Protocol):
    """Deletion from history. All failures of the server are StoreUnavailable."""

    async def touched(self, table: Table, field: str, entity: str, until_us: int, of: Sequence[str]) -> list[str]:
        """The different keys that the columns `of` make in rows whose `field` is the entity, visible by then."""
        ...

    async def events(
        self, table: Table, entity_fields: Sequence[str], entities: Sequence[str], from_us: int
    ) -> pa.Table:
        """Events since then whose `entity_fields` make one of the keys, each once, by (partition, offset)."""
        ...

    async def erase(self, project: str, source: str, field: str, entity: str, until_us: int) -> int:
        """Deletes the rows whose `field` is the entity and that were visible by then, in every table that the source
        ever had; how many. Their bytes are gone within minutes."""
        ...

    async def erase_reads(self, project: str, entity: str) -> int:
        """Deletes the sampled reads of the entity and what came of them; how many rows."""
        ...

    async def expire(self, project: str, source: str, before_us: int) -> int:
        """Deletes the rows that were visible before then; how many."""
        ...


@dataclass(frozen=True, slots=True)
class Question:
    """A view's columns (by position) at n (key, moment) pairs, of events visible by `visible_to_us`.

    `keys` are entity keys of any type, null where there is none; moments int64 microseconds.
    """

    columns: tuple[int, ...]
    keys: pa.Array
    moment_us: np.ndarray
    as_happened: bool
    visible_to_us: int


@dataclass(frozen=True, slots=True)
class Told:
    """The answer: one array per column, null where the view says nothing; `known` is where the entity has events."""

    known: np.ndarray
    columns: list[pa.Array]

    def replaced(self, where: np.ndarray, other: Told) -> Told:
        """`other` where the mask says so, else this; known is what either knows."""
        mask = pa.array(where)
        pairs = [_alike(a, b) for a, b in zip(self.columns, other.columns, strict=True)]
        return Told(self.known | other.known, [pc.if_else(mask, b, a) for a, b in pairs])


def _alike(one: pa.Array, other: pa.Array) -> tuple[pa.Array, pa.Array]:
    """Both in one type: what knows nothing of a column cannot tell which it has."""
    if one.type == other.type:
        return one, other
    if one.null_count == len(one):
        return pa.nulls(len(one), other.type), other
    if other.null_count == len(other):
        return one, pa.nulls(len(other), one.type)
    return one.cast(pa.float64()), other.cast(pa.float64())


@dataclass(frozen=True, slots=True)
class Held:
    """What a timeline holds; `repeats` events were added that it had already (by identity)."""

    rows: int
    bytes: int
    repeats: int


class TimelineShelf(Protocol):
    """Timelines by name, away from the event loop. Raises Unavailable when what held them is gone, with all of them."""

    async def add(self, name: str, view: CompiledView, events: pa.Table) -> None:
        """Give a timeline (a new one for a new name) a piece of history."""
        ...

    async def seal(self, name: str, view: CompiledView) -> Held:
        """What was added counts from now on."""
        ...

    async def read(self, name: str, question: Question) -> Told:
        """Ask a sealed timeline. Raises ExpressionError."""
        ...

    async def drop(self, name: str) -> None:
        """Forget a timeline; harmless when there is none."""
        ...


@dataclass(frozen=True, slots=True)
class KeptObject:
    """An object of the object store: a snapshot's manifest, or (None) a chunk of rows."""

    digest: str
    manifest: Manifest | None


class SnapshotBook(Protocol):
    """What the object store holds, and what took the place of what it held."""

    async def note(self, digest: str, manifest: Manifest | None) -> None:
        """This object is about to be written."""
        ...

    async def kept(self) -> Sequence[KeptObject]:
        """Everything that was not superseded."""
        ...

    async def supersede(self, digest: str, by: str) -> None:
        """This object is gone; `by` took its place (empty: nothing did)."""
        ...

    async def superseded_by(self, digest: str) -> str | None:
        """What took its place; None where it was not superseded."""
        ...


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
