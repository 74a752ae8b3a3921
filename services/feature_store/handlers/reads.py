"""Online reads: two rounds of MGET, joins followed, every view at its own as_of."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

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
        standings: dict[Lookup, Standing] = {}
        await self._round(feed, dict.fromkeys(plan.direct, entities), judged, as_of, standings)
        if plan.joined:
            keys: dict[Lookup, Sequence[str]] = {}
            places: dict[Lookup, np.ndarray] = {}
            for lookup in plan.joined:
                wanted = join_keys(lookup, judged)
                # Many entities share one origin or carrier: each is read once.
                index = {key: i for i, key in enumerate(dict.fromkeys(k for k in wanted if k is not None))}
                keys[lookup] = list(index)
                places[lookup] = np.array([-1 if k is None else index[k] for k in wanted], dtype=np.int64)
            await self._round(feed, keys, judged, as_of, standings)
            for lookup in plan.joined:
                judged[lookup] = judged[lookup].at(places[lookup])
        project = feed.definition.project.name
        if self._sampler is not None and (chosen := self._sampler.choose(project, entities)):
            self._sampler.take(feed, plan, {i: entities[i] for i in chosen}, assemble(plan, judged), standings)
        return Shared(judged, blocked(plan, judged), as_of)

    async def _round(
        self,
        feed: ProjectFeed,
        keys: Mapping[Lookup, Sequence[str]],
        judged: dict[Lookup, Judged],
        as_of: dict[str, int],
        standings: dict[Lookup, Standing],
    ) -> None:
        """Read every lookup's rows in one MGET, with the positions that they reflect."""
        labels = {lookup: self._labels(feed, lookup.view) for lookup in keys}
        positions = list(dict.fromkeys(place for own in labels.values() for place in own))
        retries = [self._retry_place(feed, lookup.view) for lookup in keys]
        wanted = [(place, key) for lookup, own in labels.items() for key in keys[lookup] for place in own]
        found, rows = await self._store.read([*positions, *retries], wanted)
        seen = [place for place, p in zip(retries, found[len(positions) :], strict=True) if p is not None]
        if not self._retried.issuperset(seen):
            self._retried.update(seen)
            await self._round(feed, keys, judged, as_of, standings)
            return
        known = dict(zip((*positions, *retries), found, strict=False))
        visible = self._noted(positions, found[: len(positions)])
        begin, stored = 0, {}
        for lookup, own in labels.items():
            width, end = len(own), begin + len(own) * len(keys[lookup])
            at_us = min(visible[place] for place in own if place.label != RETRIED)
            as_of[lookup.view.id] = at_us
            standings[lookup] = Standing(at_us, {p.label: at for p in own if (at := known[p]) is not None})
            if at_us:
                stored[lookup] = Stored(list(zip(*[iter(rows[begin:end])] * width, strict=True)), at_us)
            else:  # a partition of it has no position: it is being filled, and what is there does not add up
                judged[lookup] = nothing_of(lookup.view, len(keys[lookup]))
            begin = end
        judged.update(judge_all(_read(stored)))

    def _labels(self, feed: ProjectFeed, view: CompiledView) -> tuple[Place, ...]:
        own = feed.source_of(view).places(view)
        retry = self._retry_place(feed, view)
        return (*own, retry) if retry in self._retried else own

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
        positions, _ = await self._store.read(places, [])
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
