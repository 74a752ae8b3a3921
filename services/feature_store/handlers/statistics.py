"""What the online store holds of each feature, worked out on request from a sample of entities, and what it costs.

One walk through the store counts rows and draws the samples of all views; their values are then read as any reader
reads them. An entity has one row per partition of its source that knows it: it is taken by its first row alone, so
that each entity has the same chance, and the share of first rows says how many entities there are.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter

from millrace.definitions.model import FieldType
from millrace.definitions.semantics import view_types
from millrace.runtime.errors import Unavailable

from services.feature_store.domain.answers import Cells, Judged, judge, read_rows
from services.feature_store.domain.costs import of_columns, part_bytes, shares
from services.feature_store.domain.profile import Profile, profile
from services.feature_store.domain.values import Status
from services.feature_store.domain.views import CompiledView
from services.feature_store.handlers.feeds import FeedBook, ProjectFeed
from services.feature_store.handlers.seen import SEEN
from services.feature_store.handlers.spending import Spending
from services.feature_store.ports import RETRIED, EventRates, Kept, OnlineKeys, OnlineStore, Place

BATCH_ENTITIES = 500
TIMED_ROWS = 100
SIZED_KEYS = 200  # of each view, whose memory the server is asked for


@dataclass(frozen=True, slots=True)
class Cost:
    """Bytes per row of a view (means of a sample), and times in microseconds.

    `read_us`: to fetch and compute one entity in batches; None: too few to say, a call's own time would be most of it.
    `update_us`: to work one event into the view, in this process; None: there was none yet. `update_share` is the
    view's part in the time of all views.
    """

    key_bytes: float
    value_bytes: float
    memory_bytes: float
    read_us: float | None
    update_us: float | None
    update_share: float


@dataclass(frozen=True, slots=True)
class ColumnCost:
    """A feature's part of what its view costs: bytes of a row's memory (key and overhead shared out with it), and the
    microseconds that an event costs; None: not measured yet."""

    memory_bytes: float
    update_us: float | None


@dataclass(frozen=True, slots=True)
class ViewProfile:
    """One view. `entities` and `rows` are estimates unless `exact`; `events_per_hour` None: not known."""

    view: CompiledView
    entities: int
    rows: int
    exact: bool
    sampled: int
    as_of_us: int
    lag_us: int
    cost: Cost
    events_per_hour: float | None
    columns: tuple[Profile, ...]
    costs: tuple[ColumnCost, ...]  # of each column


@dataclass(frozen=True, slots=True)
class Survey:
    """All views of a project, when they were looked at (wall clock, microseconds) and how long it took.

    `left` are views that the definition does not have any more, with the rows that are still kept of them.
    """

    views: tuple[ViewProfile, ...]
    left: tuple[tuple[str, int], ...]
    measured_us: int
    took_s: float


@dataclass(slots=True)
class _Drawn:
    """What the walk found of one view: how many rows, and some of them."""

    rows: int = 0
    sample: dict[bytes, Kept] = field(default_factory=dict)  # by key: a walk may show one twice


@dataclass(slots=True)
class _Sample:
    """Cells of a view's columns, batch by batch, of the drawn rows that are their entity's first."""

    batches: list[Judged] = field(default_factory=list)
    rows: list[bytes] = field(default_factory=list)  # packed, some of them
    entities: int = 0
    seconds: float = 0.0
    read: int = 0


class FeatureStatistics:
    """Surveys projects; the last survey of each is kept."""

    def __init__(
        self,
        keys: OnlineKeys,
        store: OnlineStore,
        feeds: FeedBook,
        rates: EventRates,
        spending: Spending,
        wall_us: Callable[[], int],
        *,
        sample_entities: int,
        most_keys: int,
    ) -> None:
        self._keys = keys
        self._store = store
        self._feeds = feeds
        self._rates = rates
        self._spending = spending
        self._wall_us = wall_us
        self._sample_entities = sample_entities
        self._most_keys = most_keys
        self._kept: dict[str, tuple[int, Survey]] = {}  # by project: definition version, survey
        self._turn = asyncio.Lock()

    def forget(self, project: str, view_id: str) -> None:
        """A view was dropped."""
        self._kept.pop(project, None)

    async def survey(self, project: str, max_age_s: float) -> Survey:
        """A survey at most so old. Raises UnknownProject, StoreUnavailable, RowError."""
        feed = self._feeds.project(project)
        async with self._turn:  # a second caller gets what the first one waited for
            version, kept = self._kept.get(project, (0, None))
            now_us = self._wall_us()
            if kept and version == feed.definition.version and now_us - kept.measured_us <= max_age_s * 1e6:
                return kept
            found = await self._survey(feed, now_us)
            self._kept[project] = feed.definition.version, found
            return found

    async def _survey(self, feed: ProjectFeed, now_us: int) -> Survey:
        began = perf_counter()
        views = feed.views
        project = feed.definition.project.name
        drawn, left, share = await self._draw(project, views)
        as_of = {view.id: await self._as_of(feed, view) for view in views.values()}
        newest_us = max(as_of.values(), default=0)
        profiles = []
        for view in views.values():
            sample = await self._sample(feed, view, drawn[view.id], as_of[view.id])
            rows = round(drawn[view.id].rows / share)
            first = sample.entities / len(drawn[view.id].sample) if drawn[view.id].sample else 0.0
            cost = await self._cost(project, view, drawn[view.id], sample)
            profiles.append(
                ViewProfile(
                    view=view,
                    entities=round(rows * first),
                    rows=rows,
                    exact=share == 1.0 and len(drawn[view.id].sample) == rows,
                    sampled=sample.entities,
                    as_of_us=as_of[view.id],
                    lag_us=newest_us - as_of[view.id],
                    cost=cost,
                    events_per_hour=await self._rate(feed, view, as_of[view.id]),
                    columns=await asyncio.to_thread(_profiles, feed, view, sample),
                    costs=tuple(self._column_costs(project, view, cost, sample)),
                )
            )
        behind = tuple((view_id, round(rows / share)) for view_id, rows in sorted(left.items()))
        return Survey(tuple(profiles), behind, now_us, perf_counter() - began)

    async def _draw(
        self, project: str, views: Mapping[str, CompiledView]
    ) -> tuple[dict[str, _Drawn], Counter[str], float]:
        """Rows of every view, keys of what is no view any more, and the share of the store that was looked through."""
        drawn = {view_id: _Drawn() for view_id in views}
        left: Counter[str] = Counter()
        share = 1.0
        async for step in self._keys.walk(project):
            for kept in step.found:
                mine = drawn.get(kept.place.view_id)
                if mine is None:
                    left[kept.place.view_id] += 1
                    continue
                if kept.entity is None or kept.entity.startswith(SEEN):
                    continue
                mine.rows += 1
                if len(mine.sample) < self._sample_entities:
                    mine.sample[kept.key] = kept
            share = step.scanned / step.total if step.total else 1.0
            if step.scanned >= self._most_keys:
                break
        return drawn, left, share

    async def _as_of(self, feed: ProjectFeed, view: CompiledView) -> int:
        positions, _ = await self._store.read(feed.source_of(view).places(view))
        return min((p.visible_us if p else 0 for p in positions), default=0)

    async def _sample(self, feed: ProjectFeed, view: CompiledView, drawn: _Drawn, at_us: int) -> _Sample:
        source = feed.source_of(view)
        places = [*source.places(view), source.place(view, RETRIED)]
        rows = list(drawn.sample.values())
        sample = _Sample()
        for begin in range(0, len(rows), BATCH_ENTITIES):
            batch = rows[begin : begin + BATCH_ENTITIES]
            started = perf_counter()
            entities = [str(kept.entity) for kept in batch]
            _, found = await self._store.read([], [(place, entities) for place in places])
            parts = list(zip(*found, strict=True))
            own = [i for i, kept in enumerate(batch) if _first(places, parts[i]) == kept.place]
            judged = await asyncio.to_thread(_judged, view, [parts[i] for i in own], at_us)
            sample.seconds += perf_counter() - started
            sample.read += len(batch)
            sample.batches.append(judged)
            sample.rows += [row for part in parts for row in part if row is not None][: SIZED_KEYS - len(sample.rows)]
            sample.entities += len(own)
        return sample

    async def _cost(self, project: str, view: CompiledView, drawn: _Drawn, sample: _Sample) -> Cost:
        keys = list(drawn.sample)[:SIZED_KEYS]
        sizes = await self._keys.sizes(keys) if keys else []
        count = max(len(sizes), 1)
        return Cost(
            key_bytes=sum(map(len, keys)) / max(len(keys), 1),
            value_bytes=sum(value for value, _ in sizes) / count,
            memory_bytes=sum(memory for _, memory in sizes) / count,
            read_us=sample.seconds / sample.read * 1e6 if sample.read >= TIMED_ROWS else None,
            update_us=self._spending.per_event_us((project, view.id)),
            update_share=self._spending.share((project, view.id)),
        )

    def _column_costs(self, project: str, view: CompiledView, cost: Cost, sample: _Sample) -> list[ColumnCost]:
        kept = [b.values[:, (b.status == Status.PRESENT).any(axis=0)].tolist() for b in sample.batches]
        values = [[v for rows in kept for v in rows[place]] for place in range(len(view.view.columns))]
        memory = shares(part_bytes(view, values, sample.rows))
        weights = self._spending.weights((project, view.id))
        parts = len(view.view.aggregates or view.view.columns)
        if cost.update_us is None or weights is None or len(weights) != parts:  # or they are of an earlier view
            return [ColumnCost(cost.memory_bytes * part, None) for part in memory]
        work = shares(of_columns(view, weights))
        return [
            ColumnCost(cost.memory_bytes * part, cost.update_us * own) for part, own in zip(memory, work, strict=True)
        ]

    async def _rate(self, feed: ProjectFeed, view: CompiledView, until_us: int) -> float | None:
        try:
            return await self._rates.per_hour(feed.source_of(view).table, until_us)
        except Unavailable:
            return None  # history is away: what the online store holds is worth knowing all the same


def _first(places: Sequence[Place], rows: Sequence[bytes | None]) -> Place | None:
    return next((place for place, row in zip(places, rows, strict=True) if row is not None), None)


def _judged(view: CompiledView, parts: Sequence[Sequence[bytes | None]], at_us: int) -> Judged:
    return judge(view, read_rows(view, parts, at_us))


def _profiles(feed: ProjectFeed, view: CompiledView, sample: _Sample) -> tuple[Profile, ...]:
    types = view_types(view.view, feed.source_of(view).source)
    profiles = []
    for place, name in enumerate(view.view.columns):
        cells: list[Cells] = [batch.column(place) for batch in sample.batches if batch.status.shape[1]]
        kind = FieldType.STRING if types[name] == "string" else FieldType.NUMBER
        profiles.append(profile(name, kind, cells))
    return tuple(profiles)
