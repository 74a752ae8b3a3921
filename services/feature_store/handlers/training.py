"""Training sets and historical reads: the same plan as online, evaluated on history at each example's own moment."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from millrace.definitions.model import FieldType
from millrace.runtime.errors import Invalid
from millrace.stores.objects import Objects

from services.feature_store.domain.answers import Cells, Judged, assemble, join_keys, judge
from services.feature_store.domain.inputs import InputsPlan, Lookup
from services.feature_store.domain.snapshot import AS_HAPPENED, AS_KNOWN, Manifest
from services.feature_store.errors import BadSpine, EmptyTrainingSet, SnapshotCorrupt, TooLate
from services.feature_store.handlers.entities import EntityHistory
from services.feature_store.handlers.feeds import FeedBook, ProjectFeed
from services.feature_store.handlers.history import HistoryWriter
from services.feature_store.handlers.spines import Spines
from services.feature_store.handlers.tables import StreamPieces, composite_texts, feature_column, row_bytes, to_stream
from services.feature_store.handlers.timelines import FOREVER_US, MIB, Timelines
from services.feature_store.ports import HistoryReader, Question

PIECE_BYTES = 1 << 20
MANIFEST_KEY = b"millrace.manifest"  # schema metadata of a snapshot's stream
READS_AT_ONCE = 2  # each holds one source's events in memory
# Of the memory of training sets: the rows that are worked out together.
BLOCK_SHARE = 1 / 8


@dataclass(frozen=True, slots=True)
class Ask:
    """One training set. `as_of_us` 0: as known when history was asked.

    `features` empty: all inputs. With `spine` (the digest of an uploaded table) its rows are taken as they are, and
    `from_us` and `to_us` are 0.
    """

    project: str
    from_us: int
    to_us: int
    as_of_us: int
    as_happened: bool
    features: tuple[str, ...] = ()
    spine: str = ""
    service: str = ""  # whose features are the columns; empty: the model's inputs


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a training set is; `digest` and `manifest` are set at the end."""

    rows_done: int
    rows_total: int
    digest: str = ""
    manifest: Manifest | None = None


@dataclass(frozen=True, slots=True)
class Moments:
    """Examples: entity and moment (int64 microseconds) of each, and how history is to be seen."""

    entities: list[str]
    moment_us: np.ndarray
    as_of_us: int
    as_happened: bool


class Historian:
    """Evaluates plans on history. It is waited for as long as `wait_s`; `hurry` lets the writer's events come at once,
    though they are being gathered."""

    def __init__(
        self,
        entities: EntityHistory,
        feeds: FeedBook,
        writer: HistoryWriter,
        wait_s: float,
        hurry: Callable[[], None],
    ) -> None:
        self._wait_s = wait_s
        self._entities = entities
        self._feeds = feeds
        self._writer = writer
        self._hurry = hurry

    def project(self, name: str) -> ProjectFeed:
        """Raises UnknownProject."""
        return self._feeds.project(name)

    def watermark_us(self, feed: ProjectFeed) -> int:
        """Everything visible by then is in the tables."""
        marks = [self._writer.visible_us(s.table, p) for s in feed.sources.values() for p in range(s.partitions)]
        return min(marks, default=0)

    async def settle(self, feed: ProjectFeed, as_of_us: int) -> None:
        """Until history holds everything visible by `as_of_us`. Raises TooLate."""
        deadline = asyncio.get_running_loop().time() + self._wait_s
        await self._writer.flush()
        while (mark := self.watermark_us(feed)) < as_of_us:
            left_s = deadline - asyncio.get_running_loop().time()
            if left_s <= 0:
                raise TooLate(f"history has come to {mark}; {as_of_us} was asked for")
            self._hurry()
            await self._writer.moved(left_s)

    async def cells(self, feed: ProjectFeed, plan: InputsPlan, moments: Moments, reader: HistoryReader) -> list[Cells]:
        """One column of cells per feature; see `judged`."""
        return assemble(plan, await self.judged(feed, plan, moments, reader))

    async def judged(
        self, feed: ProjectFeed, plan: InputsPlan, moments: Moments, reader: HistoryReader
    ) -> dict[Lookup, Judged]:
        """What history says of each lookup of the plan, for a few examples: read by entity key and without a lower
        bound, so that an old value shows as EXPIRED. Raises TooMuchHistory."""
        judged: dict[Lookup, Judged] = {}
        turns = asyncio.Semaphore(READS_AT_ONCE)

        async def look_up(lookup: Lookup) -> None:
            keys: Sequence[str | None] = moments.entities
            if lookup.carriers:
                keys = join_keys(lookup, judged)
            async with turns:
                events = await self._entities.read(
                    feed.source_of(lookup.view).table,
                    lookup.view,
                    keys,
                    from_us=-FOREVER_US,
                    to_us=int(moments.moment_us.max(initial=0)),
                    visible_to_us=moments.as_of_us or FOREVER_US,
                )
                reading = await reader.read(lookup.view, list(keys), moments.moment_us, events, moments.as_happened)
            places = np.array([-1 if key is None else i for i, key in enumerate(keys)], dtype=np.int64)
            judged[lookup] = judge(lookup.view, reading).at(places)

        for round_ in (plan.direct, plan.joined):  # a join's keys are values of the first round
            await asyncio.gather(*map(look_up, round_))
        return judged


@dataclass(frozen=True, slots=True)
class SnapshotLimits:
    """What bounds memory: rows and MiB of one snapshot object, and MiB of everything that is worked out at once."""

    chunk_rows: int
    chunk_mib: int
    memory_mib: int

    def rows_of_chunk(self, schema: pa.Schema) -> int:
        """Rows of one object: the same for equal columns, so that equal sets have equal names."""
        return max(1, min(self.chunk_rows, self.chunk_mib * MIB // row_bytes(schema)))

    def rows_of_block(self, schema: pa.Schema) -> int:
        """Rows worked out together: whole chunks."""
        chunk = self.rows_of_chunk(schema)
        return max(1, int(self.memory_mib * MIB * BLOCK_SHARE) // row_bytes(schema) // chunk) * chunk


class TrainingSets:
    """Builds snapshots and gives them back."""

    def __init__(
        self, historian: Historian, timelines: Timelines, spines: Spines, objects: Objects, limits: SnapshotLimits
    ) -> None:
        self._historian = historian
        self._timelines = timelines
        self._spines = spines
        self._objects = objects
        self._limits = limits
        self.building = 0
        self._ended = asyncio.Event()
        self._began: set[object] = set()

    async def finished(self) -> None:
        """Until every training set that is being built now has been written, or given up."""
        waited = set(self._began)
        while waited & self._began:
            await self._ended.wait()

    async def create(self, ask: Ask) -> AsyncIterator[Progress]:
        """Progress, and at last the snapshot.

        Raises UnknownProject, UnknownFeature, BadSpine, EmptyTrainingSet, TooLate, Unavailable.
        """
        self.building += 1
        this = object()
        self._began.add(this)
        try:
            feed = self._historian.project(ask.project)
            plan = _plan(feed, ask)
            as_of_us = ask.as_of_us or self._historian.watermark_us(feed)
            await self._historian.settle(feed, as_of_us)
            spine = await self._spine(ask, as_of_us)
            schema = _schema(plan, spine)
            yield Progress(0, spine.num_rows)
            for view in plan.views:
                await self._timelines.ready(feed.source_of(view).table, view)
            chunks: list[str] = []
            present = np.zeros(len(plan.features), dtype=np.int64)
            size, most = self._limits.rows_of_chunk(schema), self._limits.rows_of_block(schema)
            for begin in range(0, spine.num_rows, most):
                block = await self._block(feed, plan, spine.slice(begin, most), schema, ask, as_of_us)
                present += [block.num_rows - block[name].null_count for name in plan.names]
                for place in range(0, block.num_rows, size):
                    chunks.append(await self._put(block.slice(place, size)))
                    yield Progress(min(begin + place + size, spine.num_rows), spine.num_rows)
            counted = tuple(zip(plan.names, present.tolist(), strict=True))
            manifest = _manifest(feed, ask, as_of_us, schema, spine.num_rows, tuple(chunks), counted)
            digest = await self._objects.put(manifest.to_bytes())
            yield Progress(spine.num_rows, spine.num_rows, digest, manifest)
        finally:
            self.building -= 1
            self._began.discard(this)
            self._ended.set()
            self._ended = asyncio.Event()

    async def _spine(self, ask: Ask, as_of_us: int) -> pa.Table:
        if not ask.spine:
            spine = await self._spines.labelled(ask.project, ask.from_us, ask.to_us, as_of_us)
            if not spine.num_rows:
                raise EmptyTrainingSet(f"{ask.project} has no matured label in [{ask.from_us}, {ask.to_us})")
            return spine
        if ask.from_us or ask.to_us:
            raise Invalid("from and to choose among labelled examples; the rows of an own spine are all taken")
        return await self._spines.uploaded(ask.spine)

    async def _block(
        self, feed: ProjectFeed, plan: InputsPlan, rows: pa.Table, schema: pa.Schema, ask: Ask, as_of_us: int
    ) -> pa.Table:
        """The rows with their features. Each view is asked once; joins go through what the first round said."""
        wanted: dict[Lookup, set[int]] = {lookup: set() for lookup in (*plan.direct, *plan.joined)}
        for feature in plan.features:
            wanted[feature.lookup].add(feature.column)
            for carrier, column in feature.lookup.carriers:
                wanted[carrier].add(column)
        entities, moment_us = rows["entity"].combine_chunks(), rows["moment_us"].to_numpy()
        told: dict[tuple[Lookup, int], pa.Array] = {}

        async def look_up(lookup: Lookup) -> None:
            keys = composite_texts([told[part] for part in lookup.carriers]) if lookup.carriers else entities
            columns = tuple(sorted(wanted[lookup]))
            question = Question(columns, keys, moment_us, ask.as_happened, as_of_us)
            answer = await self._timelines.read(feed.source_of(lookup.view).table, lookup.view, question)
            told.update({(lookup, c): values for c, values in zip(columns, answer.columns, strict=True)})

        for round_ in (plan.direct, plan.joined):
            await asyncio.gather(*map(look_up, round_))
        values = [feature_column(f.type, told[f.lookup, f.column]) for f in plan.features]
        return pa.table([*rows.columns, *values], schema=schema)

    async def _put(self, rows: pa.Table) -> str:
        return await self._objects.put(await asyncio.to_thread(to_stream, rows))

    async def read(self, digest: str) -> AsyncIterator[bytes]:
        """The rows of a snapshot as one Arrow IPC stream, in pieces; every digest is verified.

        One object is held at a time. Raises ObjectMissing, ObjectCorrupt, SnapshotCorrupt.
        """
        try:
            manifest = Manifest.from_bytes(await self._objects.get(digest))
        except ValueError as error:
            raise SnapshotCorrupt(f"{digest}: {error}") from error
        rows = 0
        pieces: StreamPieces | None = None
        for chunk in manifest.chunks:
            with pa.ipc.open_stream(await self._objects.get(chunk)) as stream:
                for batch in stream:
                    # The manifest travels with the rows: a reader can hold them against the digest it asked for.
                    schema = stream.schema.with_metadata({MANIFEST_KEY: manifest.to_bytes()})
                    pieces = pieces or StreamPieces(schema, PIECE_BYTES)
                    rows += batch.num_rows
                    for piece in pieces.batch(batch):
                        yield piece
        if rows != manifest.rows or pieces is None:
            raise SnapshotCorrupt(f"{digest}: {rows} rows, the manifest says {manifest.rows}")
        for piece in pieces.end():
            yield piece


def _plan(feed: ProjectFeed, ask: Ask) -> InputsPlan:
    if twice := sorted({name for name in ask.features if ask.features.count(name) > 1}):
        raise Invalid(f"feature {twice[0]} is named twice")
    return feed.plan_for(ask.features, ask.service)


def _schema(plan: InputsPlan, spine: pa.Table) -> pa.Schema:
    """The spine's columns, then one per input: string or float64, null where not PRESENT."""
    kinds = {FieldType.STRING: pa.string()}
    features = [pa.field(f.name, kinds.get(f.type, pa.float64())) for f in plan.features]
    if both := sorted(set(spine.column_names) & set(plan.names)):
        raise BadSpine(f"the spine has a column {both[0]}, which is a feature: rename it")
    return pa.schema([*spine.schema.remove_metadata(), *features])


def _manifest(
    feed: ProjectFeed,
    ask: Ask,
    as_of_us: int,
    schema: pa.Schema,
    rows: int,
    chunks: tuple[str, ...],
    present: tuple[tuple[str, int], ...],
) -> Manifest:
    return Manifest(
        project=ask.project,
        definition_version=feed.definition.version,
        definition_digest=feed.definition.digest,
        from_us=ask.from_us,
        to_us=ask.to_us,
        as_of_us=as_of_us,
        rule=AS_HAPPENED if ask.as_happened else AS_KNOWN,
        columns=tuple((field.name, str(field.type)) for field in schema),
        rows=rows,
        chunks=chunks,
        spine=ask.spine,
        present=present,
    )
