"""A sample of online reads is kept with what it was answered from, so that history can be asked the same."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from time import monotonic

from millrace.bus.events import new_id
from millrace.runtime.clock import wall_us
from millrace.runtime.errors import Unavailable

from services.feature_store.domain.answers import Cells
from services.feature_store.domain.consistency import SampledRead, Standing, cells_of, lookup_name, sampled
from services.feature_store.domain.inputs import InputsPlan, Lookup
from services.feature_store.handlers.feeds import ProjectFeed
from services.feature_store.ports import ReadLog

log = logging.getLogger(__name__)
BUDGET_S = 10.0  # what `reads_per_s` allows is counted over so long: calls name many entities at once
FLUSH_EVERY_S = 1.0


@dataclass(frozen=True, slots=True)
class SampleLimits:
    """Of the entity keys a `share`, at most `reads_per_s` over ten seconds; `held_reads` may wait for the store."""

    share: float
    reads_per_s: float
    held_reads: int = 5_000


class ReadSampler:
    """Takes reads as they are answered, without waiting; `run` is a background task that keeps them."""

    def __init__(
        self,
        store: ReadLog,
        limits: SampleLimits,
        *,
        now_s: Callable[[], float] = monotonic,
        now_us: Callable[[], int] = wall_us,
        make_id: Callable[[], str] = new_id,
    ) -> None:
        self._store = store
        self._limits = limits
        self._now_s, self._now_us, self._make_id = now_s, now_us, make_id
        self._held: list[SampledRead] = []
        self._budget_from_s = 0.0
        self._taken = 0
        self.dropped = 0
        self.problem = ""

    @property
    def share(self) -> float:
        """Share of the entity keys whose reads are sampled."""
        return self._limits.share

    def choose(self, project: str, entities: Sequence[str]) -> list[int]:
        """Places of the entities whose reads are sampled, within the limits; what is beyond them is counted."""
        share = self._limits.share
        chosen = sampled(project, entities, share) if share > 0 else []
        if not chosen:
            return chosen
        now_s = self._now_s()
        if now_s - self._budget_from_s >= BUDGET_S:
            self._budget_from_s, self._taken = now_s, 0
        room = min(self._limits.held_reads - len(self._held), int(self._limits.reads_per_s * BUDGET_S) - self._taken)
        kept = chosen[: max(room, 0)]
        self.dropped += len(chosen) - len(kept)
        self._taken += len(kept)
        return kept

    def take(
        self,
        feed: ProjectFeed,
        plan: InputsPlan,
        chosen: Mapping[int, str],
        cells: Sequence[Cells],
        standings: Mapping[Lookup, Standing],
    ) -> None:
        """Keep the answers of the entities at `chosen` places. A view that has applied nothing yet has no history."""
        if not plan.features or any(not standing.as_of_us for standing in standings.values()):
            return
        named = {lookup_name(lookup): standing for lookup, standing in standings.items()}
        now_us, version, names = self._now_us(), feed.definition.version, tuple(plan.names)
        places = list(chosen)
        columns = [
            cells_of(feature, Cells(c.values[places], c.status[places], c.age_us[places]))
            for feature, c in zip(plan.features, cells, strict=True)
        ]
        for answered, entity in zip(zip(*columns, strict=True), chosen.values(), strict=True):
            read = SampledRead(
                self._make_id(), feed.definition.project.name, version, entity, now_us, names, answered, named
            )
            self._held.append(read)

    async def run(self) -> None:
        """Writes what was taken until cancelled, and then what is left."""
        try:
            while True:
                await asyncio.sleep(FLUSH_EVERY_S)
                await self.flush()
        finally:
            await self.flush()

    async def flush(self) -> None:
        """Write what is held; while the store is away it is held on."""
        taken, self._held = self._held, []
        if not taken:
            return
        try:
            await self._store.append(taken)
            self.problem = ""
        except Unavailable as error:
            self.problem = str(error)
            log.warning("sampled reads wait: %s", error)
            self._held = taken + self._held
