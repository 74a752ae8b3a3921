"""What the monitor says: alerts, commands to the registry, requests to the trainer. Ids are derived from the cause."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from millrace.bus.events import Event, Message, derive_id, event_type, new_id
from millrace.wire.monitor.v1.events_pb2 import AlertEvent
from millrace.wire.registry.v1.events_pb2 import ModelCommand
from millrace.wire.trainer.v1.events_pb2 import TrainingRequest

from services.monitor.domain.alerts import Alert
from services.monitor.domain.plans import Trial

SOURCE = "millrace/monitor"
ACTOR = "monitor"


def alert_id(alert: Alert) -> str:
    """Stable per (project, rule, subject, incident)."""
    return derive_id(alert.key, "monitor.alert")


def alert_event_id(alert: Alert) -> str:
    """The id of the event that says the alert's present state and action."""
    return derive_id(alert.key, f"monitor.alert.{alert.state}.{alert.action}", alert.updated_us)


def alert_message(alert: Alert, wall_us: int) -> Message:
    """An alert's change of state."""
    body = AlertEvent(
        alert_id=alert_id(alert),
        project=alert.project,
        rule=alert.rule,
        subject=alert.subject,
        state=alert.state.value,
        severity=alert.severity,
        reason=alert.reason,
        statistic=alert.statistic,
        threshold=alert.threshold,
        observations=alert.observations,
        clock_us=alert.updated_us,
        action=alert.action,
        evidence_ids=alert.evidence_ids,
        evidence_query=alert.evidence_query,
        incident_id=alert.incident,
    )
    event = _event(alert_event_id(alert), "alert", "changed", body.SerializeToString(), alert_id(alert), wall_us)
    return Message("monitor.alerts", _caused(event, alert.cause_id), key=alert_id(alert).encode())


def command_message(
    trial: Trial,
    verb: ModelCommand.Verb,
    reason: str,
    evidence: Mapping[str, Any],
    *,
    cause_id: str,
    incident: str,
    wall_us: int,
) -> Message:
    """What the registry is asked to do about a version on trial."""
    body = ModelCommand(
        project=trial.project,
        model=trial.model,
        verb=verb,
        version=trial.version,
        target_version=trial.target if verb == ModelCommand.ROLLBACK else 0,
        incident_id=incident,
        reason=reason,
        evidence_json=json.dumps(evidence, sort_keys=True),
        actor=ACTOR,
    )
    name = ModelCommand.Verb.Name(verb).lower()
    event_id = derive_id(incident, f"monitor.{name}")
    event = _event(event_id, "model", "commanded", body.SerializeToString(), trial.model, wall_us)
    return Message("models.commands", _caused(event, cause_id), key=trial.model.encode())


def rollback_by_hand(project: str, model: str, version: int, target: int, *, actor: str, wall_us: int) -> Message:
    """The console's button. Each press is an incident of its own; a stale one changes nothing."""
    event_id = new_id()
    body = ModelCommand(
        project=project,
        model=model,
        verb=ModelCommand.ROLLBACK,
        version=version,
        target_version=target,
        incident_id=f"console/{event_id}",
        reason=f"rolled back by {actor} on the console",
        actor=actor,
    )
    event = _event(event_id, "model", "commanded", body.SerializeToString(), model, wall_us)
    return Message("models.commands", _caused(event, "", actor), key=model.encode())


def retrain_message(project: str, reason: str, *, asked_us: int, cause_id: str, wall_us: int) -> Message:
    """What the trainer is asked; it alone decides."""
    body = TrainingRequest(project=project, trigger=TrainingRequest.DRIFT, reason=reason, asked_us=asked_us)
    event_id = derive_id(cause_id, "monitor.retrain", asked_us)
    event = _event(event_id, "training", "requested", body.SerializeToString(), project, wall_us)
    return Message("training.requests", _caused(event, cause_id), key=project.encode())


def _event(event_id: str, noun: str, verb: str, data: bytes, subject: str, wall_us: int) -> Event:
    kind = event_type("monitor", noun, verb)
    return Event(id=event_id, type=kind, source=SOURCE, data=data, subject=subject, time_us=wall_us)


def _caused(event: Event, cause_id: str, actor: str = "") -> Event:
    return Event(
        id=event.id,
        type=event.type,
        source=event.source,
        data=event.data,
        subject=event.subject,
        time_us=event.time_us,
        causation_id=cause_id,
        actor=actor,
    )
