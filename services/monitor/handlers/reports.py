"""When an Evidently report is made: every so many drift windows, one at a time, after the decisions of its window."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from millrace.definitions.model import DAY_US, FieldType, Project

from services.monitor.domain import plans
from services.monitor.domain.plans import Plan
from services.monitor.errors import ReportFailed
from services.monitor.ports import Log, ReportRow, Reports, ReportState

log = logging.getLogger(__name__)

LOOK_S = 5.0  # of wall time between two looks
REFERENCE_WINDOWS = 3  # the champion's first predictions stand for what it knows: the bundle has bins, not rows
LEAST_ROWS = 50
KEPT_PER_MODEL = 12  # a page is about 5 MB


@dataclass(slots=True)
class Reporter:
    """`run` makes what is due. Reports are only shown: nothing waits for them."""

    log: Log
    state: ReportState
    reports: Reports
    projects: Callable[[], Mapping[str, Project]]
    decided: Callable[[str], int]
    every_windows: int
    rows: int
    problem: str = ""
    made: int = 0
    _tried: dict[tuple[str, str], int] = field(default_factory=dict)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            for name, project in list(self.projects().items()):
                for plan in await self.state.plans(name):
                    await self._make_if_due(project, plan)
            await asyncio.sleep(LOOK_S)

    async def _make_if_due(self, project: Project, plan: Plan) -> None:
        window_us = project.monitors.drift.window_us if project.monitors.drift else DAY_US
        decided_us = self.decided(project.name)
        start_us = decided_us - decided_us % window_us - window_us
        place = (project.name, plan.model)
        if plan.champion is None or start_us <= 0:
            return
        last_us = await self.state.last_report(*place)
        if start_us < max(last_us, self._tried.get(place, 0)) + self.every_windows * window_us:
            return
        try:
            if await self._make(project, plan, start_us, window_us):
                self._tried[place] = start_us
            self.problem = ""
        except ReportFailed as error:
            self._tried[place] = start_us
            self.problem = str(error)
            log.warning("drift report of %s: %s", plan.model, error)

    async def _make(self, project: Project, plan: Plan, start_us: int, window_us: int) -> bool:
        """Whether there were rows enough for a report."""
        live = plans.went_live(plan, await self.state.changes(project.name, plan.model))
        until_us = live.clock_us + REFERENCE_WINDOWS * window_us
        reference = await self.log.sample(project.name, plan.model, live.clock_us, min(until_us, start_us), self.rows)
        current = await self.log.sample(project.name, plan.model, start_us, start_us + window_us, self.rows)
        if min(len(reference), len(current)) < LEAST_ROWS or plan.champion is None:
            return False
        texts = [i.name for i in project.model.inputs if i.type is FieldType.STRING]
        names = [i.name for i in project.model.inputs] + ["output"]
        frames = [[{n: _plain(row.get(n)) for n in names} for row in side] for side in (reference, current)]
        file = f"{project.name}-{plan.model}-{start_us}.html"
        verdict = await self.reports.make(frames[0], frames[1], texts, file)
        row = ReportRow(
            project=project.name,
            model=plan.model,
            version=plan.champion.version,
            start_us=start_us,
            end_us=start_us + window_us,
            file=file,
            drifted=verdict.drifted,
            columns=verdict.columns,
        )
        self.reports.forget(await self.state.put_report(row, KEPT_PER_MODEL))
        self.made += 1
        return True


def _plain(value: object) -> object:
    """JSON has no NaN: a missing number is null."""
    return None if value is None or value != value else value
