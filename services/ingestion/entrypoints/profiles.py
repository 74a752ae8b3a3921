"""Data docs on the wire."""

from __future__ import annotations

import math

from millrace.wire.ingestion.v1 import events_pb2, service_pb2

from services.ingestion.domain.daily import Day, Portrait
from services.ingestion.handlers.docs import SourceDocs, expectations_of
from services.ingestion.handlers.messages import finding
from services.ingestion.handlers.notes import summary
from services.ingestion.ports import DayRow


def profile_reply(docs: SourceDocs) -> service_pb2.ProfileReply:
    """One source's docs."""
    source = docs.source
    reply = service_pb2.ProfileReply(
        project=docs.project,
        source=source.name,
        window_us=docs.window_us,
        freshness_us=source.freshness_us,
        newest_us=docs.newest_us,
        definition_version=docs.version,
        days=map(_summary, docs.days),
        findings=map(finding, docs.findings),
        fields=[
            service_pb2.FieldDoc(field=f.name, type=f.type, pii=f.pii, expectations=expectations_of(f, source))
            for f in source.fields
        ],
    )
    if docs.day is not None:
        reply.day.CopyFrom(_day(docs.day))
    return reply


def _summary(row: DayRow) -> service_pb2.DaySummary:
    return service_pb2.DaySummary(
        start_us=row.start_us,
        events=row.events,
        quarantined=row.quarantined,
        null_share=row.null_share,
        broken=row.broken,
    )


def _day(day: Day) -> service_pb2.DayProfile:
    return service_pb2.DayProfile(
        summary=_summary(summary(day)),
        violations=[
            events_pb2.FieldViolation(field=name, rule=rule, events=broken.events, example=broken.example)
            for (name, rule), broken in day.broken.items()
        ],
        fields=[_portrait(name, portrait) for name, portrait in day.fields.items()],
        windows=[
            service_pb2.WindowLine(
                start_us=line.start_us,
                end_us=line.end_us,
                events=line.events,
                quarantined=line.quarantined,
                null_share=line.nulls / line.values if line.values else 0.0,
                broken=line.broken,
            )
            for line in day.windows
        ],
        findings=[
            service_pb2.BrokenRule(window_end_us=end_us, finding=finding(found)) for end_us, found in day.findings
        ],
    )


def _portrait(name: str, portrait: Portrait) -> service_pb2.FieldPortrait:
    message = service_pb2.FieldPortrait(
        field=name,
        events=portrait.events,
        nulls=portrait.nulls,
        distinct=portrait.distinct_values,
        common=[service_pb2.Frequency(text=text, events=count) for text, count in portrait.common.top()],
    )
    if portrait.numbers:
        message.mean, message.std = portrait.mean, portrait.std
        message.min, message.max = portrait.low, portrait.high
        message.quantiles.extend(q for q in portrait.quantiles() if not math.isnan(q))
    return message
