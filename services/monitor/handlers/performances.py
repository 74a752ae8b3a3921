"""Watches realised performance against the floors that the gate declared."""

from __future__ import annotations

from services.monitor.domain import drifting, performance
from services.monitor.domain.alerts import Reading, Rule
from services.monitor.domain.performance import Cell
from services.monitor.handlers.desk import Desk, Moment

RULE = "performance"
LEAST_LABELLED = 100


async def watch_performance(desk: Desk, moment: Moment) -> None:
    """The champion's windows whose labels have matured since the last decision."""
    monitor, horizon_us = moment.project.monitors.performance, moment.project.label.horizon_us
    floors = dict(moment.project.gate.floors)
    due = drifting.windows_due(
        moment.previous_us - horizon_us, moment.now_us - horizon_us, monitor.window_us, drifting.MOST_WINDOWS
    )
    for plan in moment.plans if due and floors else ():
        champion = plan.champion
        if champion is None:
            continue
        cells = await desk.log.performance(
            moment.project.name,
            plan.model,
            moment.project.model.task,
            monitor.window_us,
            due[0],
            due[-1] + monitor.window_us,
            moment.now_us,
        )
        for cell in sorted(cells, key=lambda c: c.start_us):
            if cell.answered and cell.version == champion.version and cell.metric in floors:
                _read(moment, plan.model, cell, floors[cell.metric], monitor.window_us)


def _read(moment: Moment, model: str, cell: Cell, floor: float, window_us: int) -> None:
    rule = Rule(RULE, "warning", moment.project.monitors.performance.action)
    reason = (
        f"{cell.metric} of v{cell.version} was {cell.value:.3f} ({cell.low:.3f} to {cell.high:.3f}) on {cell.labelled}"
        f" labels ({cell.coverage:.0%} of its predictions); the gate asks for {floor:g}"
    )
    reading = Reading(
        subject=f"{model}/{cell.metric}",
        beyond=performance.worse_than(cell, floor),
        statistic=cell.value,
        threshold=floor,
        observations=cell.labelled,
        reason=reason,
        has_data=cell.labelled >= LEAST_LABELLED,
        evidence_query=f"project = '{moment.project.name}' AND model = '{model}' AND version = {cell.version}"
        f" AND answered = 1 AND moment_us >= {cell.start_us} AND moment_us < {cell.start_us + window_us}",
    )
    moment.read(rule, reading)
