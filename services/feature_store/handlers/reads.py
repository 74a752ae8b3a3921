"""Online reads: two rounds of MGET, joins followed, every view at its own as_of."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice

import numpy as np
from millrace.aggregates import RowError

from services.feature_store.domain.answers import (
    Block,
    Cells,
    Judged,
    Reading,
    Stored,
    assemble,
    blocked,
    join_keys,
    judge_all,
    nothing_of,
    read_all,
    read_rows,
)
from services.feature_store.domain.consistency import Standing
from services.feature_store.domain.inputs import InputsPlan, Lookup
from services.feature_store.domain.values import Position
from services.feature_store.domain.views import CompiledView
from services.feature_store.errors import RowCorrupt, TooLate
from services.feature_store.handlers.feeds import FeedBook, ProjectFeed
from services.feature_store.handlers.progress import Progress
from services.feature_store.handlers.sampling import ReadSampler
from services.feature_store.handlers.turns import Turns
from services.feature_store.ports import RETRIED, OnlineStore, Place

Seen = Mapping[Place, Position | None]

# Sets of lookups whose places are remembered: those of the plans that callers ask for again and again.
MOST_SETS = 1_024
# What another process applies is seen by looking; what this one applies wakes the reader at once.
LOOK_EVERY_S = 0.05


@dataclass(frozen=True, slots=True)
class Shared:
    """What one look at the store found of each lookup of a plan; `as_of_us` per view id."""

    judged: Mapping[Lookup, Judged]
    block: Block
    as_of_us: dict[str, int]


@dataclass(frozen=True, slots=True)
class Answer:
    """The entities of one request, which are a `span` of those that were looked up together."""

    plan: InputsPlan
    shared: Shared
    span: slice

    @property
    def as_of_us(self) -> dict[str, int]:
        """Per view id."""
        return self.shared.as_of_us

    @property
    def block(self) -> Block:
        """All cells, as the wire has them."""
        return self.shared.block.of(self.span)

    @property
    def cells(self) -> list[Cells]:
        """One column of cells per feature of the plan."""
        columns = assemble(self.plan, self.shared.judged)
        return [Cells(c.values[self.span], c.status[self.span], c.age_us[self.span]) for c in columns]


@dataclass(frozen=True, slots=True)
class _Places:
    """Where the rows of some lookups lie, and whose positions are read beside them.

    `rows`: of each lookup its places, one per source partition, and that of what came back from dead letters once there
    is any; `retried`: that place of each, whether or not; `positions`: all places of `rows`, each once.
    """

    rows: tuple[tuple[Place, ...], ...]
    retried: tuple[Place, ...]
    positions: tuple[Place, ...]


class OnlineReads:
    """Answers what is known now."""

    def __init__(
        self, store: OnlineStore, feeds: FeedBook, progress: Progress, sampler: ReadSampler | None = None
    ) -> None:
        self._sampler = sampler
        self._store = store
        self._feeds = feeds
        self._progress = progress
        self._retried: set[Place] = set()
        self._places: dict[tuple[Lookup, ...], _Places] = {}
        self._turns = Turns(self._read)

    async def read(
        self,
        project: str,
        entities: Sequence[str],
        features: tuple[str, ...],
        not_before_us: int,
        wait_s: float,
        *,
        service: str = "",
        by: str = "",
    ) -> Answer:
        """The features of the entities, in order; `service` and `by` as `choices.Choice` has them.

        Raises UnknownProject, UnknownFeature, UnknownService, TooLate, StoreUnavailable.
        """
        feed = self._feeds.project(project)
        plan = feed.plan_for(features, service, by)
        if not_before_us:
            await self._wait(feed, plan, not_before_us, wait_s)
        try:
            shared, span = await self._turns.join(feed, plan, entities)
        except RowCorrupt:  # perhaps that of another who asked at the same time
            shared, span = await self._read(feed, plan, entities), slice(0, len(entities))
        return Answer(plan, shared, span)

    async def _read(self, feed: ProjectFeed, plan: InputsPlan, entities: Sequence[str]) -> Shared:
        judged: dict[Lookup, Judged] = {}
        as_of: dict[str, int] = {}
        seen = [await self._round(feed, plan.direct, [entities] * len(plan.direct), judged, as_of)]
        if plan.joined:
            keys: list[Sequence[str]] = []
            places: dict[Lookup, np.ndarray] = {}
            for lookup in plan.joined:
                wanted = join_keys(lookup, judged)
                # Many entities share one origin or carrier: each is read once.
                index = {key: i for i, key in enumerate(dict.fromkeys(k for k in wanted if k is not None))}
                keys.append(list(index))
                places[lookup] = np.array([-1 if k is None else index[k] for k in wanted], dtype=np.int64)
            seen.append(await self._round(feed, plan.joined, keys, judged, as_of))
            for lookup in plan.joined:
                judged[lookup] = judged[lookup].at(places[lookup])
        project = feed.definition.project.name
        if self._sampler is not None and (chosen := self._sampler.choose(project, entities)):
            standings = self._standings(feed, plan, seen)
            self._sampler.take(feed, plan, {i: entities[i] for i in chosen}, assemble(plan, judged), standings)
        return Shared(judged, blocked(plan, judged), as_of)

    def _standings(self, feed: ProjectFeed, plan: InputsPlan, seen: Sequence[Seen]) -> dict[Lookup, Standing]:
        """What each lookup was answered from: a view that is read directly and through a join is read twice."""
        standings: dict[Lookup, Standing] = {}
        for lookups, positions in zip((plan.direct, plan.joined), seen, strict=False):
            for lookup, own in zip(lookups, self._places_of(feed, lookups).rows, strict=True):
                found = {place.label: at for place in own if (at := positions.get(place)) is not None}
                at_us = [found[p.label].visible_us if p.label in found else 0 for p in own if p.label != RETRIED]
                standings[lookup] = Standing(min(at_us), found)
        return standings

    async def _round(
        self,
        feed: ProjectFeed,
        lookups: tuple[Lookup, ...],
        keys: Sequence[Sequence[str]],
        judged: dict[Lookup, Judged],
        as_of: dict[str, int],
    ) -> Seen:
        """Read the rows of each lookup's keys in one MGET, with the positions that they reflect: these are returned."""
        places = self._places_of(feed, lookups)
        wanted = [(place, own) for rows, own in zip(places.rows, keys, strict=True) for place in rows]
        found, rows = await self._store.read((*places.positions, *places.retried), wanted)
        positions, retried = found[: len(places.positions)], found[len(places.positions) :]
        fresh = {place for place, at in zip(places.retried, retried, strict=True) if at is not None} - self._retried
        if fresh:
            self._retried |= fresh
            self._places.clear()
            return await self._round(feed, lookups, keys, judged, as_of)
        visible = self._noted(places.positions, positions)
        stored, columns = {}, iter(rows)
        for lookup, own, entities in zip(lookups, places.rows, keys, strict=True):
            parts = list(zip(*islice(columns, len(own)), strict=True))
            at_us = as_of[lookup.view.id] = min(visible[place] for place in own if place.label != RETRIED)
            if at_us:
                stored[lookup] = Stored(parts, at_us)
            else:  # a partition of it has no position: it is being filled, and what is there does not add up
                judged[lookup] = nothing_of(lookup.view, len(entities))
        judged.update(judge_all(_read(stored)))
        return dict(zip(places.positions, positions, strict=True))

    def _places_of(self, feed: ProjectFeed, lookups: tuple[Lookup, ...]) -> _Places:
        """Worked out once: of a read of one entity it would be a good part of the work."""
        places = self._places.get(lookups)
        if places is None:
            retried = tuple(self._retry_place(feed, lookup.view) for lookup in lookups)
            rows = tuple(
                (*feed.source_of(lookup.view).places(lookup.view), *({retry} & self._retried))
                for lookup, retry in zip(lookups, retried, strict=True)
            )
            if len(self._places) >= MOST_SETS:
                self._places.clear()
            places = self._places[lookups] = _Places(rows, retried, tuple(dict.fromkeys(chain.from_iterable(rows))))
        return places

    def _retry_place(self, feed: ProjectFeed, view: CompiledView) -> Place:
        return feed.source_of(view).place(view, RETRIED)

    def _as_of(self, feed: ProjectFeed, view: CompiledView) -> int:
        return self._progress.visible_us(feed.source_of(view).places(view))

    async def _wait(self, feed: ProjectFeed, plan: InputsPlan, not_before_us: int, wait_s: float) -> None:
        """Until every view involved has applied what was visible by then. Raises TooLate."""
        places = [place for view in plan.views for place in feed.source_of(view).places(view)]
        deadline = asyncio.get_running_loop().time() + wait_s
        while self._progress.visible_us(places) < not_before_us:
            left_s = deadline - asyncio.get_running_loop().time()
            if left_s <= 0:
                behind = sorted(v.id for v in plan.views if self._as_of(feed, v) < not_before_us)
                raise TooLate(f"{', '.join(behind)} had not applied {not_before_us} in time")
            await self._progress.moved(min(left_s, LOOK_EVERY_S))
            if self._progress.visible_us(places) < not_before_us:
                await self.look(places)

    async def look(self, places: Sequence[Place]) -> None:
        """Learn how far these places are. Raises StoreUnavailable."""
        positions, _ = await self._store.read(places)
        self._noted(places, positions)

    def _noted(self, places: Sequence[Place], positions: Sequence[Position | None]) -> dict[Place, int]:
        """Visible time per place as the store has it, remembered for those who wait."""
        visible: dict[Place, int] = {}
        for place, position in zip(places, positions, strict=True):
            visible[place] = position.visible_us if position else 0
            if position:
                self._progress.note(place, position.visible_us)
            elif self._progress.visible_us([place]):
                self._progress.reset(place, 0)
        return visible


def _read(stored: Mapping[Lookup, Stored]) -> dict[Lookup, Reading]:
    try:
        return read_all(stored)
    except RowError:
        for lookup, one in stored.items():
            try:
                read_rows(lookup.view, one.rows, one.at_us)
            except RowError as error:
                raise RowCorrupt(f"view {lookup.view.id}: {error}") from error
        raise
