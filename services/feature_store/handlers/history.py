"""Events into history: decoded, held for a moment, inserted many at a time.

Kafka's committed offset is not the truth about what is in the tables: the tables are. On assignment the consumer
begins right after the last offset that its table holds, so what was held in memory when a process died is read again;
rows are keyed by event, so what is read twice stays one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from time import monotonic

import numpy as np
import pandas  # noqa: F401  pyarrow imports it with its first array: a second in which nobody would get an answer
import pyarrow as pa
from millrace.bus.backoff import Backoff
from millrace.bus.effects import Effects
from millrace.bus.events import Batch, TopicPartition
from millrace.runtime.errors import Unavailable

from services.feature_store.domain.online import Decoded
from services.feature_store.domain.values import Position
from services.feature_store.handlers.feeds import FeedBook, SourceFeed
from services.feature_store.handlers.schemas import history_schema
from services.feature_store.ports import HistoryStore, Table

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class FlushLimits:
    """When held rows are written: so many, nothing new for `quiet_s`, or the oldest waits for `most_s`."""

    rows: int = 20_000
    quiet_s: float = 0.025
    most_s: float = 1.0
    buffer_rows: int = 100_000


NOWHERE = Position(-1, 0)  # of a partition: nothing is in its table, or nobody says what is


def further(one: Position, other: Position) -> Position:
    """As far as either of two positions of one partition says; the visible time never falls along a log."""
    return Position(max(one.offset, other.offset), max(one.visible_us, other.visible_us))


@dataclass(slots=True)
class _Held:
    """What waits for one table, and how far its partitions are when it is written."""

    batches: list[Decoded] = field(default_factory=list)
    reached: dict[int, Position] = field(default_factory=dict)
    rows: int = 0
    since: float = 0.0


class HistoryWriter:
    """Holds decoded batches and writes them; `run` is a background task."""

    def __init__(self, store: HistoryStore, limits: FlushLimits) -> None:
        self._store = store
        self._limits = limits
        self._held: dict[Table, _Held] = {}
        self._writing = 0
        self._last_add = 0.0
        self._positions: dict[tuple[Table, int], Position] = {}
        self._added = asyncio.Event()
        self._written = asyncio.Event()
        self._one_flush = asyncio.Lock()
        self._stopping = False
        self.problem = ""

    @property
    def held_rows(self) -> int:
        """Rows read from the log that are not in the tables yet."""
        return sum(held.rows for held in self._held.values()) + self._writing

    def position(self, table: Table, partition: int) -> Position:
        """How far a partition is in its table, as far as this process knows."""
        return self._positions.get((table, partition), NOWHERE)

    def visible_us(self, table: Table, partition: int) -> int:
        """The visible time up to which a partition is in its table; 0 before it is known."""
        return self.position(table, partition).visible_us

    def reached(self, table: Table, partition: int, position: Position) -> None:
        """The table holds the partition up to there; older news changes nothing."""
        self._positions[table, partition] = further(position, self.position(table, partition))
        self._signal()

    def stands(self, table: Table, partition: int, position: Position) -> None:
        """The partition is exactly there: what was known of it no longer counts."""
        if position != self.position(table, partition):
            self._positions[table, partition] = position
            self._signal()

    async def add(self, feed: SourceFeed, partition: int, decoded: Decoded) -> None:
        """Take a batch; waits while the buffer is full."""
        while self.held_rows >= self._limits.buffer_rows:
            self._added.set()
            await self.moved(1.0)
        events = decoded.events
        visible_us = max(int(events.visible_us.max()) if len(events) else 0, decoded.heartbeat_us)
        position = Position(decoded.last_offset, visible_us)
        held = self._held.get(feed.table)
        if not len(events) and held is None and not self._writing:
            if not decoded.via:
                self.reached(feed.table, partition, position)
            return
        if held is None:
            held = self._held[feed.table] = _Held(since=monotonic())
        held.batches.append(decoded)
        held.rows += len(events)
        if not decoded.via:
            held.reached[partition] = further(position, held.reached.get(partition, NOWHERE))
        self._last_add = monotonic()
        self._added.set()

    async def moved(self, timeout_s: float) -> None:
        """Returns when something was written, at the latest after `timeout_s`."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._written.wait()
        except TimeoutError:
            return

    async def run(self) -> None:
        """Writes until cancelled; then what is held is written, if the store takes it."""
        self._stopping = False
        flushing: asyncio.Future[None] | None = None
        try:
            while True:
                await self._added.wait()
                await self._until_due()
                self._added.clear()
                flushing = asyncio.ensure_future(self.flush())
                await asyncio.shield(flushing)
        except asyncio.CancelledError:
            self._stopping = True
            if flushing is not None:
                await asyncio.wait((flushing,))
            await self.flush()
            raise

    async def flush(self) -> None:
        """Write everything that is held now; repeats until the store takes it, or the room stops."""
        async with self._one_flush:
            backoff = Backoff()
            taken = self._take()
            while taken:
                try:
                    await self._write_once(taken)
                    self.problem = ""
                except Unavailable as error:
                    self.problem = str(error)
                    log.warning("history waits: %s", error)
                    if self._stopping:
                        return  # the log has it: the next process reads it again
                    await backoff.wait()
                except Exception:
                    # Dropped here, rows would be missed for good: what comes after them moves the table's position.
                    self._give_back(taken)
                    raise

    async def _until_due(self) -> None:
        limits = self._limits
        while self._held and self.held_rows < limits.rows:
            now = monotonic()
            oldest = min(held.since for held in self._held.values())
            left_s = min(self._last_add + limits.quiet_s, oldest + limits.most_s) - now
            if left_s <= 0:
                return
            await asyncio.sleep(left_s)

    def _take(self) -> dict[Table, _Held]:
        taken, self._held = self._held, {}
        self._writing += sum(held.rows for held in taken.values())
        return taken

    def _give_back(self, taken: dict[Table, _Held]) -> None:
        for table, held in taken.items():
            later = self._held.get(table, _Held())
            reached = {**held.reached, **later.reached}
            self._held[table] = _Held(held.batches + later.batches, reached, held.rows + later.rows, held.since)
            self._writing -= held.rows
        self._added.set()

    async def _write_once(self, taken: dict[Table, _Held]) -> None:
        """Insert table by table; what is in is taken out of `taken`, so that a repeat goes on where it stopped."""
        for table in list(taken):
            held = taken[table]
            if held.rows:
                rows = await asyncio.to_thread(arrow_rows, table, held.batches)
                await self._store.insert(table, rows)
            del taken[table]
            self._writing -= held.rows
            for partition, position in held.reached.items():
                self.reached(table, partition, position)

    def _signal(self) -> None:
        self._written.set()
        self._written = asyncio.Event()


class HistoryEvents:
    """The consumer's side of history."""

    def __init__(self, store: HistoryStore, feeds: FeedBook, writer: HistoryWriter) -> None:
        self._store = store
        self._feeds = feeds
        self._writer = writer

    async def start_offsets(self, fresh: list[TopicPartition]) -> Mapping[TopicPartition, int]:
        """Right after the last offset in the table. Raises StoreUnavailable."""
        await self._writer.flush()
        starts: dict[TopicPartition, int] = {}
        for topic in {topic for topic, _ in fresh}:
            feed = self._feeds.topics.get(topic)
            if feed is None:
                continue  # the way back of dead letters: Kafka's own offsets are right
            await self._store.ensure(feed.table)
            positions = await self._store.positions(feed.table)
            for name, partition in fresh:
                if name == topic:
                    position = positions.get(partition)
                    starts[name, partition] = position.offset + 1 if position else 0
                    self._writer.stands(feed.table, partition, position or NOWHERE)
        return starts

    async def handle(self, batch: Batch, effects: Effects) -> None:
        """Handle one batch."""
        feed = self._feeds.topics.get(batch.topic)
        if feed is not None:
            await self._writer.add(feed, batch.partition, feed.reader.decode(batch, effects.reject))
            if batch.via:
                # Where the way back goes on is Kafka's committed offset, not the table's: in before that is committed.
                await self._writer.flush()
                if self._writer.problem:  # the room stops while the store is away: not written, so not committed
                    raise Unavailable(self._writer.problem)


def arrow_rows(table: Table, batches: Sequence[Decoded]) -> pa.Table:
    """The batches as rows of the table."""
    events = [batch.events for batch in batches]
    rows = [row for one in events for row in one.rows]
    columns: list[object] = [
        np.concatenate([one.event_us for one in events]),
        np.concatenate([one.visible_us for one in events]),
        np.concatenate([np.full(len(one), one.partition) for one in events]),
        np.concatenate([one.offsets for one in events]),
        [identity for one in events for identity in one.ids],
        np.repeat([batch.via for batch in batches], [len(one) for one in events]),
    ]
    columns += [[row.get(name) for row in rows] for name, _ in table.fields]
    schema = history_schema(table.fields)
    return pa.Table.from_arrays(
        [pa.array(c, type=t) for c, t in zip(columns, schema.types, strict=True)], schema=schema
    )
