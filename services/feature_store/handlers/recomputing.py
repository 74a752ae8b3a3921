"""The features of sampled reads, worked out from history by the same reader that training sets go through."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import numpy as np
import pyarrow as pa

from services.feature_store.domain.answers import Judged, assemble, join_keys, judge
from services.feature_store.domain.consistency import Cell, SampledRead, Standing, cells_of, lookup_name
from services.feature_store.domain.inputs import InputsPlan, Lookup
from services.feature_store.domain.values import Position
from services.feature_store.domain.views import MOST_PARTITIONS, sequence
from services.feature_store.handlers.entities import EntityHistory
from services.feature_store.handlers.feeds import ProjectFeed
from services.feature_store.ports import RETRIED, HistoryReader

FOREVER_US = 2**62  # beyond every time that an event can carry
LookUp = Callable[[Lookup, Sequence[str | None]], Awaitable[Judged]]


class Recomputation:
    """Asks history what a read should have answered: as known at its as_of, or from what had been applied.
    Raises TooMuchHistory."""

    def __init__(self, entities: EntityHistory, reader: HistoryReader) -> None:
        self._entities = entities
        self._reader = reader

    async def as_known(self, feed: ProjectFeed, plan: InputsPlan, reads: Sequence[SampledRead]) -> list[list[Cell]]:
        """Per read, one cell per feature: each view as known at the read's as_of of it."""

        async def look_up(lookup: Lookup, keys: Sequence[str | None]) -> Judged:
            at_us = np.array([r.standings[lookup_name(lookup)].as_of_us for r in reads], dtype=np.int64)
            events = await self._events(feed, lookup, keys, at_us, int(at_us.max(initial=0)))
            return judge(lookup.view, await self._reader.read(lookup.view, list(keys), at_us, events, False))

        return await _worked_out(plan, reads, look_up)

    async def as_applied(self, feed: ProjectFeed, plan: InputsPlan, reads: Sequence[SampledRead]) -> list[list[Cell]]:
        """Per read, one cell per feature: from exactly the events that its partitions had applied."""

        async def look_up(lookup: Lookup, keys: Sequence[str | None]) -> Judged:
            as_of = np.array([r.standings[lookup_name(lookup)].as_of_us for r in reads], dtype=np.int64)
            events = await self._events(feed, lookup, keys, as_of, FOREVER_US)
            alike: dict[tuple[int, tuple[tuple[str, Position], ...]], list[int]] = {}
            for i, read in enumerate(reads):
                standing = read.standings[lookup_name(lookup)]
                alike.setdefault((standing.as_of_us, tuple(sorted(standing.positions.items()))), []).append(i)
            parts: list[tuple[list[int], Judged]] = []
            for (as_of_us, positions), places in alike.items():
                table = applied(events, Standing(as_of_us, dict(positions)), lookup.view.lookback_us())
                at_us = np.full(len(places), as_of_us, dtype=np.int64)
                own = [keys[i] for i in places]
                parts.append(
                    (places, judge(lookup.view, await self._reader.read(lookup.view, own, at_us, table, True)))
                )
            return _joined(parts)

        return await _worked_out(plan, reads, look_up)

    async def _events(
        self, feed: ProjectFeed, lookup: Lookup, keys: Sequence[str | None], at_us: np.ndarray, until_us: int
    ) -> pa.Table:
        """Events of the entities, as far back as they matter at any of the moments."""
        view = lookup.view
        lookback_us = view.lookback_us()
        from_us = int(at_us.min(initial=FOREVER_US)) - lookback_us if lookback_us else -FOREVER_US
        table = feed.source_of(view).table
        return await self._entities.read(table, view, keys, from_us=from_us, to_us=until_us, visible_to_us=until_us)


async def _worked_out(plan: InputsPlan, reads: Sequence[SampledRead], look_up: LookUp) -> list[list[Cell]]:
    """Per read its cells; one example per read, so the first round's values are the keys of the joins."""
    if not reads:
        return []
    judged: dict[Lookup, Judged] = {}
    for lookup in (*plan.direct, *plan.joined):
        keys: Sequence[str | None] = [read.entity for read in reads]
        if lookup.carriers:
            keys = join_keys(lookup, judged)
        places = np.array([-1 if key is None else i for i, key in enumerate(keys)], dtype=np.int64)
        judged[lookup] = (await look_up(lookup, keys)).at(places)
    columns = [cells_of(feature, c) for feature, c in zip(plan.features, assemble(plan, judged), strict=True)]
    return [list(cells) for cells in zip(*columns, strict=True)]


def _joined(parts: Sequence[tuple[list[int], Judged]]) -> Judged:
    """The parts beside each other, in the order of their places."""
    order = np.argsort(np.concatenate([places for places, _ in parts]))
    together = (
        np.concatenate([getattr(judged, name) for _, judged in parts], axis=-1)[..., order]
        for name in ("values", "status", "age_us")
    )
    return Judged(*together)


def applied(events: pa.Table, standing: Standing, lookback_us: int = 0) -> pa.Table:
    """The events that the partitions had applied, so that "everything before the as_of" means all of them; with a
    `lookback_us` those that matter.

    A partition that is ahead shows online what happened at or after the as_of; here that happens right before it, in
    its order: `_offset` becomes the rank by event time and sequence, which alone breaks ties.
    """
    offset, partition = events["_offset"].to_numpy(), events["_partition"].to_numpy()
    last = np.full(MOST_PARTITIONS, -1, dtype=np.int64)
    for label, position in standing.positions.items():
        last[MOST_PARTITIONS - 1 if label == RETRIED else int(label)] = position.offset
    since_us = standing.as_of_us - lookback_us if lookback_us else -FOREVER_US
    kept = np.flatnonzero((offset <= last[partition]) & (events["_event_us"].to_numpy() >= since_us))
    chosen = events.take(pa.array(kept))
    event_us = chosen["_event_us"].to_numpy()
    order = np.lexsort((sequence(offset[kept], partition[kept]), event_us))
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    columns = {
        "_event_us": np.minimum(event_us, standing.as_of_us - 1),
        "_offset": rank,
        "_partition": np.zeros(len(order), dtype=np.int64),
    }
    for name, column in columns.items():
        chosen = chosen.set_column(chosen.schema.get_field_index(name), name, pa.array(column, pa.int64()))
    return chosen
