"""When a topic has let go of what it holds. Kafka deletes segments, not records: this is a bound, not a moment."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from millrace.bus.topics import TopicRow, TopicTable, segment_hours
from millrace.definitions.model import Project
from millrace.wire.ingestion.v1.forgetting_pb2 import StoreReceipt

HOUR_US = 3_600_000_000
# A segment is marked at the next check (log.retention.check.interval.ms, 5 min) and its file removed a minute later.
CHECKED_US = 10 * 60_000_000
# Topics whose records name entities, or carry what was received of them.
HOLDING = (
    "raw.{project}.{source}",
    "data.{project}.{source}",
    "quarantine",
    "labels",
    "labels.tasks",
    "predictions",
    "deadletter.{room}",
    "retry.{room}",
    "delayed.{room}",
)


class Compacted(NamedTuple):
    """How long a compacted topic keeps what was replaced."""

    us: int
    how: str


COMPACTED = Compacted(
    48 * HOUR_US,
    "the request named the entity until every room had answered; compaction drops that record "
    "(max.compaction.lag.ms: a day)",
)


def kept_topics(project: Project, table: TopicTable, asked_us: int) -> Iterator[StoreReceipt]:
    """Per topic that may hold the entity: by when the bytes of what was there are gone."""
    for row in table.rows:
        if row.pattern not in HOLDING or row.retention_hours is None:
            continue
        if "{source}" in row.pattern:
            for source in project.sources:
                name = row.pattern.format(project=project.name, source=source.name)
                yield _account(name, row, asked_us, source.retention_us)
        else:
            yield _account(row.pattern, row, asked_us, 0)


def _account(name: str, row: TopicRow, asked_us: int, retention_us: int) -> StoreReceipt:
    assert row.retention_hours is not None
    kept_us = retention_us or row.retention_hours * HOUR_US
    rolled_us = segment_hours(kept_us) * HOUR_US
    return StoreReceipt(
        store=f"topic {name}",
        gone_by_us=asked_us + kept_us + rolled_us + CHECKED_US,
        how=f"retention of {kept_us / HOUR_US:g} h, and a segment's {rolled_us // HOUR_US} h; no reader takes it up",
    )
