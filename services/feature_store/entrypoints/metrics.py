"""Counters of this room, beside the board's gauges."""

from __future__ import annotations

from prometheus_client import Counter

from services.feature_store.domain.consistency import CheckedRead
from services.feature_store.handlers.feeds import SourceFeed

CELLS = Counter(
    "millrace_feature_consistency_cells",
    "Values of sampled online reads that were worked out again from history",
    ["project", "feature", "outcome"],
)
SKIPPED = Counter("millrace_feature_consistency_skipped_reads", "Sampled reads that could not be checked", ["project"])

LATE = Counter(
    "millrace_late_events",
    "Events that became visible later than their source's declared lateness; a batch that comes again counts again",
    ["project", "source"],
)


EXPIRED = Counter("millrace_expired_rows", "Online rows deleted long after their TTL or windows", ["project", "view"])


def count_expired(project: str, view_id: str, rows: int) -> None:
    """Counts rows of one step."""
    EXPIRED.labels(project, view_id).inc(rows)


def count_late(feed: SourceFeed, events: int) -> None:
    """Counts events of one batch."""
    LATE.labels(feed.project, feed.source.name).inc(events)


def count_checked(checked: CheckedRead) -> None:
    """Counts one checked read."""
    if checked.skipped:
        SKIPPED.labels(checked.read.project).inc()
    for finding in checked.findings:
        CELLS.labels(checked.read.project, finding.feature, finding.outcome.name.lower()).inc()
