"""Labels and tasks as they cross the bus."""

from __future__ import annotations

from collections.abc import Sequence

from millrace.bus.events import Event, Message, derive_id, event_type
from millrace.wire.common.v1.common_pb2 import ExampleKey
from millrace.wire.labeling.v1 import events_pb2

from services.labeling.domain.reading import example_key
from services.labeling.domain.tasks import Task
from services.labeling.domain.values import Label, Origin, Outcome

ROOM = "labeling"
SOURCE = f"millrace/{ROOM}"
LABELS = "labels"
TASKS = "labels.tasks"
LABEL_TYPE = event_type(ROOM, "label", "matured")
CORRECTION_TYPE = event_type(ROOM, "label", "corrected")
CLOCK_TYPE = event_type(ROOM, "clock", "advanced")
TASK_TYPE = event_type(ROOM, "task", "changed")
DATA_CLOCK_TYPE = event_type("ingestion", "clock", "advanced")

_OUTCOMES = {Outcome.OBSERVED: events_pb2.Label.OBSERVED, Outcome.CENSORED: events_pb2.Label.CENSORED}
_ORIGINS = {
    Origin.LATE_TRUTH: events_pb2.Label.LATE_TRUTH,
    Origin.PERSON: events_pb2.Label.PERSON,
    Origin.DECLARED_DEFAULT: events_pb2.Label.DECLARED_DEFAULT,
}
_OUTCOME_OF = {wire: outcome for outcome, wire in _OUTCOMES.items()}
_ORIGIN_OF = {wire: origin for origin, wire in _ORIGINS.items()}


def label_message(project: str, label: Label) -> Message:
    """A label's revision; its id follows from what brought it about."""
    key = example_key(project, label.entity, label.moment_us)
    body = events_pb2.Label(
        key=ExampleKey(project=project, entity=label.entity, moment_us=label.moment_us),
        outcome=_OUTCOMES[label.outcome],
        value=label.value,
        origin=_ORIGINS[label.origin],
        confidence=label.confidence,
        event_us=label.event_us,
        visible_us=label.visible_us,
        matured_us=label.matured_us,
        revision=label.revision,
    )
    event = Event(
        id=derive_id(label.cause_id, f"labeling.label:{key}", label.revision),
        type=CORRECTION_TYPE if label.revision else LABEL_TYPE,
        source=SOURCE,
        data=body.SerializeToString(),
        subject=key,
        time_us=label.visible_us,
        causation_id=label.cause_id,
        extensions={"visible_us": str(label.visible_us)},
    )
    return Message(LABELS, event, key=key.encode())


def heartbeats(project: str, watermark_us: int, partitions: Sequence[int], cause_id: str) -> list[Message]:
    """One per partition of `labels`: every label visible by then has been published before it."""
    body = events_pb2.LabelHeartbeat(project=project, visible_us=watermark_us).SerializeToString()
    return [
        Message(
            LABELS,
            Event(
                id=derive_id(f"{project}:{watermark_us}", "labeling.clock", partition),
                type=CLOCK_TYPE,
                source=SOURCE,
                data=body,
                subject=project,
                time_us=max(watermark_us, 0),
                causation_id=cause_id,
                extensions={"visible_us": str(watermark_us)},
            ),
            key=b"",
            partition=partition,
        )
        for partition in partitions
    ]


def label_of(body: events_pb2.Label) -> Label:
    """The domain's value of a label on the wire."""
    return Label(
        entity=body.key.entity,
        moment_us=body.key.moment_us,
        outcome=_OUTCOME_OF[body.outcome],
        value=body.value,
        origin=_ORIGIN_OF[body.origin],
        event_us=body.event_us,
        visible_us=body.visible_us,
        matured_us=body.matured_us,
        revision=body.revision,
        cause_id="",
        confidence=body.confidence,
    )


def task_message(task: Task, state: str, now_us: int, ordinal: str) -> Message:
    """A task changed hands or was done. `ordinal` tells the changes of one task apart."""
    body = events_pb2.TaskChanged(
        task_id=task.task_id,
        project=task.project,
        state=state,
        annotator=task.annotator,
        key=ExampleKey(project=task.project, entity=task.entity, moment_us=task.moment_us),
    )
    event = Event(
        id=derive_id(task.task_id, f"labeling.task.{state}:{ordinal}"),
        type=TASK_TYPE,
        source=SOURCE,
        data=body.SerializeToString(),
        subject=task.task_id,
        time_us=now_us,
        actor=task.annotator,
    )
    return Message(TASKS, event, key=task.task_id.encode())
