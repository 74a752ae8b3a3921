"""Counters of the consistency check, beside the board's gauges."""

from __future__ import annotations

from prometheus_client import Counter

from services.feature_store.domain.consistency import CheckedRead

CELLS = Counter(
    "millrace_feature_consistency_cells",
    "Values of sampled online reads that were worked out again from history",
    ["project", "feature", "outcome"],
)
SKIPPED = Counter("millrace_feature_consistency_skipped_reads", "Sampled reads that could not be checked", ["project"])


def count_checked(checked: CheckedRead) -> None:
    """Counts one checked read."""
    if checked.skipped:
        SKIPPED.labels(checked.read.project).inc()
    for finding in checked.findings:
        CELLS.labels(checked.read.project, finding.feature, finding.outcome.name.lower()).inc()
