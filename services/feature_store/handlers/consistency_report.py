"""What the consistency check found, for those who ask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from millrace.runtime.clock import wall_us

from services.feature_store.domain.consistency import BAD, Outcome
from services.feature_store.handlers.feeds import FeedBook
from services.feature_store.handlers.sampling import ReadSampler
from services.feature_store.ports import Example, ReadCounts, ReadLog, Tally

FOREVER_US = 2**62  # beyond every time that an event can carry
MOST_EXAMPLES = 100
KEPT_US = 14 * 86_400_000_000  # as long as the store keeps reads


@dataclass(frozen=True, slots=True)
class ConsistencyReport:
    """What a project's sampled reads came to. `dropped` were beyond the limits of this process."""

    tallies: Sequence[Tally]
    examples: Sequence[Example]
    counts: ReadCounts
    dropped: int
    share: float

    @property
    def differing(self) -> int:
        """Values that history does not give."""
        return sum(tally.by_outcome.get(outcome, 0) for tally in self.tallies for outcome in BAD)

    @property
    def compared(self) -> int:
        """Values that were compared."""
        return sum(sum(tally.by_outcome.values()) for tally in self.tallies)

    @property
    def ahead(self) -> int:
        """Values that a partition's being ahead explains."""
        return sum(tally.by_outcome.get(Outcome.AHEAD, 0) for tally in self.tallies)


class ConsistencyReports:
    """Answers per project."""

    def __init__(self, store: ReadLog, feeds: FeedBook, sampler: ReadSampler) -> None:
        self._store = store
        self._feeds = feeds
        self._sampler = sampler

    @property
    def projects(self) -> list[str]:
        """Names of the projects that are known here."""
        return sorted(self._feeds.projects)

    async def report(self, project: str, from_us: int = 0, to_us: int = 0) -> ConsistencyReport:
        """Values as of [from, to) of the project's clock (to 0: without end). Raises UnknownProject."""
        self._feeds.project(project)
        span = from_us or -FOREVER_US, to_us or FOREVER_US
        await self._sampler.flush()  # what was read a moment ago is pending, not unknown
        # Counted first: of every read that counts as checked, the values are in what is asked for next.
        counts = await self._store.counts(project, wall_us() - KEPT_US)
        return ConsistencyReport(
            await self._store.tallies(project, *span),
            await self._store.examples(project, *span, MOST_EXAMPLES),
            counts,
            self._sampler.dropped,
            self._sampler.share,
        )
