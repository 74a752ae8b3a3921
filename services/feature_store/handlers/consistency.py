"""Sampled online reads are worked out again from history, and what differs is said, by feature and day.

History is asked twice. First for what a training set would say: each view as known at the read's own `as_of`. Where the
answer was another, for exactly what had been applied: of each partition the events up to the offset that was logged
with the read. An answer that is only then the same is AHEAD; what neither explains is a difference between the two
implementations of a feature, and is never expected.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from millrace.aggregates import RowError
from millrace.expressions import ExpressionError
from millrace.runtime.clock import wall_us
from millrace.runtime.errors import Unavailable

from services.feature_store.domain.consistency import (
    BAD,
    Cell,
    CheckedRead,
    Finding,
    Outcome,
    SampledRead,
    difference,
    is_same,
    lacks_tiles,
    lookup_name,
    outcome_of,
    slacks,
    within,
)
from services.feature_store.domain.inputs import InputsPlan
from services.feature_store.errors import TooMuchHistory, UnknownFeature, UnknownProject
from services.feature_store.handlers.entities import EntityHistory
from services.feature_store.handlers.feeds import FeedBook, ProjectFeed
from services.feature_store.handlers.history import HistoryWriter
from services.feature_store.handlers.recomputing import Recomputation
from services.feature_store.ports import RETRIED, HistoryReader, ReadLog

log = logging.getLogger(__name__)
BATCHES_PER_ROUND = 20
WHOLE_LOOK_ROUNDS = 20  # between looks at everything: what another process held back may be logged late
LOGGED_LATE_US = 60_000_000  # a read is kept for a moment before it is logged, and processes' clocks differ
OnChecked = Callable[[CheckedRead], None]


@dataclass(frozen=True, slots=True)
class CheckLimits:
    """A round every `every_s`, `batch_reads` at a time.

    A read that differs is looked at again until it is `settle_s` old and history is known to hold what it was answered
    from; one that is still not sure after `give_up_s` is passed over, and counted.
    """

    every_s: float
    batch_reads: int
    settle_s: float
    give_up_s: float = 24 * 3600.0


class ConsistencyChecker:
    """Checks what `ReadSampler` kept; `run` is a background task."""

    def __init__(
        self,
        store: ReadLog,
        entities: EntityHistory,
        reader: HistoryReader,
        feeds: FeedBook,
        writer: HistoryWriter,
        limits: CheckLimits,
        *,
        on_checked: OnChecked = lambda _: None,
        now_us: Callable[[], int] = wall_us,
    ) -> None:
        self._store = store
        self._recomputation = Recomputation(entities, reader)
        self._feeds = feeds
        self._writer = writer
        self._limits = limits
        self._on_checked = on_checked
        self._now_us = now_us
        self._done_to_us = 0
        self._rounds = 0
        self.problem = ""

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(self._limits.every_s)
            try:
                await self.check()
                self.problem = ""
            except Unavailable as error:
                self._rounds = 0  # what was held back meanwhile is older than what was looked at
                self.problem = str(error)
                log.warning("consistency waits: %s", error)

    async def check(self) -> int:
        """One round over what is pending; returns how many reads got a result. Raises Unavailable."""
        now_us = self._now_us()
        since_us, done = self._begin_us(now_us), 0
        done_to_us = now_us - LOGGED_LATE_US
        for _ in range(BATCHES_PER_ROUND):
            reads = await self._store.pending(since_us, now_us, self._limits.batch_reads)
            if not reads:
                break
            checked = await self._checked(reads, now_us)
            if checked:
                await self._store.record(checked)
            for one in checked:
                self._on_checked(one)
            done += len(checked)
            since_us = reads[-1].logged_us + 1  # those that wait do not stand in the way of others
            said = {one.read.id for one in checked}
            done_to_us = min([done_to_us, *(read.logged_us for read in reads if read.id not in said)])
            if len(reads) == self._limits.batch_reads:  # there may be more of that very moment
                done_to_us = min(done_to_us, reads[-1].logged_us)
        self._done_to_us = done_to_us
        return done

    def _begin_us(self, now_us: int) -> int:
        """Where a round begins: before the first read that may still wait, and now and then before all of them."""
        whole = self._rounds % WHOLE_LOOK_ROUNDS == 0
        self._rounds += 1
        return now_us - int(2e6 * self._limits.give_up_s) if whole else self._done_to_us

    async def _checked(self, reads: Sequence[SampledRead], now_us: int) -> list[CheckedRead]:
        groups: dict[tuple[str, int, tuple[str, ...]], list[SampledRead]] = {}
        for read in reads:
            groups.setdefault((read.project, read.definition_version, read.features), []).append(read)
        found: list[CheckedRead] = []
        for (project, _, features), group in groups.items():
            try:
                feed = self._feeds.project(project)
                plan = feed.plan_for(features)
                found += await self._in_parts(feed, plan, group, now_us)
            except (UnknownProject, UnknownFeature):
                found += self._passed_over(group, "it is no longer declared", now_us, at_once=True)
            except (ExpressionError, RowError, ValueError) as error:
                log.warning("consistency of %s: %s", project, error)
                found += self._passed_over(group, f"it cannot be worked out: {error}"[:300], now_us, at_once=True)
        return found

    async def _in_parts(
        self, feed: ProjectFeed, plan: InputsPlan, reads: Sequence[SampledRead], now_us: int
    ) -> list[CheckedRead]:
        """The reads together, or as few at once as history's bound asks for."""
        try:
            return await self._group(feed, plan, reads, now_us)
        except TooMuchHistory as error:
            if len(reads) == 1:
                return self._passed_over(
                    reads, f"too much history to be read again: {error}"[:300], now_us, at_once=True
                )
        middle = len(reads) // 2
        halves = (reads[:middle], reads[middle:])
        return [checked for half in halves for checked in await self._in_parts(feed, plan, half, now_us)]

    async def _group(
        self, feed: ProjectFeed, plan: InputsPlan, reads: Sequence[SampledRead], now_us: int
    ) -> list[CheckedRead]:
        """Reads of the same features."""
        names = {lookup_name(lookup) for lookup in (*plan.direct, *plan.joined)}
        gone = [read for read in reads if set(read.standings) != names]
        whole = [read for read in reads if set(read.standings) == names]
        found = self._passed_over(gone, "its views are no longer declared", now_us, at_once=True)
        by_time = await self._recomputation.as_known(feed, plan, whole)
        first = []
        for read, cells in zip(whole, by_time, strict=True):
            first.append(findings_of(plan, read, cells, None))
            await asyncio.sleep(0)  # who asks online now does not wait for all of them
        odd = [i for i, findings in enumerate(first) if any(f.outcome is not Outcome.EQUAL for f in findings)]
        by_position = dict(
            zip(odd, await self._recomputation.as_applied(feed, plan, [whole[i] for i in odd]), strict=True)
        )
        for i, read in enumerate(whole):
            findings = findings_of(plan, read, by_time[i], by_position[i]) if i in by_position else first[i]
            if not any(f.outcome in BAD for f in findings) or self._is_settled(feed, plan, read, now_us):
                found.append(CheckedRead(read, findings))
            else:
                found += self._passed_over([read], "history had not come so far", now_us)
        return found

    def _is_settled(self, feed: ProjectFeed, plan: InputsPlan, read: SampledRead, now_us: int) -> bool:
        """Whether history holds for certain what the read was answered from."""
        if now_us - read.logged_us < int(1e6 * self._limits.settle_s):
            return False
        for lookup in (*plan.direct, *plan.joined):
            table = feed.source_of(lookup.view).table
            for label, position in read.standings[lookup_name(lookup)].positions.items():
                if label != RETRIED and self._writer.position(table, int(label)).offset < position.offset:
                    return False
        return True

    def _passed_over(
        self, reads: Sequence[SampledRead], why: str, now_us: int, *, at_once: bool = False
    ) -> list[CheckedRead]:
        overdue_us = now_us - int(1e6 * self._limits.give_up_s)
        return [CheckedRead(read, (), skipped=why) for read in reads if at_once or read.logged_us < overdue_us]


def findings_of(
    plan: InputsPlan, read: SampledRead, by_time: Sequence[Cell], by_position: Sequence[Cell] | None
) -> tuple[Finding, ...]:
    """One finding per feature. `by_position` (None: not needed) decides where `by_time` does not agree."""
    findings = []
    room = slacks(plan.features, read.cells)
    for i, feature in enumerate(plan.features):
        view = feature.lookup.view
        lookback_us = view.lookback_us()
        online, offline = within(read.cells[i], lookback_us), within(by_time[i], lookback_us)
        standing = read.standings[lookup_name(feature.lookup)]
        outcome = outcome_of(online, offline, room[i])
        if outcome is not Outcome.EQUAL and by_position is not None:
            exact = _as_online_says_age(within(by_position[i], lookback_us), online)
            if is_same(online, exact, room[i]) or lacks_tiles(feature, standing):
                outcome = Outcome.AHEAD
            else:
                outcome, offline = outcome_of(online, exact, room[i]), exact
        apart = 0.0 if outcome in (Outcome.EQUAL, Outcome.AHEAD) else difference(online, offline)
        findings.append(Finding(feature.name, standing.as_of_us, outcome, apart, online, offline))
    return tuple(findings)


def _as_online_says_age(exact: Cell, online: Cell) -> Cell:
    """What happened at or after the as_of is put right before it (see `applied`), and is said to be of age 0 online."""
    return replace(exact, age_us=0) if (exact.age_us, online.age_us) == (1, 0) else exact
