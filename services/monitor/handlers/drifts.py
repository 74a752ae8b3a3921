"""Watches inputs, outputs and labels against what the champion was trained on."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from millrace.definitions.model import DriftMonitor, Task
from millrace.statistics import drift

from services.monitor.domain import drifting, plans
from services.monitor.domain.alerts import Reading, Rule
from services.monitor.domain.drifting import LEAST_ROWS, OUTPUT, DayOfLabels, Reference, Score
from services.monitor.domain.plans import Change, Plan, Variant
from services.monitor.handlers import quality
from services.monitor.handlers.desk import Desk, Moment
from services.monitor.ports import ScoreRow

INPUTS, OUTPUTS, LABELS = "drift", "prediction_drift", "label_drift"
LABEL = "label"
COOLDOWN_WINDOWS = 7


@dataclass(frozen=True, slots=True)
class _Case:
    """One champion and what it was trained on."""

    plan: Plan
    champion: Variant
    live: Change
    bundle: Mapping[str, Any]
    trained_from_us: int


async def watch_drift(desk: Desk, moment: Moment) -> None:
    """Inputs and outputs, window by window."""
    monitor = moment.project.monitors.drift
    if monitor is None:
        return
    for case in await _cases(desk, moment):
        _forget_older(moment, case, (INPUTS, OUTPUTS))
        references = drifting.references(case.bundle)
        if references:
            await _watch_windows(desk, moment, monitor, case, references)


async def watch_labels(desk: Desk, moment: Moment) -> None:
    """The mean of matured labels, window by window."""
    monitor = moment.project.monitors.label_drift
    if monitor is None:
        return
    for case in await _cases(desk, moment):
        _forget_older(moment, case, (LABELS,))
        reference = case.bundle.get("reference_label") or {}
        if reference.get("mean") is None or not reference.get("rows"):
            continue
        horizon_us = moment.project.label.horizon_us
        due = drifting.windows_due(
            max(moment.previous_us - horizon_us, case.live.clock_us),
            moment.now_us - horizon_us,
            monitor.window_us,
            drifting.MOST_WINDOWS,
        )
        for start_us in due:
            await _watch_label_window(desk, moment, monitor, case, start_us)


async def _cases(desk: Desk, moment: Moment) -> list[_Case]:
    found = []
    for plan in moment.plans:
        champion = plan.champion
        if champion is None or not champion.bundle_digest:
            continue
        live = plans.went_live(plan, moment.changes.get(plan.model, ()))
        trained_from_us = live.clock_us - moment.project.training.window_us
        found.append(_Case(plan, champion, live, await desk.bundles.get(champion.bundle_digest), trained_from_us))
    return found


def _forget_older(moment: Moment, case: _Case, rules: Sequence[str]) -> None:
    """Alerts measured against another champion's training say nothing about this one."""
    for name in rules:
        for alert in moment.open_alerts(name):
            if alert.cause_id and alert.cause_id != case.live.event_id:
                moment.close(alert, f"the champion it was measured against was replaced by v{case.champion.version}")


async def _watch_windows(
    desk: Desk, moment: Moment, monitor: DriftMonitor, case: _Case, references: Mapping[str, Reference]
) -> None:
    digest, window_us = case.champion.bundle_digest, monitor.window_us
    known = await desk.state.scores(moment.project.name, digest)
    starts = drifting.windows_due(case.trained_from_us, moment.now_us, window_us, 2 * drifting.MOST_WINDOWS)
    fresh = sorted(set(starts) - {row.start_us for row in known if row.subject != LABEL})
    if not fresh:
        return
    scores = await _score(desk, moment, case, references, fresh, window_us)
    by_subject: dict[str, list[Score]] = defaultdict(list)
    for row in known:
        by_subject[row.subject].append(Score(row.subject, row.start_us, row.value, row.rows))
    for one in scores:
        by_subject[one.subject].append(one)
    broken = await _broken_spans(desk, moment)
    level = drift.level_per_test(monitor.false_alarms_per_year, window_us, len(references))
    for one in sorted(scores, key=lambda s: s.start_us):
        usable = [s for s in by_subject[one.subject] if not _overlaps(s.start_us, window_us, broken)]
        ordinary = drifting.calibration(usable, window_us, case.live.clock_us, case.trained_from_us)
        tested = drifting.test(one, ordinary, level)
        threshold = tested.threshold.value if tested else math.nan
        beyond = bool(tested and tested.beyond)
        moment.outcome.scores.append(
            ScoreRow(digest, one.subject, one.start_us, one.value, one.rows, threshold, beyond)
        )
        if one.start_us + window_us > max(moment.previous_us, case.live.clock_us):
            _read_window(moment, monitor, case, one, tested)


async def _score(
    desk: Desk, moment: Moment, case: _Case, references: Mapping[str, Reference], starts: Sequence[int], window_us: int
) -> list[Score]:
    """Scores of every reference and window; those without rows are NaN, so that they are not asked for again."""
    name, model = moment.project.name, case.plan.model
    inputs = await desk.log.input_bins(name, model, references, starts, window_us)
    outputs: Mapping[int, drifting.Floats] = {}
    if OUTPUT in references:
        version, reference = case.champion.version, references[OUTPUT]
        outputs = await desk.log.output_bins(name, model, version, reference, starts, window_us)
    found = []
    for subject, reference in references.items():
        for start_us in starts:
            bins = outputs.get(start_us) if subject == OUTPUT else inputs.get((start_us, subject))
            found.append(
                Score(subject, start_us, math.nan, 0) if bins is None else drifting.score(reference, bins, start_us)
            )
    return found


def _read_window(moment: Moment, monitor: DriftMonitor, case: _Case, one: Score, tested: drifting.Test | None) -> None:
    is_output = one.subject == OUTPUT
    action, note = _action(moment, "alert" if is_output else monitor.action)
    rule = Rule(
        OUTPUTS if is_output else INPUTS,
        "warning",
        action,
        confirmations=drift.CONFIRMATIONS,
        quiet=2,
        cooldown_us=COOLDOWN_WINDOWS * monitor.window_us,
    )
    subject = case.plan.model if is_output else one.subject
    if tested is None:
        if one.rows < LEAST_ROWS:
            moment.read(rule, Reading(subject, False, 0.0, 0.0, one.rows, "too few rows", has_data=False))
        return
    bound = tested.threshold
    reason = (
        f"{subject} lies {one.value:.3f} from what v{case.champion.version} was trained on; ordinary windows stay below"
        f" {bound.value:.3f} ({bound.windows} windows, {monitor.false_alarms_per_year:g} false alarms a year){note}"
    )
    reading = Reading(
        subject=subject,
        beyond=tested.beyond,
        statistic=one.value,
        threshold=bound.value,
        observations=one.rows,
        reason=reason,
        evidence_query=_query(moment, case, one.start_us, monitor.window_us),
        cause_id=case.live.event_id,
    )
    moment.read(rule, reading)


async def _watch_label_window(desk: Desk, moment: Moment, monitor: DriftMonitor, case: _Case, start_us: int) -> None:
    name, now_us = moment.project.name, moment.now_us
    window = await desk.log.label_days(name, start_us, start_us + monitor.window_us, now_us)
    ordinary = await _ordinary_days(desk, moment, case, start_us)
    reference = case.bundle["reference_label"]
    tested = drifting.test_labels(
        window,
        ordinary,
        float(reference["mean"]),
        int(reference["rows"]),
        drift.level_per_test(monitor.false_alarms_per_year, monitor.window_us),
        moment.project.model.task is Task.BINARY,
    )
    if tested is None:
        return
    action, note = _action(moment, monitor.action)
    rule = Rule(LABELS, "warning", action, cooldown_us=monitor.window_us)
    reason = (
        f"the mean label is {tested.mean:.3f}, v{case.champion.version} was trained on {tested.reference:.3f}: "
        f"{abs(tested.statistic):.1f} standard errors apart, {tested.threshold:.1f} is ordinary where days differ this "
        f"much ({len(ordinary)} days, dispersion {tested.dispersion:.1f}){note}"
    )
    digest = case.champion.bundle_digest
    moment.outcome.scores.append(
        ScoreRow(digest, LABEL, start_us, tested.statistic, tested.rows, tested.threshold, tested.beyond)
    )
    reading = Reading(
        subject=LABEL,
        beyond=tested.beyond,
        statistic=abs(tested.statistic),
        threshold=tested.threshold,
        observations=tested.rows,
        reason=reason,
        evidence_query=f"labels of {name} with moment_us in [{start_us}, {start_us + monitor.window_us})",
        cause_id=case.live.event_id,
    )
    moment.read(rule, reading)


async def _ordinary_days(desk: Desk, moment: Moment, case: _Case, before_us: int) -> list[DayOfLabels]:
    """Days of the reference period; where they are too few, the days up to the window as well."""
    name, now_us = moment.project.name, moment.now_us
    until_us = min(case.live.clock_us, before_us)
    days = await desk.log.label_days(name, case.trained_from_us, until_us, now_us)
    if len(days) >= drifting.CALIBRATION_WINDOWS:
        return days
    return await desk.log.label_days(name, case.trained_from_us, before_us, now_us)


def _action(moment: Moment, declared: str) -> tuple[str, str]:
    """Broken data explains drift: while it is broken nothing is retrained on it, and the alert says so."""
    open_now = moment.open_alerts(quality.RULE)
    open_now += [a for a in moment.open_alerts(quality.EXPECTATIONS) if quality.distorts(a.subject)]
    if declared != "retrain" or not open_now:
        return declared, ""
    return "none", f"; no retraining is asked for while data quality of {open_now[0].subject} is in question"


async def _broken_spans(desk: Desk, moment: Moment) -> list[tuple[int, int]]:
    judged = {(source, start) for source, start, broken in moment.outcome.judged_windows if broken}
    windows = await desk.state.windows(moment.project.name, moment.now_us, 400)
    return [
        (window.start_us, window.end_us)
        for window, _, was_broken in windows
        if was_broken or (window.source, window.start_us) in judged
    ]


def _overlaps(start_us: int, window_us: int, spans: Sequence[tuple[int, int]]) -> bool:
    return any(start_us < end and begin < start_us + window_us for begin, end in spans)


def _query(moment: Moment, case: _Case, start_us: int, window_us: int) -> str:
    return (
        f"project = '{moment.project.name}' AND model = '{case.plan.model}' AND answered = 1"
        f" AND moment_us >= {start_us} AND moment_us < {start_us + window_us}"
    )
