"""Watches what ingestion says about each window of each source."""

from __future__ import annotations

from services.monitor.domain import quality
from services.monitor.domain.alerts import Reading, Rule
from services.monitor.domain.quality import Judged, Window
from services.monitor.handlers.desk import Desk, Moment

RULE = "data_quality"
EXPECTATIONS = "expectations"


async def watch_quality(desk: Desk, moment: Moment) -> None:
    """Every window that ended by now and was not judged yet, in order."""
    monitor = moment.project.monitors.data_quality
    rule = Rule(RULE, "critical", monitor.action)
    expectations = Rule(EXPECTATIONS, "critical", monitor.action)
    past: dict[str, list[Window]] = {}
    for window, is_judged, was_broken in await desk.state.windows(
        moment.project.name, moment.now_us, 2 * quality.HISTORY
    ):
        broken = was_broken
        if not is_judged:
            judged = [quality.refused(window, monitor), *quality.jumps(window, past.get(window.source, []))]
            expected = quality.expected(window)
            broken = any(j.beyond for j in judged) or any(j.beyond and distorts(j.subject) for j in expected)
            _read(moment, rule, window, judged)
            _close_gone(moment, window)
            _read(moment, expectations, window, expected)
            moment.outcome.judged_windows.append((window.source, window.start_us, broken))
        if not broken:
            past.setdefault(window.source, []).append(window)


def distorts(subject: str) -> bool:
    """Whether a broken expectation changes how values are spread: nulls do; one repeat among thousands does not, and
    neither does a silence."""
    return subject.endswith(f".{quality.NULL_SHARE}")


def _close_gone(moment: Moment, window: Window) -> None:
    """Alerts of expectations that a newer definition gave up."""
    expected = {quality.subject_of(window.source, found) for found in window.findings}
    for alert in moment.open_alerts(EXPECTATIONS):
        if alert.subject not in expected and alert.subject.split(".")[0] == window.source:
            moment.close(alert, "no longer expected")


def _read(moment: Moment, rule: Rule, window: Window, judged: list[Judged]) -> None:
    for found in judged:
        reading = Reading(
            subject=found.subject,
            beyond=found.beyond,
            statistic=found.statistic,
            threshold=found.threshold,
            observations=found.observations,
            reason=f"{window.source}: {found.reason}",
            # Silence is told by a window without events; the other rules of windows say themselves what they had.
            has_data=window.events > 0 or found.subject.endswith(f".{quality.FRESHNESS}"),
            evidence_query=f"data.violations of {moment.project.name}/{window.source} "
            f"[{window.start_us}, {window.end_us})",
            evidence_ids=(window.event_id,),
            cause_id=window.event_id,
        )
        moment.read(rule, reading)
    seen = {found.subject for found in judged}
    for alert in moment.open_alerts(rule.name):
        if alert.subject not in seen and alert.subject.split(".")[0] == window.source:
            moment.read(rule, Reading(alert.subject, False, 0.0, 0.0, 0, "no values in the window", has_data=False))
