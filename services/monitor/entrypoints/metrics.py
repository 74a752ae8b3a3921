"""Prometheus: what only the monitor knows, beside the board's gauges. Series per feature live in ClickHouse."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping

from prometheus_client.core import GaugeMetricFamily

from services.monitor.domain.alerts import Alert
from services.monitor.domain.live import Live


class MonitorCollector:
    """Reads callables at each scrape."""

    def __init__(
        self,
        alerts: Callable[[], Iterable[Alert]],
        live: Callable[[], Mapping[str, Live]],
        decisions: Callable[[], int],
        decided: Callable[[], Mapping[str, int]],
    ) -> None:
        self._alerts = alerts
        self._live = live
        self._decisions = decisions
        self._decided = decided

    def describe(self) -> list[GaugeMetricFamily]:
        """Names are made at the scrape."""
        return []

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Open alerts by project, rule and state; live rates and latency by model; decisions."""
        family = GaugeMetricFamily("millrace_monitor_open_alerts", "Open alerts", labels=["project", "rule", "state"])
        for key, count in Counter((a.project, a.rule, a.state.value) for a in self._alerts()).items():
            family.add_metric(list(key), count)
        yield family
        yield GaugeMetricFamily("millrace_monitor_decisions", "Decisions made since start", value=self._decisions())
        family = GaugeMetricFamily("millrace_monitor_decided_us", "Project time last decided at", labels=["project"])
        for project, until_us in self._decided().items():
            family.add_metric([project], until_us)
        yield family
        yield from self._live_families()

    def _live_families(self) -> Iterator[GaugeMetricFamily]:
        rate = GaugeMetricFamily(
            "millrace_monitor_predictions_per_s", "Rolling rate of predictions", labels=["model", "kind"]
        )
        latency = GaugeMetricFamily(
            "millrace_monitor_prediction_latency_ms", "Rolling latency of answers", labels=["model", "quantile"]
        )
        for model, live in self._live().items():
            rate.add_metric([model, "answered"], live.answered_per_s)
            rate.add_metric([model, "shadowed"], live.shadowed_per_s)
            rate.add_metric([model, "failed"], live.failed_per_s)
            latency.add_metric([model, "0.5"], live.p50_ms)
            latency.add_metric([model, "0.99"], live.p99_ms)
        yield rate
        yield latency
