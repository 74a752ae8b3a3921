"""Records of the topics as rows: predictions, labels, and every platform event with one line for a person."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.json_format import MessageToJson
from google.protobuf.message import DecodeError, Message
from millrace.bus.events import Record
from millrace.wire.inference.v1.events_pb2 import Prediction, ServingStatus
from millrace.wire.ingestion.v1.events_pb2 import ViolationWindow
from millrace.wire.labeling.v1.events_pb2 import Label
from millrace.wire.monitor.v1.events_pb2 import AlertEvent
from millrace.wire.registry.v1.events_pb2 import DefinitionPublished, ModelCommand, ModelEvent, ServingPlan, Variant
from millrace.wire.trainer.v1.events_pb2 import RunEvent, TrainingRequest, TrainingSwitch

from services.monitor.errors import BadEvent

LABEL_HEARTBEAT = "millrace.labeling.clock.advanced.v1"
_NAN = math.nan


def parse(kind: type[Message], record: Record) -> Any:
    """The payload; BadEvent when it is not one."""
    try:
        return kind.FromString(record.data)
    except DecodeError as error:
        raise BadEvent(
            f"{record.topic}:{record.partition}:{record.offset} is no {kind.DESCRIPTOR.name}: {error}"
        ) from error


def prediction_columns(records: Sequence[Record]) -> dict[str, list[Any]]:
    """Rows of the table `predictions`, by column."""
    return _columns([_prediction(parse(Prediction, record), record.event.id) for record in records])


def label_columns(records: Sequence[Record]) -> dict[str, list[Any]]:
    """Rows of the table `labels`, by column."""
    return _columns([_label(parse(Label, record), record.event.id) for record in records])


def _prediction(p: Prediction, event_id: str) -> dict[str, Any]:
    numbers, texts = _inputs(p)
    return {
        "project": p.key.project,
        "model": p.model,
        "version": p.version,
        "moment_us": p.key.moment_us,
        "entity": p.key.entity,
        "prediction_id": p.prediction_id or event_id,
        "request_id": p.request_id,
        "role": p.role,
        "answered": int(p.answered),
        "error": p.error,
        "output": p.outputs[0] if p.outputs else _NAN,
        "numbers": numbers,
        "texts": texts,
        "answered_us": p.answered_us,
        "latency_us": p.latency_us,
        "epoch": p.epoch,
        "as_of_us": p.as_of_us,
        "door": p.door,
        "event_id": event_id,
    }


def _inputs(p: Prediction) -> tuple[list[tuple[str, float]], list[tuple[str, str]]]:
    """Numbers and texts. A null says nothing of its type: it is kept as both, and read as what the input is."""
    numbers, texts = [], []
    for name, value in p.inputs.items():
        kind = value.WhichOneof("kind")
        if kind is None:
            numbers.append((name, _NAN))
            texts.append((name, ""))
        elif kind == "text":
            texts.append((name, value.text))
        else:
            numbers.append((name, float(getattr(value, kind))))
    return numbers, texts


def _label(label: Label, event_id: str) -> dict[str, Any]:
    observed = label.outcome == Label.OBSERVED
    return {
        "project": label.key.project,
        "moment_us": label.key.moment_us,
        "entity": label.key.entity,
        "revision": label.revision,
        "outcome": Label.Outcome.Name(label.outcome),
        "value": label.value if observed else _NAN,
        "origin": Label.Origin.Name(label.origin),
        "confidence": label.confidence,
        "event_us": label.event_us,
        "visible_us": label.visible_us,
        "matured_us": label.matured_us,
        "event_id": event_id,
    }


@dataclass(frozen=True, slots=True)
class Facts:
    """What the index keeps of a payload beside the payload."""

    summary: str
    project: str = ""
    clock_us: int = 0
    columns: Mapping[str, Any] = field(default_factory=dict)


def event_row(record: Record, payload: Message, facts: Facts, received_us: int) -> dict[str, Any]:
    """One row of the table `platform_events`."""
    event = record.event
    row: dict[str, Any] = {
        "event_id": event.id,
        "event_type": event.type,
        "topic": record.topic,
        "source": event.source,
        "subject": event.subject,
        "project": facts.project,
        "time_us": event.time_us,
        "clock_us": facts.clock_us,
        "causation_id": event.causation_id,
        "actor": event.actor,
        "summary": facts.summary,
        "model": "",
        "version": 0,
        "other_version": 0,
        "kind": "",
        "run_id": "",
        "snapshot_digest": "",
        "evidence": "",
        "place": f"{record.topic}:{record.partition}:{record.offset}",
        "received_us": received_us,
        "payload": MessageToJson(payload, preserving_proto_field_name=True, indent=None),
    }
    return {**row, **facts.columns}


def describe_model(e: ModelEvent) -> Facts:
    """A version's change of state."""
    moved = f"{e.from_state or 'new'} → {e.to_state}" if e.from_state != e.to_state else e.to_state
    columns = {
        "model": e.model,
        "version": e.version,
        "other_version": e.other_version,
        "kind": e.kind,
        "run_id": e.run_id,
        "snapshot_digest": e.snapshot_digest,
    }
    if e.actor:
        columns["actor"] = e.actor
    return Facts(_line(f"{e.model} v{e.version} {_word(e.kind)} ({moved})", e.reason), e.project, e.clock_us, columns)


def describe_plan(p: ServingPlan) -> Facts:
    """A whole serving plan."""
    parts = [f"v{v.version} {Variant.Role.Name(v.role).lower()}" + _share(v) for v in p.variants]
    return Facts(f"{p.model} epoch {p.epoch}: {', '.join(parts) or 'nothing serves'}", p.project, 0, {"model": p.model})


def describe_command(c: ModelCommand) -> Facts:
    """Somebody asks the registry for a move."""
    verb = ModelCommand.Verb.Name(c.verb).lower()
    target = f" to v{c.target_version}" if c.target_version else ""
    columns: dict[str, Any] = {"model": c.model, "version": c.version, "other_version": c.target_version, "kind": verb}
    if c.actor:
        columns["actor"] = c.actor
    return Facts(_line(f"{verb} {c.model} v{c.version}{target}", c.reason), c.project, 0, columns)


def describe_request(r: TrainingRequest) -> Facts:
    """Somebody asks the trainer for a run."""
    trigger = TrainingRequest.Trigger.Name(r.trigger).lower()
    return Facts(
        _line(f"training asked for: {_word(trigger)}", r.reason),
        r.project,
        r.asked_us,
        {"kind": trigger, "run_id": r.run_id},
    )


def describe_switch(s: TrainingSwitch) -> Facts:
    """Somebody switched training off, or on again."""
    what = "all training" if s.project == "*" else "training"
    return Facts(
        _line(f"{what} switched {'off' if s.off else 'on'}", s.reason),
        "" if s.project == "*" else s.project,
        0,
        {"kind": "off" if s.off else "on", "actor": s.actor},
    )


def describe_run(r: RunEvent) -> Facts:
    """Where a run stands."""
    state = RunEvent.State.Name(r.state).lower()
    columns = {"kind": state, "run_id": r.run_id, "snapshot_digest": r.candidate.snapshot_digest}
    metrics = ", ".join(f"{name} {value:.4g}" for name, value in sorted(r.candidate.metrics.items())[:6])
    return Facts(_line(f"run {r.run_id} {state}", r.reason or metrics), r.project, r.clock_us, columns)


def describe_alert(a: AlertEvent) -> Facts:
    """An alert's change of state."""
    acted = f", action {a.action}" if a.action not in ("", "none", "alert") else ""
    return Facts(
        _line(f"{_word(a.rule)} of {a.subject} {_word(a.state)} ({a.severity}{acted})", a.reason),
        a.project,
        a.clock_us,
        {"kind": a.state, "evidence": a.evidence_query},
    )


def describe_window(w: ViolationWindow) -> Facts:
    """What one window of a source broke."""
    told = [f"{v.field or w.source} breaks {v.rule}" for v in w.violations]
    broken = f": {', '.join(told[:3])}" + (f" and {len(told) - 3} more" if len(told) > 3 else "") if told else ""
    return Facts(f"{w.source}: {w.quarantined} of {w.events} events refused{broken}", w.project, w.window_end_us)


def describe_status(s: ServingStatus) -> Facts:
    """What a replica serves."""
    states = ", ".join(f"v{v.version} {v.state}" + (f" ({v.reason})" if v.reason else "") for v in s.variants)
    return Facts(f"{s.replica}: {s.model} epoch {s.epoch}: {states or 'nothing'}", s.project, 0, {"model": s.model})


def describe_definition(d: DefinitionPublished) -> Facts:
    """A project file was accepted."""
    columns = {"version": d.version} | ({"actor": d.actor} if d.actor else {})
    return Facts(f"definition {d.version} of {d.project} ({d.digest[:19]})", d.project, 0, columns)


PLATFORM: dict[str, tuple[type[Message], Callable[[Any], Facts]]] = {
    "models.events": (ModelEvent, describe_model),
    "models.releases": (ServingPlan, describe_plan),
    "models.commands": (ModelCommand, describe_command),
    "training.requests": (TrainingRequest, describe_request),
    "training.runs": (RunEvent, describe_run),
    "training.switches": (TrainingSwitch, describe_switch),
    "monitor.alerts": (AlertEvent, describe_alert),
    "data.violations": (ViolationWindow, describe_window),
    "serving.status": (ServingStatus, describe_status),
    "definitions": (DefinitionPublished, describe_definition),
}


def _columns(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    return {name: [row[name] for row in rows] for name in rows[0]} if rows else {}


def event_columns(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Rows of `event_row`, by column."""
    return _columns(rows)


def _share(variant: Variant) -> str:
    return f" {variant.weight:.0%}" if 0 < variant.weight < 1 else " (warm)" if variant.fallback else ""


def _line(text: str, reason: str) -> str:
    return f"{text}: {reason}" if reason else text


def _word(text: str) -> str:
    return text.replace("_", " ")
