"""What was known when, from events that are kept sorted: one bisection per moment finds where an answer lies.

The same rules as `millrace.aggregates.latest_index` and `window_values`, split in two: sorting is done once, reading
for every training set. The aggregates are the kernel's own (`Layout`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from millrace.aggregates import NEVER_US, Events, Layout, window_start
from millrace.aggregates.layout import take
from millrace.aggregates.ranges import CHUNK_PAIRS, chunks, distinct_pairs, expanded

from services.feature_store.domain.views import CompiledView


class Runs:
    """Times of events sorted by (entity, time): one run of them per entity."""

    def __init__(self, entity: np.ndarray, time_us: np.ndarray, entities: int) -> None:
        self._time_us = time_us
        self._begin = np.searchsorted(entity, np.arange(entities + 1))
        self._steps = int(np.diff(self._begin).max(initial=0)).bit_length()

    @property
    def nbytes(self) -> int:
        """Memory held."""
        return self._time_us.nbytes + self._begin.nbytes

    def begin(self, entity: np.ndarray) -> np.ndarray:
        """Where the run of each entity begins."""
        begin: np.ndarray = self._begin[entity]
        return begin

    def after(self, entity: np.ndarray, bound_us: np.ndarray) -> np.ndarray:
        """The place in each entity's run of the first time that is beyond the bound, or the run's end."""
        low: np.ndarray = self._begin[entity].copy()
        high = self._begin[entity + 1]
        last = max(len(self._time_us) - 1, 0)
        for _ in range(self._steps):
            middle = (low + high) >> 1
            within = (low < high) & (self._time_us[np.minimum(middle, last)] <= bound_us)
            high = np.where(within, high, np.maximum(middle, low))
            low = np.where(within, middle + 1, low)
        return low


class NewestIndex:
    """Events of many entities, searchable for the newest at (entity, moment); int64 arrays in the order of `events`.

    In the order in which events became known, the newest so far is a running maximum per entity: an event that came
    late and is older than what was known never becomes the answer.
    """

    def __init__(self, events: Events, entities: int, *, as_happened: bool) -> None:
        size = len(events.entity)
        by_age = np.lexsort((events.seq, events.event_us))
        rank = np.empty(size, dtype=np.int64)
        rank[by_age] = np.arange(size)
        known_us = events.known_from_us(as_happened)
        order = np.lexsort((known_us, events.entity))
        entity = events.entity[order]
        newest = np.maximum.accumulate(entity * size + rank[order]) if size else order
        self._runs = Runs(entity, known_us[order], entities)
        self._newest = by_age[newest % size] if size else newest

    @property
    def nbytes(self) -> int:
        """Memory held."""
        return self._runs.nbytes + self._newest.nbytes

    def at(self, entity: np.ndarray, moment_us: np.ndarray) -> np.ndarray:
        """Index of the newest event that counts at each moment; -1: none. A negative entity finds nothing."""
        found = np.full(len(entity), -1, dtype=np.int64)
        rows = np.flatnonzero(entity >= 0)
        if not len(rows) or not len(self._newest):
            return found
        place = self._runs.after(entity[rows], moment_us[rows])
        hit = place > self._runs.begin(entity[rows])
        found[rows[hit]] = self._newest[place[hit] - 1]
        return found


Values = Callable[[np.ndarray], Sequence[np.ndarray | None]]


def windows_at(
    view: CompiledView,
    events: Events,
    runs: Runs,
    values: Values,
    entity: np.ndarray,
    moment_us: np.ndarray,
    *,
    as_happened: bool,
    visible_to_us: int,
    chunk_pairs: int = CHUNK_PAIRS,
) -> np.ndarray:
    """Aggregates over `[floor_h(T - w), T)` as known at each T: float64[width * windows, moments]; NaN: no value.

    `events` are sorted by (entity, event time), `runs` are their event times, and `values(places)` is what the view's
    aggregates take of the events at `places`, as `Layout.lift` wants it. Equal (entity, moment) pairs are worked out
    once.
    """
    layout = Layout(view.view.aggregates)
    first, inverse = distinct_pairs(entity, moment_us)
    entity, moment = entity[first], moment_us[first]
    widths = view.view.windows_us
    begins = [_place(runs, entity, window_start(moment, width, view.view.hop_us)) for width in widths]
    end = _place(runs, entity, moment)
    longest = np.minimum.reduce(begins)
    known_us = events.known_from_us(as_happened)
    result = np.repeat(layout.nothing[:, None], len(widths) * len(entity), axis=1)
    result = result.reshape(layout.width, len(widths), len(entity))
    for part in chunks(end - longest, chunk_pairs):
        owner, event = expanded(longest[part], (end - longest)[part])
        known = (known_us[event] <= moment[part][owner]) & (events.visible_us[event] <= visible_to_us)
        owner, event = owner[known], event[known]
        # Many moments share an event: what it brings is worked out once.
        wanted, place = _distinct(event, len(events.entity))
        state = layout.lift(values(wanted), events.event_us[wanted], events.seq[wanted])
        for i, begin in enumerate(begins):
            inside = event >= begin[part][owner]
            result[:, i, part] = layout.reduce(take(state, place[inside]), owner[inside], len(end[part]))
    return result[:, :, inverse].reshape(len(view.view.columns), len(inverse))


def speaks(view: CompiledView, newest_us: np.ndarray, at_us: np.ndarray) -> np.ndarray:
    """Where a view has anything to say, bool[n]: the half of `answers.judge` that does not look at the values."""
    heard: np.ndarray = newest_us != NEVER_US
    ttl_us = view.view.ttl_us
    if ttl_us:
        heard &= at_us - np.where(heard, newest_us, at_us) <= ttl_us
        return heard
    return np.ones(len(newest_us), dtype=bool) if view.view.is_windowed else heard


def _place(runs: Runs, entity: np.ndarray, time_us: np.ndarray) -> np.ndarray:
    """Of the entity's first event at or after the time; 0 for a negative entity, which has none."""
    place = np.zeros(len(entity), dtype=np.int64)
    rows = np.flatnonzero(entity >= 0)
    place[rows] = runs.after(entity[rows], time_us[rows] - 1)
    return place


def _distinct(numbers: np.ndarray, bound: int) -> tuple[np.ndarray, np.ndarray]:
    """(the different numbers, ascending; the place of each number among them); all are below `bound`."""
    seen = np.zeros(bound, dtype=bool)
    seen[numbers] = True
    return np.flatnonzero(seen), (np.cumsum(seen) - 1)[numbers]
