"""What this room says on the bus."""

from __future__ import annotations

import hashlib
from dataclasses import replace

from millrace.bus.events import JSON, KEPT_PAYLOAD_BYTES, Event, Message, derive_id, event_type
from millrace.bus.topics import data_topic
from millrace.definitions.model import FieldType, Pii, Source
from millrace.wire.common.v1 import common_pb2
from millrace.wire.ingestion.v1 import events_pb2

from services.ingestion.domain.contracts import Refusal
from services.ingestion.domain.expectations import FRESHNESS, NULL_SHARE, Finding
from services.ingestion.domain.profiles import Moments, Window
from services.ingestion.handlers.judge import Judged

SOURCE = "millrace/ingestion"
_NAMES_NOBODY = frozenset({FieldType.NUMBER, FieldType.BOOLEAN, FieldType.TIMESTAMP})
HEARTBEAT = event_type("ingestion", "clock", "advanced")
QUARANTINE_TOPIC = "quarantine"
VIOLATIONS_TOPIC = "data.violations"
CLOCKS_TOPIC = "clocks"


def data(
    topic: str,
    partition: int,
    kind: str,
    judged: Judged,
    key: str,
    event_us: int,
    visible_us: int,
    origin: tuple[str, str],
) -> Message:
    """An accepted event on its data topic; `origin` is (actor, traceparent)."""
    event = Event(
        id=judged.id,
        type=kind,
        source=SOURCE,
        data=judged.body,
        subject=key,
        time_us=visible_us,
        actor=origin[0],
        traceparent=origin[1],
        content_type=JSON,
        extensions={
            "visible_us": str(visible_us),
            "event_us": str(event_us),
            "schema_version": str(judged.schema_version),
        },
    )
    return Message(topic, event, key.encode(), partition)


def heartbeat(project: str, source: str, partition: int, visible_us: int) -> Message:
    """Says on one partition: nothing before `visible_us` will come any more."""
    topic = data_topic(project, source)
    event = Event(
        id=derive_id(f"{topic}:{partition}:{visible_us}", "ingestion.heartbeat"),
        type=HEARTBEAT,
        source=SOURCE,
        data=b'{"visible_us":%d}' % visible_us,
        time_us=visible_us,
        content_type=JSON,
        extensions={"visible_us": str(visible_us)},
    )
    return Message(topic, event, b"", partition)


def quarantined(
    project: str, source: str, judged: Judged, refusal: Refusal, visible_us: int, origin: tuple[str, str]
) -> Message:
    """A refused event, kept whole unless it is too large; the same event refused again has the same id."""
    first, reason, payload = refusal.violations[0], refusal.violations[0].reason, judged.body[:KEPT_PAYLOAD_BYTES]
    if len(payload) < len(judged.body):
        reason += f" (of {len(judged.body)} bytes the first {len(payload)} are kept)"
    letter = events_pb2.Quarantined(
        project=project,
        source=source,
        event_id=judged.id,
        field=first.field,
        rule=first.rule,
        reason=reason,
        payload=payload,
        visible_us=visible_us,
    )
    content = hashlib.blake2b(judged.body, digest_size=16).hexdigest()
    key = f"{project}/{source}"
    event = Event(
        id=derive_id(f"{key}/{judged.id}/{content}", "ingestion.quarantine"),
        type=event_type("ingestion", "event", "quarantined"),
        source=SOURCE,
        data=letter.SerializeToString(),
        subject=key,
        time_us=visible_us,
        causation_id=judged.id,
        actor=origin[0],
        traceparent=origin[1],
    )
    return Message(QUARANTINE_TOPIC, event, key.encode())


def window_closed(project: str, source: Source, window: Window) -> Message:
    """The account of one window, also of one in which nothing was broken.

    Examples of texts and whole numbers, and of what has another type than its field, stay here, in the data docs: they
    may name an entity, and from alerts and their log nobody could take it back when it is to be forgotten.
    """
    key = f"{project}/{source.name}"
    shown = {field.name for field in source.fields if field.type in _NAMES_NOBODY and field.pii is Pii.KEEP}
    payload = events_pb2.ViolationWindow(
        project=project,
        source=source.name,
        window_start_us=window.start_us,
        window_end_us=window.end_us,
        events=window.events,
        quarantined=window.quarantined,
        violations=[
            events_pb2.FieldViolation(
                field=name,
                rule=rule,
                events=broken.events,
                example=broken.example if name in shown and rule != "type" else "",
            )
            for (name, rule), broken in window.broken.items()
        ]
        + [
            events_pb2.FieldViolation(
                field=f.field, rule=f.rule, events=_count(f), example=f.example if f.field in shown else ""
            )
            for f in window.findings
            if f.is_broken
        ],
        profiles=[_profile(name, moments) for name, moments in window.fields.items()],
        findings=[finding(f if f.field in shown else replace(f, example="")) for f in window.findings],
    )
    event = Event(
        id=derive_id(f"{key}/{window.start_us}/{window.end_us}", "ingestion.window"),
        type=event_type("ingestion", "window", "closed"),
        source=SOURCE,
        data=payload.SerializeToString(),
        subject=key,
        time_us=window.end_us,
    )
    return Message(VIOLATIONS_TOPIC, event, key.encode())


def finding(found: Finding) -> events_pb2.Finding:
    """A finding on the wire."""
    return events_pb2.Finding(
        field=found.field,
        rule=found.rule,
        measured=found.measured,
        allowed=found.allowed,
        events=found.events,
        is_broken=found.is_broken,
        example=found.example,
        note=found.note,
    )


def _count(found: Finding) -> int:
    """Events that broke a window's rule; one for a silence."""
    if found.rule == FRESHNESS:
        return 1
    return round(found.measured * found.events) if found.rule == NULL_SHARE else int(found.measured)


def clock_tick(project: str, now_us: int, lease_id: str) -> Message:
    """The project's clock moved."""
    event = Event(
        id=derive_id(f"{project}:{now_us}", "ingestion.tick"),
        type=event_type("ingestion", "clock", "ticked"),
        source=SOURCE,
        data=common_pb2.ClockTick(project=project, now_us=now_us, lease_id=lease_id).SerializeToString(),
        subject=project,
        time_us=now_us,
    )
    return Message(CLOCKS_TOPIC, event, project.encode())


def _profile(name: str, moments: Moments) -> events_pb2.FieldProfile:
    has_values = moments.events > moments.nulls
    return events_pb2.FieldProfile(
        field=name,
        events=moments.events,
        nulls=moments.nulls,
        mean=moments.mean,
        std=moments.std,
        min=moments.low if has_values else 0.0,
        max=moments.high if has_values else 0.0,
        distinct=moments.distinct,
    )
