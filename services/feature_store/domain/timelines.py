"""Who was newest when: the record setters of a view, kept sorted so that one search per moment finds the answer.

The same rule as `millrace.aggregates.latest_index`, split in two: building costs a sort, and is done once; reading
costs a bisection per moment, and is done for every training set.
"""

from __future__ import annotations

import numpy as np
from millrace.aggregates import NEVER_US, Events

from services.feature_store.domain.views import CompiledView


class NewestIndex:
    """Events of many entities, searchable by (entity, moment). int64 arrays in the order of `events`.

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
        self._known_us = known_us[order]
        self._newest = by_age[newest % size] if size else newest
        self._begin = np.searchsorted(entity, np.arange(entities + 1))
        self._steps = int(np.diff(self._begin).max(initial=0)).bit_length()

    @property
    def nbytes(self) -> int:
        """Memory held."""
        return self._known_us.nbytes + self._newest.nbytes + self._begin.nbytes

    def at(self, entity: np.ndarray, moment_us: np.ndarray) -> np.ndarray:
        """Index of the newest event that counts at each moment; -1: none. A negative entity finds nothing."""
        found = np.full(len(entity), -1, dtype=np.int64)
        rows = np.flatnonzero(entity >= 0)
        if not len(rows) or not len(self._known_us):
            return found
        first = self._begin[entity[rows]]
        low, high, moment = first.copy(), self._begin[entity[rows] + 1], moment_us[rows]
        last = len(self._known_us) - 1
        for _ in range(self._steps):
            middle = (low + high) >> 1
            known = (low < high) & (self._known_us[np.minimum(middle, last)] <= moment)
            high = np.where(known, high, np.maximum(middle, low))
            low = np.where(known, middle + 1, low)
        hit = low > first
        found[rows[hit]] = self._newest[low[hit] - 1]
        return found


def speaks(view: CompiledView, newest_us: np.ndarray, at_us: np.ndarray) -> np.ndarray:
    """Where a view has anything to say, bool[n]: the half of `answers.judge` that does not look at the values."""
    heard = newest_us != NEVER_US
    ttl_us = view.view.ttl_us
    if ttl_us:
        return heard & (at_us - np.where(heard, newest_us, at_us) <= ttl_us)
    return np.ones(len(newest_us), dtype=bool) if view.view.is_windowed else heard
