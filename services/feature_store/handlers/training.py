"""Training sets and historical reads: the same plan as online, evaluated on history at each example's own moment."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from millrace.definitions.model import FieldType
from millrace.stores.objects import Objects

from services.feature_store.domain.answers import Cells, Judged, assemble, join_keys, judge, typed
from services.feature_store.domain.inputs import InputsPlan, Lookup
from services.feature_store.domain.snapshot import AS_HAPPENED, AS_KNOWN, Manifest
from services.feature_store.domain.views import CompiledView
from services.feature_store.errors import EmptyTrainingSet, SnapshotCorrupt, TooLate
from services.feature_store.handlers.feeds import FeedBook, ProjectFeed
from services.feature_store.handlers.history import HistoryWriter
from services.feature_store.ports import HistoryReader, HistoryStore, Range, SpineSource

# Beyond every time that an event can carry: no bound.
FOREVER_US = 2**62
SPINE_COLUMNS = ("entity", "moment_us", "label", "outcome", "origin", "confidence")
PIECE_BYTES = 1 << 20
READS_AT_ONCE = 2  # each holds one source's events in memory
MANIFEST_KEY = b"millrace.manifest"  # schema metadata of a snapshot's stream


@dataclass(frozen=True, slots=True)
class Ask:
    """One training set. `as_of_us` 0: as known when history was asked."""

    project: str
    from_us: int
    to_us: int
    as_of_us: int
    as_happened: bool


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
    """Evaluates plans on history; `hurry` lets the writer's events come at once, though they are being gathered."""

    def __init__(
        self, store: HistoryStore, feeds: FeedBook, writer: HistoryWriter, wait_s: float, hurry: Callable[[], None]
    ) -> None:
        self._store = store
        self._feeds = feeds
        self._writer = writer
        self._wait_s = wait_s
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

    async def cells(
        self, feed: ProjectFeed, plan: InputsPlan, moments: Moments, reader: HistoryReader, *, few: bool
    ) -> list[Cells]:
        """One column of cells per feature; see `judged`."""
        return assemble(plan, await self.judged(feed, plan, moments, reader, few=few))

    async def judged(
        self, feed: ProjectFeed, plan: InputsPlan, moments: Moments, reader: HistoryReader, *, few: bool
    ) -> dict[Lookup, Judged]:
        """What history says of each lookup of the plan.

        With `few` examples history is read by entity key and without a lower bound, so that an old value shows as
        EXPIRED; otherwise by time, as far back as it can matter.
        """
        judged: dict[Lookup, Judged] = {}
        turns = asyncio.Semaphore(READS_AT_ONCE)

        async def look_up(lookup: Lookup) -> None:
            keys: Sequence[str | None] = moments.entities
            if lookup.carriers:
                keys = join_keys(lookup, judged)
            async with turns:
                events = await self._events(feed, lookup.view, keys, moments, few=few)
                reading = await reader.read(lookup.view, list(keys), moments.moment_us, events, moments.as_happened)
            places = np.array([-1 if key is None else i for i, key in enumerate(keys)], dtype=np.int64)
            judged[lookup] = judge(lookup.view, reading).at(places)

        for round_ in (plan.direct, plan.joined):  # a join's keys are values of the first round
            await asyncio.gather(*map(look_up, round_))
        return judged

    async def _events(
        self, feed: ProjectFeed, view: CompiledView, keys: Sequence[str | None], moments: Moments, *, few: bool
    ) -> pa.Table:
        source = feed.source_of(view)
        lookback_us = view.lookback_us()
        unbounded = few or not lookback_us or not len(moments.moment_us)
        span = Range(
            from_us=-FOREVER_US if unbounded else int(moments.moment_us.min()) - lookback_us,
            to_us=int(moments.moment_us.max()) if len(moments.moment_us) else 0,
            visible_to_us=moments.as_of_us or FOREVER_US,
            entity_fields=view.view.entity_fields,
            entities=tuple(sorted({key for key in keys if key is not None})) if few else None,
        )
        return await self._store.read(source.table, sorted(view.fields), span)


class TrainingSets:
    """Builds snapshots and gives them back."""

    def __init__(
        self, historian: Historian, spines: SpineSource, objects: Objects, reader: HistoryReader, chunk_rows: int
    ) -> None:
        self._historian = historian
        self._spines = spines
        self._objects = objects
        self._reader = reader
        self._chunk_rows = chunk_rows
        self.building = 0

    async def create(self, ask: Ask) -> AsyncIterator[Progress]:
        """Progress, and at last the snapshot. Raises UnknownProject, EmptyTrainingSet, TooLate, Unavailable."""
        self.building += 1
        try:
            feed = self._historian.project(ask.project)
            as_of_us = ask.as_of_us or self._historian.watermark_us(feed)
            await self._historian.settle(feed, as_of_us)
            spine = await self._spines.spine(ask.project, ask.from_us, ask.to_us, as_of_us)
            if not spine.num_rows:
                raise EmptyTrainingSet(f"{ask.project} has no matured label in [{ask.from_us}, {ask.to_us})")
            spine = spine.select(SPINE_COLUMNS).sort_by([("moment_us", "ascending"), ("entity", "ascending")])
            yield Progress(0, spine.num_rows)
            moments = Moments(
                spine["entity"].to_pylist(), spine["moment_us"].to_numpy(), as_of_us, as_happened=ask.as_happened
            )
            cells = await self._historian.cells(feed, feed.plan, moments, self._reader, few=False)
            table = training_table(feed.plan, spine, cells)
            chunks = []
            for begin in range(0, table.num_rows, self._chunk_rows):
                chunks.append(await self._objects.put(to_stream(table.slice(begin, self._chunk_rows))))
                yield Progress(min(begin + self._chunk_rows, table.num_rows), table.num_rows)
            manifest = _manifest(feed, ask, as_of_us, table, tuple(chunks))
            digest = await self._objects.put(manifest.to_bytes())
            yield Progress(table.num_rows, table.num_rows, digest, manifest)
        finally:
            self.building -= 1

    async def read(self, digest: str) -> AsyncIterator[bytes]:
        """The rows of a snapshot as one Arrow IPC stream, in pieces; every digest is verified.

        Raises ObjectMissing, ObjectCorrupt, SnapshotCorrupt.
        """
        try:
            manifest = Manifest.from_bytes(await self._objects.get(digest))
        except ValueError as error:
            raise SnapshotCorrupt(f"{digest}: {error}") from error
        rows = 0
        sink = pa.BufferOutputStream()
        writer: pa.RecordBatchStreamWriter | None = None
        for chunk in manifest.chunks:
            with pa.ipc.open_stream(await self._objects.get(chunk)) as stream:
                for batch in stream:
                    # The manifest travels with the rows: a reader can hold them against the digest it asked for.
                    schema = stream.schema.with_metadata({MANIFEST_KEY: manifest.to_bytes()})
                    writer = writer or pa.ipc.new_stream(sink, schema)
                    writer.write_batch(batch)
                    rows += batch.num_rows
        if rows != manifest.rows or writer is None:
            raise SnapshotCorrupt(f"{digest}: {rows} rows, the manifest says {manifest.rows}")
        writer.close()
        whole = sink.getvalue()
        for begin in range(0, whole.size, PIECE_BYTES):
            yield whole.slice(begin, min(PIECE_BYTES, whole.size - begin)).to_pybytes()


def training_table(plan: InputsPlan, spine: pa.Table, cells: Sequence[Cells]) -> pa.Table:
    """The spine's columns, then one column per input: string or float64, null where not PRESENT."""
    table = spine
    for feature, column in zip(plan.features, cells, strict=True):
        kind = pa.string() if feature.type is FieldType.STRING else pa.float64()
        table = table.append_column(feature.name, pa.array(typed(feature, column), type=kind))
    return table


def to_stream(table: pa.Table) -> bytes:
    """One Arrow IPC stream of one batch; equal tables give equal bytes."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        for batch in table.combine_chunks().to_batches():
            writer.write_batch(batch)
    return bytes(sink.getvalue().to_pybytes())


def _manifest(feed: ProjectFeed, ask: Ask, as_of_us: int, table: pa.Table, chunks: tuple[str, ...]) -> Manifest:
    return Manifest(
        project=ask.project,
        definition_version=feed.definition.version,
        definition_digest=feed.definition.digest,
        from_us=ask.from_us,
        to_us=ask.to_us,
        as_of_us=as_of_us,
        rule=AS_HAPPENED if ask.as_happened else AS_KNOWN,
        columns=tuple((field.name, str(field.type)) for field in table.schema),
        rows=table.num_rows,
        chunks=chunks,
    )
