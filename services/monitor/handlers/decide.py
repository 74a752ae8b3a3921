"""Decisions on the project's clock. One is made at each step of a fixed grid, once everything before it is known here:
labels are complete up to it, nothing waits in our topics, and inference has handed over all that it logged. So what is
decided depends on the data and the clock, never on how fast a machine is."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from millrace.definitions.model import Clock, Project

from services.monitor.handlers.desk import Desk, Moment
from services.monitor.handlers.drifts import watch_drift, watch_labels
from services.monitor.handlers.performances import watch_performance
from services.monitor.handlers.quality import watch_quality
from services.monitor.handlers.releases import watch_releases

log = logging.getLogger(__name__)

# The order matters: broken data keeps drift from asking for a retraining.
WATCHERS: tuple[Callable[[Desk, Moment], Awaitable[None]], ...] = (
    watch_quality,
    watch_drift,
    watch_labels,
    watch_performance,
    watch_releases,
)
POLL_S = 0.05  # how often readiness is looked at while a decision is due
WALL_SETTLE_US = 5_000_000  # what was logged just before a time on the wall clock has this long to arrive
IDLE_S = 1.0  # how often wall clocks are looked at when nothing happens
MOST_BACKOFF_S = 5.0


@dataclass(frozen=True, slots=True)
class Cadence:
    """The grid, per kind of clock, in microseconds of that clock."""

    replay_us: int
    wall_us: int

    def of(self, project: Project) -> int:
        """The step for a project."""
        return self.replay_us if project.clock is Clock.REPLAY else self.wall_us


@dataclass(slots=True)
class Inputs:
    """What a decision waits for."""

    projects: Callable[[], Mapping[str, Project]]
    now_us: Callable[[str], int]
    labels_until: Callable[[str], int]  # the time up to which labels are complete, over all partitions
    known_lag: Callable[[], int]  # cheap: what is known to wait without asking
    lag_records: Callable[[], Awaitable[int]]  # exact: records that a sink still gathers count too
    settled: Callable[[], Awaitable[bool]]  # inference has handed over its log


@dataclass(slots=True)
class Decider:
    """Makes decisions as they fall due. `decided` says up to when, per project."""

    desk: Desk
    inputs: Inputs
    cadence: Cadence
    decided: dict[str, int] = field(default_factory=dict)
    decisions: int = 0
    busy: int = 0
    problem: str = ""
    _wake: asyncio.Event = field(default_factory=asyncio.Event)

    def wake(self) -> None:
        """Something arrived: look again."""
        self._wake.set()

    async def run(self) -> None:
        """Until cancelled."""
        backoff_s = 0.2
        while True:
            try:
                is_waiting = await self.catch_up()
                self.problem, backoff_s = "", 0.2
            except Exception as error:
                # Nothing of the decision was written; the same one is made again from the same records.
                self.problem = f"{type(error).__name__}: {error}"
                log.warning("a decision has to wait: %s", self.problem, exc_info=not hasattr(error, "policy"))
                await asyncio.sleep(backoff_s)
                backoff_s, is_waiting = min(backoff_s * 2, MOST_BACKOFF_S), True
            await self._pause(POLL_S if is_waiting else IDLE_S)

    async def catch_up(self) -> bool:
        """Make every decision that is due and ready; whether one is due but not ready."""
        is_waiting = False
        for name, project in list(self.inputs.projects().items()):
            for until_us in self._due(name, project):
                if not await self._is_ready(project, until_us):
                    is_waiting = True
                    break
                await self._decide(project, until_us)
        return is_waiting

    def watermarks(self) -> dict[str, int]:
        """Per project: everything visible by then has taken effect here, decisions included."""
        marks = {}
        for name, project in self.inputs.projects().items():
            until_us = self.inputs.labels_until(name)
            due = self._due(name, project)
            marks[name] = min(until_us, due[0] - 1) if due else until_us
        return marks

    def _due(self, name: str, project: Project) -> list[int]:
        """Times to decide at, oldest first. A wall clock that was not looked at for a while skips to the newest."""
        step_us, now_us = self.cadence.of(project), self.inputs.now_us(name)
        if project.clock is not Clock.REPLAY:
            now_us -= WALL_SETTLE_US
        newest = now_us - now_us % step_us
        if now_us <= 0:
            return []
        if name not in self.decided:
            self.decided[name] = newest - step_us
        if project.clock is not Clock.REPLAY:
            return [newest] if newest > self.decided[name] else []
        return list(range(self.decided[name] + step_us, newest + 1, step_us))

    async def _is_ready(self, project: Project, until_us: int) -> bool:
        if self.inputs.labels_until(project.name) < until_us:
            return False
        if project.clock is not Clock.REPLAY:
            return True  # requests never pause there: what comes later counts at the next step
        if self.inputs.known_lag():
            return False
        # Asked in this order: what inference handed over before the answer is in our lag after it.
        return await self.inputs.settled() and not await self.inputs.lag_records()

    async def _decide(self, project: Project, until_us: int) -> None:
        self.busy += 1
        try:
            moment = await self._moment(project, until_us)
            for watch in WATCHERS:
                await watch(self.desk, moment)
            moment.ask_for_retraining()
            await self.desk.state.commit(project.name, until_us, moment.outcome)
            self.decided[project.name] = until_us
            self.decisions += 1
        finally:
            self.busy -= 1

    async def _moment(self, project: Project, until_us: int) -> Moment:
        state = self.desk.state
        plans = await state.plans(project.name)
        return Moment(
            project=project,
            now_us=until_us,
            previous_us=self.decided[project.name],
            wall_us=self.desk.wall_us(),
            plans=plans,
            changes={plan.model: await state.changes(project.name, plan.model) for plan in plans},
            latest=dict(await state.latest_alerts(project.name)),
            asked=await state.asked(project.name),
        )

    async def _pause(self, seconds: float) -> None:
        try:
            # Not wait_for: until Python 3.12 it forgets a cancellation that comes together with the event.
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            return
        finally:
            self._wake.clear()
