"""The gRPC door of the consistency check: encode."""

from __future__ import annotations

import json

from millrace.wire.feature_store.v1 import service_pb2

from services.feature_store.domain.consistency import Outcome
from services.feature_store.handlers.consistency_report import ConsistencyReport


def encode_report(report: ConsistencyReport) -> service_pb2.ConsistencyReply:
    """The report on the wire."""
    reply = service_pb2.ConsistencyReply(
        checked_reads=report.counts.checked,
        skipped_reads=report.counts.skipped,
        pending_reads=report.counts.pending,
        dropped_reads=report.dropped,
        share=report.share,
    )
    for tally in report.tallies:
        found = tally.by_outcome
        reply.rows.add(
            feature=tally.feature,
            day=tally.day,
            compared=sum(found.values()),
            equal=found.get(Outcome.EQUAL, 0),
            ahead=found.get(Outcome.AHEAD, 0),
            mismatch=found.get(Outcome.MISMATCH, 0),
            missing=found.get(Outcome.MISSING, 0),
            extra=found.get(Outcome.EXTRA, 0),
            largest_difference=tally.largest_difference,
        )
    for example in report.examples:
        added = reply.examples.add(
            feature=example.feature,
            entity=example.entity,
            as_of_us=example.as_of_us,
            outcome=Outcome(example.outcome).name.lower(),
        )
        _set(added.online, example.online)
        _set(added.offline, example.offline)
    return reply


def _set(target: service_pb2.FeatureCell, text: str) -> None:
    value, target.status, target.age_us = json.loads(text)
    if isinstance(value, str):
        target.value.text = value
    elif value is not None:
        target.value.number = value
