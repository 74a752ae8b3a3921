"""Judges every version on trial: rolls back what is worse, advances what stood its step."""

from __future__ import annotations

from typing import Any

from millrace.definitions.model import Rollout
from millrace.wire.registry.v1.events_pb2 import ModelCommand

from services.monitor.domain import judge, plans
from services.monitor.domain.alerts import Alert, Reading, Rule
from services.monitor.domain.judge import Finding
from services.monitor.domain.plans import Trial
from services.monitor.handlers import messages
from services.monitor.handlers.desk import Ask, Desk, Moment

RULE = "release"


async def watch_releases(desk: Desk, moment: Moment) -> None:
    """Every trial of every model; alerts of trials that are over are resolved."""
    on_trial: set[str] = set()
    for plan in moment.plans:
        for trial in plans.trials(plan, moment.changes.get(plan.model, ())):
            on_trial.add(trial.incident_id)
            await _watch(desk, moment, trial)
    for alert in moment.open_alerts(RULE):
        if alert.incident not in on_trial:
            moment.close(alert, "the version is no longer on trial")


async def _watch(desk: Desk, moment: Moment, trial: Trial) -> None:
    monitor = moment.project.monitors.release
    evidence = await desk.log.evidence(trial, moment.now_us)
    findings = judge.judge(evidence, monitor, moment.project.model.task)
    against = [finding for finding in findings if finding.against]
    rule = Rule(RULE, "critical", monitor.action, confirmations=1, quiet=2)
    query = query_of(trial, moment.now_us)
    if findings:
        worst = (against or findings)[0]
        reading = Reading(
            subject=f"{trial.model}/v{trial.version}",
            beyond=bool(against),
            statistic=worst.statistic,
            threshold=worst.threshold,
            observations=worst.observations,
            reason=f"v{trial.version} against v{trial.target}: {worst.reason}",
            evidence_query=query,
            cause_id=trial.cause_id,
            incident=trial.incident_id,
        )
        moment.read(rule, reading, lambda alert: _rollback(moment, trial, findings, alert))
    if not against and trial.role in ("canary", "shadow"):
        await _advance(desk, moment, trial, findings)


def _rollback(moment: Moment, trial: Trial, findings: list[Finding], alert: Alert) -> Ask:
    message = messages.command_message(
        trial,
        ModelCommand.ROLLBACK,
        alert.reason,
        _evidence(trial, findings, moment.now_us),
        cause_id=alert.event_id,
        incident=trial.incident_id,
        wall_us=moment.wall_us,
    )
    return f"rollback/{trial.incident_id}", message


async def _advance(desk: Desk, moment: Moment, trial: Trial, findings: list[Finding]) -> None:
    """The step's time and count have passed, and nothing stands against the version."""
    rollout: Rollout = moment.project.rollout
    step = plans.step_of(rollout, trial.weight)
    incident = f"{trial.model}/{trial.version}/{trial.epoch}"
    key = f"advance/{incident}"
    if moment.now_us - trial.step_us < step.after_us or key in moment.asked:
        return
    scored = await desk.log.answered_since(trial, trial.step_us, moment.now_us)
    if scored < step.min_predictions:
        return
    shown = "; ".join(finding.reason for finding in findings) or "too little evidence to say more"
    message = messages.command_message(
        trial,
        ModelCommand.ADVANCE,
        f"stood its step of {trial.weight:.0%} with {scored} predictions: {shown}",
        _evidence(trial, findings, moment.now_us),
        cause_id=trial.step_cause_id,
        incident=incident,
        wall_us=moment.wall_us,
    )
    moment.ask((key, message))


def query_of(trial: Trial, now_us: int) -> str:
    """The logged predictions that a judgement stands on, as a condition on the table `predictions`."""
    return (
        f"project = '{trial.project}' AND model = '{trial.model}' AND version IN ({trial.version}, {trial.target})"
        f" AND epoch >= {trial.since_epoch} AND moment_us >= {trial.since_us} AND moment_us < {now_us}"
    )


def _evidence(trial: Trial, findings: list[Finding], now_us: int) -> dict[str, Any]:
    return {
        "target": trial.target,
        "window_us": [trial.since_us, now_us],
        "query": query_of(trial, now_us),
        "tests": [
            {
                "test": f.test,
                "against": f.against,
                "statistic": f.statistic,
                "bound": f.bound,
                "threshold": f.threshold,
                "n": f.observations,
            }
            for f in findings
        ],
    }
