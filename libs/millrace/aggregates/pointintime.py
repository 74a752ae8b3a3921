"""Point-in-time reading of history: for many (entity, moment) pairs at once, what was known then.

The rule: an event counts at T when `event_time < T` and `visible_time <= T`; with `as_happened` the second half is
waived. In whole microseconds both halves together say: it is known from `max(visible, event_time + 1)` on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from millrace.aggregates.layout import Layout, take
from millrace.aggregates.ranges import CHUNK_PAIRS, chunks, distinct_pairs, expanded
from millrace.aggregates.windows import window_start
from millrace.definitions.model import Aggregate


@dataclass(frozen=True, slots=True)
class Events:
    """History in columns, in any order: int64 arrays of one length.

    `entity` is a code (the spine uses the same codes; negative: null, never matched). `seq` breaks ties of event time.
    """

    entity: np.ndarray
    event_us: np.ndarray
    visible_us: np.ndarray
    seq: np.ndarray

    def known_from_us(self, as_happened: bool) -> np.ndarray:
        """The first moment at which each event counts."""
        happened = self.event_us + 1
        return happened if as_happened else np.maximum(self.visible_us, happened)


class _Timeline:
    """Events of all entities sorted by (entity, time), searchable by both at once."""

    def __init__(self, entity: np.ndarray, time_us: np.ndarray, then: tuple[np.ndarray, ...] = ()) -> None:
        self.order = np.lexsort((*reversed(then), time_us, entity))
        self.entity = entity[self.order]
        # Times become ranks, so that entity and time fit into one integer.
        self._times = np.unique(time_us)
        self._span = len(self._times) + 1
        self._keys = self.entity * self._span + np.searchsorted(self._times, time_us[self.order])

    def first_at_or_after(self, entity: np.ndarray, time_us: np.ndarray) -> np.ndarray:
        """Position of the entity's first event with time >= `time_us` (or where it would be)."""
        rank = np.searchsorted(self._times, time_us, side="left")
        return np.searchsorted(self._keys, entity * self._span + rank, side="left")


def latest_index(
    spine_entity: np.ndarray, moment_us: np.ndarray, events: Events, *, as_happened: bool = False
) -> np.ndarray:
    """Index into `events` of the newest event (event time, then seq) known at each moment; int64, -1: none.

    In the order in which events became known, the newest so far is a running maximum per entity (its steps are the
    record setters), so one search per moment finds it.
    """
    size = len(events.entity)
    found = np.full(len(spine_entity), -1, dtype=np.int64)
    if not size:
        return found
    by_age = np.lexsort((events.seq, events.event_us))
    rank = np.empty(size, dtype=np.int64)
    rank[by_age] = np.arange(size)
    timeline = _Timeline(events.entity, events.known_from_us(as_happened))
    newest = np.maximum.accumulate(timeline.entity * size + rank[timeline.order])
    position = timeline.first_at_or_after(spine_entity, moment_us + 1) - 1
    hit = (position >= 0) & (spine_entity >= 0)
    hit[hit] = timeline.entity[position[hit]] == spine_entity[hit]
    found[hit] = by_age[newest[position[hit]] % size]
    return found


def window_values(
    spine_entity: np.ndarray,
    moment_us: np.ndarray,
    events: Events,
    values: Sequence[np.ndarray | None],
    aggregates: Sequence[Aggregate],
    windows_us: Sequence[int],
    hop_us: int,
    *,
    as_happened: bool = False,
    chunk_pairs: int = CHUNK_PAIRS,
) -> np.ndarray:
    """Aggregates over `[floor_h(T - w), T)` as known at each T: float64[width, windows, moments], NaN: no value.

    `values` as `Layout.lift` takes them. Equal (entity, moment) pairs are worked out once. Memory is bounded by
    `chunk_pairs`, except that one moment's window is never cut.
    """
    layout = Layout(aggregates)
    first, inverse = distinct_pairs(spine_entity, moment_us)
    entity, moment = spine_entity[first], moment_us[first]
    timeline = _Timeline(events.entity, events.event_us)
    order = timeline.order
    known_from = events.known_from_us(as_happened)[order]
    state = take(layout.lift(values, events.event_us, events.seq), order)
    result = np.empty((layout.width, len(windows_us), len(entity)))
    end = timeline.first_at_or_after(entity, moment)
    for i, window_us in enumerate(windows_us):
        begin = timeline.first_at_or_after(entity, window_start(moment, window_us, hop_us))
        lengths = np.where(entity >= 0, end - begin, 0)
        for part in chunks(lengths, chunk_pairs):
            owner, event = expanded(begin[part], lengths[part])
            known = known_from[event] <= moment[part][owner]
            result[:, i, part] = layout.reduce(take(state, event[known]), owner[known], len(lengths[part]))
    return result[:, :, inverse]
