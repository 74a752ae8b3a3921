"""Counters of this room, beside the board's gauges."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Sequence

from prometheus_client import Counter

from services.ingestion.domain.expectations import Finding
from services.ingestion.handlers.lanes import Lane, Outcome

EVENTS = Counter("millrace_ingestion_events", "Events by outcome", ["project", "source", "outcome"])
UNKNOWN = Counter("millrace_ingestion_unknown_fields", "Undeclared fields left out", ["project", "source"])
BROKEN = Counter(
    "millrace_ingestion_broken_rules",
    "Rules of whole windows that broke, one for each window",
    ["project", "source", "field", "rule"],
)


def count_findings(lane: Lane, findings: Sequence[Finding]) -> None:
    """Counts what broke in one window."""
    for finding in findings:
        if finding.is_broken:
            BROKEN.labels(lane.project, lane.name, finding.field, finding.rule).inc()


def count_outcomes(lane: Lane, outcomes: Sequence[Outcome], unknown_fields: int) -> None:
    """Counts one call's outcomes."""
    for kind, events in Tally(outcome.kind for outcome in outcomes).items():
        EVENTS.labels(lane.project, lane.name, kind).inc(events)
    if unknown_fields:
        UNKNOWN.labels(lane.project, lane.name).inc(unknown_fields)
