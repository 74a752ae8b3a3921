"""What Prometheus sees of inference. Labels are bounded: versions that left the plan are forgotten."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram

from .serving import Live, Loaded

SECONDS = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.02, 0.03, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
# Outcomes of a row: (it has a score, it has none).
ANSWERED = ("answered", "failed")
SHADOWED = ("shadowed", "shadow_failed")


class Metrics:
    """Histograms and counters by model and version."""

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        by_version = ["model", "version"]
        name = "millrace_inference_"
        self._registry = registry
        self._requests = Histogram(
            f"{name}request_seconds", "Answered requests", [*by_version, "door"], buckets=SECONDS, registry=registry
        )
        self._runs = Histogram(
            f"{name}run_seconds", "Runs of one model", by_version, buckets=SECONDS, registry=registry
        )
        self._rows = Counter(f"{name}rows", "Rows scored", [*by_version, "door", "outcome"], registry=registry)
        self._fallbacks = Counter(
            f"{name}fallback_rows", "Rows another version answered in place of this one", by_version, registry=registry
        )
        self._refused = Counter(f"{name}refused", "Requests refused as a whole", ["door", "code"], registry=registry)
        self._shadows_dropped = Counter(
            f"{name}shadow_jobs_dropped", "Shadow jobs that met a full queue", registry=registry
        )
        self.requests = 0
        self.failures = 0
        self.shadows_dropped = 0

    def gauge(self, name: str, text: str, read: Callable[[], float]) -> None:
        """A gauge read when Prometheus asks."""
        Gauge(f"millrace_inference_{name}", text, registry=self._registry).set_function(read)

    @contextmanager
    def run(self, model: str, loaded: Loaded) -> Iterator[None]:
        """Times one run of a model."""
        began_s = time.perf_counter()
        try:
            yield
        finally:
            self._runs.labels(model, str(loaded.version)).observe(time.perf_counter() - began_s)

    def request(self, model: str, loaded: Loaded, door: str, seconds: float) -> None:
        """One request had an answer of this version."""
        self._requests.labels(model, str(loaded.version), door).observe(seconds)

    def rows(
        self, model: str, loaded: Loaded, door: str, scored: int, failed: int, outcomes: tuple[str, str] = ANSWERED
    ) -> None:
        """Rows that one version scored, and rows that it could not."""
        for outcome, count in zip(outcomes, (scored, failed), strict=True):
            if count:
                self._rows.labels(model, str(loaded.version), door, outcome).inc(count)

    def fell_back(self, model: str, failed: Loaded, rows: int) -> None:
        """Rows that a fallback answered."""
        self._fallbacks.labels(model, str(failed.version)).inc(rows)

    def refused(self, door: str, code: str) -> None:
        """A request that got no answer at all."""
        self.failures += 1
        self._refused.labels(door, code).inc()

    def shadow_dropped(self) -> None:
        """A shadow job that met a full queue."""
        self.shadows_dropped += 1
        self._shadows_dropped.inc()

    def keep_only(self, model: str, live: Live | None) -> None:
        """Forget the labels of versions that are not loaded any more."""
        kept = {str(v) for v in live.loaded} if live else set()
        for family in (self._requests, self._runs, self._rows, self._fallbacks):
            for labels in {(s.labels["model"], s.labels["version"]) for m in family.collect() for s in m.samples}:
                if labels[0] == model and labels[1] not in kept:
                    family.remove_by_labels({"model": model, "version": labels[1]})
