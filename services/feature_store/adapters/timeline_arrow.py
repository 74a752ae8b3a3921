"""The events of one view, held sorted: any number of (entity, moment) pairs are answered without reading history."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from millrace.aggregates import NEVER_US, Events

from services.feature_store.adapters.columns_arrow import ENTITY, event_columns, latest_column, value_name
from services.feature_store.domain.timelines import NewestIndex, Runs, speaks, windows_at
from services.feature_store.domain.views import CompiledView
from services.feature_store.handlers.schemas import TIMELINE
from services.feature_store.handlers.tables import key_texts
from services.feature_store.ports import Held, Question, Told

# News is sorted by itself until it is this share of what is held, then all of it is sorted anew.
NEWS_SHARE = 8
# Of the two indices of the newest, as known and as happened, each made when it is first asked for.
INDEX_BYTES_PER_EVENT = 2 * 16


class Timeline:
    """One view. Pieces of history are added, then sealed; a later piece may hold events of any age.

    A latest view keeps news apart (the newest of two sets of events is the newer of their newest), so that a few late
    events do not cost a sort of everything.
    """

    def __init__(self, view: CompiledView) -> None:
        self._view = view
        self._pieces: list[pa.Table] = []
        self._segments: list[_Segment] = []

    def add(self, events: pa.Table) -> int:
        """A piece of history, as `HistoryStore.timeline` gives it; the bytes it takes. Raises ExpressionError."""
        piece = event_columns(self._view, events)
        self._pieces.append(piece)
        return int(piece.nbytes)

    def seal(self) -> Held:
        """What was added counts from now on."""
        pieces, self._pieces = self._pieces, []
        news = pa.concat_tables(pieces) if pieces else None
        repeats = 0
        if news is not None and news.num_rows:
            repeats = sum(segment.repeats(news["_identity"].to_numpy()) for segment in self._segments)
            self._take_up(news)
        rows = sum(segment.size for segment in self._segments)
        return Held(rows=rows, bytes=sum(segment.nbytes for segment in self._segments), repeats=repeats)

    def _take_up(self, news: pa.Table) -> None:
        apart = self._segments[:1]
        recent = [segment.table for segment in self._segments[1:]]
        late = sum(table.num_rows for table in recent) + news.num_rows
        if self._view.view.is_windowed or not apart or late * NEWS_SHARE > apart[0].size:
            recent = [segment.table for segment in self._segments]
            apart = []
        self._segments = []  # what is sorted anew need not be held twice
        self._segments = [*apart, _Segment(self._view, pa.concat_tables([*recent, news]))]

    def read(self, question: Question) -> Told:
        """The view's columns at each (key, moment). Raises ExpressionError."""
        question = replace(question, keys=key_texts(question.keys))
        parts = [segment.read(question) for segment in self._segments]
        if not parts:
            windowed = self._view.view.is_windowed
            parts = [_Segment(self._view, _no_events(self._view)).read(question) if windowed else _nothing(question)]
        best = parts[0]
        for other in parts[1:]:
            best = best.newer(other)
        return Told(best.told.known, self._judged(question, best))

    def _judged(self, question: Question, part: _Part) -> list[pa.Array]:
        """Null where the view says nothing: never heard of, not within the TTL, no key."""
        speaking = speaks(self._view, part.newest_us, question.moment_us)
        speaking &= pc.is_valid(question.keys).to_numpy(zero_copy_only=False)
        if speaking.all():
            return part.told.columns
        mask = pa.array(speaking)
        return [pc.if_else(mask, column, pa.scalar(None, column.type)) for column in part.told.columns]


@dataclass(slots=True)
class _Part:
    """What one segment knows: its answer, and the newest event's time and sequence."""

    told: Told
    newest_us: np.ndarray
    seq: np.ndarray

    def newer(self, other: _Part) -> _Part:
        """Row by row the one whose newest event is newer."""
        theirs = (other.newest_us > self.newest_us) | ((other.newest_us == self.newest_us) & (other.seq > self.seq))
        return _Part(
            self.told.replaced(theirs, other.told),
            np.where(theirs, other.newest_us, self.newest_us),
            np.where(theirs, other.seq, self.seq),
        )


def _nothing(question: Question) -> _Part:
    size = len(question.moment_us)
    never = np.full(size, NEVER_US, dtype=np.int64)
    columns = [pa.nulls(size, pa.float64()) for _ in question.columns]
    return _Part(Told(np.zeros(size, dtype=bool), columns), never, never)


@dataclass(slots=True)
class _Segment:
    """Events sorted once, by (entity, event time, identity): an order that any way of reading them ends in."""

    view: CompiledView
    table: pa.Table
    entities: pa.Array = field(init=False)
    events: Events = field(init=False)
    _indices: dict[bool, NewestIndex] = field(init=False, default_factory=dict)
    _runs: Runs | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        encoded = self.table[ENTITY].unify_dictionaries().combine_chunks()
        codes = encoded.indices.to_numpy().astype(np.int64)
        event_us = self.table["_event_us"].to_numpy()
        order = np.lexsort((self.table["_identity"].to_numpy(), event_us, codes))
        held = self.table.drop_columns([ENTITY]).combine_chunks().take(pa.array(order))
        self.entities = encoded.dictionary
        # The texts are kept once; a table that is joined with news later has them again as a dictionary.
        places = pa.array(codes[order].astype(np.int32))
        self.table = held.add_column(0, ENTITY, pa.DictionaryArray.from_arrays(places, self.entities))
        self.events = Events(codes[order], *(_numbers(held, n) for n in ("_event_us", "_visible_us", "_seq")))

    @property
    def size(self) -> int:
        """Events."""
        return len(self.events.entity)

    @property
    def nbytes(self) -> int:
        """Memory held."""
        searched = self.size * INDEX_BYTES_PER_EVENT if not self.view.view.is_windowed or self.view.view.ttl_us else 0
        return int(self.table.nbytes) + self.events.entity.nbytes + searched

    def repeats(self, identity: np.ndarray) -> int:
        """How many of its events are among others, by identity."""
        others = np.sort(identity)
        mine = self.table["_identity"].to_numpy()
        place = np.minimum(np.searchsorted(others, mine), len(others) - 1)
        return int((others[place] == mine).sum())

    def read(self, question: Question) -> _Part:
        """The view of these events alone."""
        codes = pc.fill_null(pc.index_in(question.keys, value_set=self.entities), -1)
        entity = codes.to_numpy(zero_copy_only=False).astype(np.int64)
        if self.view.view.is_windowed and not self.view.view.ttl_us:
            newest = np.full(len(entity), -1, dtype=np.int64)  # such a view speaks of everyone at any time
        else:
            newest = self._newest(question, entity)
        newest_us, seq = (_at(of, newest, NEVER_US) for of in (self.events.event_us, self.events.seq))
        if self.view.view.is_windowed:
            columns = self._windows(question, entity)
        else:
            columns = [latest_column(self.view, column, self.table, newest) for column in question.columns]
        return _Part(Told(entity >= 0, columns), newest_us, seq)

    def _counting(self, question: Question) -> tuple[Events, np.ndarray | None]:
        """The events that were visible by the question's end, and their places; None: all of them."""
        latest_us = int(question.moment_us.max(initial=NEVER_US))
        bound_us = question.visible_to_us
        # As known at T, `visible <= T` says it already for every T up to the bound.
        if (not question.as_happened and latest_us <= bound_us) or (
            int(self.events.visible_us.max(initial=NEVER_US)) <= bound_us
        ):
            return self.events, None
        places = np.flatnonzero(self.events.visible_us <= bound_us)
        return _taken(self.events, places), places

    def _newest(self, question: Question, entity: np.ndarray) -> np.ndarray:
        """The place of the newest event that counts in each row; -1: none."""
        events, places = self._counting(question)
        if places is not None:
            index = NewestIndex(events, len(self.entities), as_happened=question.as_happened)
            return _at(places, index.at(entity, question.moment_us), -1)
        kept = self._indices.get(question.as_happened)
        if kept is None:
            kept = NewestIndex(events, len(self.entities), as_happened=question.as_happened)
            self._indices[question.as_happened] = kept
        return kept.at(entity, question.moment_us)

    def _windows(self, question: Question, entity: np.ndarray) -> list[pa.Array]:
        if self._runs is None:
            self._runs = Runs(self.events.entity, self.events.event_us, len(self.entities))
        kept = [_values(self.table, i) for i in range(len(self.view.view.aggregates))]
        found = windows_at(
            self.view,
            self.events,
            self._runs,
            lambda places: [None if values is None else values[places] for values in kept],
            entity,
            question.moment_us,
            as_happened=question.as_happened,
            visible_to_us=question.visible_to_us,
        )
        return [pa.array(found[column], mask=np.isnan(found[column])) for column in question.columns]


def _no_events(view: CompiledView) -> pa.Table:
    columns: dict[str, pa.Array] = {ENTITY: pa.array([], pa.string()).dictionary_encode()}
    columns |= {name: pa.array([], kind) for name, kind in TIMELINE}
    takes = [value_name(i) for i, aggregate in enumerate(view.view.aggregates) if aggregate.expression]
    return pa.table(columns | {name: pa.array([], pa.float64()) for name in takes})


def _taken(events: Events, places: np.ndarray) -> Events:
    if len(places) == len(events.entity):
        return events
    return Events(events.entity[places], events.event_us[places], events.visible_us[places], events.seq[places])


def _values(table: pa.Table, position: int) -> np.ndarray | None:
    name = value_name(position)
    return _numbers(table, name) if name in table.column_names else None


def _numbers(table: pa.Table, name: str) -> np.ndarray:
    values: np.ndarray = table[name].combine_chunks().to_numpy(zero_copy_only=False)
    return values


def _at(values: np.ndarray, places: np.ndarray, nothing: int) -> np.ndarray:
    """The values at places; `nothing` at a place of -1."""
    if not len(values):
        return np.full(len(places), nothing, dtype=np.int64)
    found: np.ndarray = np.where(places >= 0, values[places], nothing)
    return found
