"""Prometheus: the status board as gauges, beside whatever a room counts itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fastapi import FastAPI
from fastapi.responses import Response

from millrace.runtime.status import StatusBoard

_HELP = {
    "lag": "Records that wait in the topics this room consumes",
    "deferred": "Records that sinks have yet to write",
    "unpublished": "State changes written but not yet published",
    "busy": "Jobs under way that may still publish",
    "handled": "Records handled since start",
    "dead_letters": "Records given up on since start",
}


_GROUP_LABELS = ["room", "group", "topic"]
_BY_TOPIC = {
    "handled": "Records handled since start",
    "retries": "Attempts that failed and were made again",
    "delayed": "Times that a record was put aside to be tried again later",
    "dead_letters": "Records given up on",
}
_BY_PARTITION = {
    "lag_records": "Records that wait, those in hand included; of delayed.<room>: records that wait for their time",
    "oldest_seconds": "Age of the oldest record that was read and is not handled, by its timestamp in the topic",
}


class _WorkersCollector:
    """Per consumer group of this room: by topic what happened, by partition what waits."""

    def __init__(self, status: StatusBoard) -> None:
        self._status = status

    def collect(self) -> Iterator[Any]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        reports = self._status.worker_reports()
        for kind, text in _BY_TOPIC.items():
            counter = CounterMetricFamily(f"millrace_consumer_{kind}", text, labels=_GROUP_LABELS)
            for report in reports:
                for topic, count in sorted(getattr(report.tally, kind).items()):
                    counter.add_metric([self._status.room, report.member.group, topic], count)
            yield counter
        labels = [*_GROUP_LABELS, "partition"]
        lag, oldest = (
            GaugeMetricFamily(f"millrace_consumer_{kind}", text, labels=labels) for kind, text in _BY_PARTITION.items()
        )
        for report in reports:
            for standing in report.partitions:
                named = [self._status.room, report.member.group, standing.topic, str(standing.partition)]
                lag.add_metric(named, standing.lag_records)
                oldest.add_metric(named, standing.oldest_s)
        yield lag
        yield oldest


class _BoardCollector:
    def __init__(self, status: StatusBoard) -> None:
        self._status = status

    def collect(self) -> Iterator[Any]:
        from prometheus_client.core import GaugeMetricFamily

        room = self._status.room
        for kind, text in _HELP.items():
            family = GaugeMetricFamily(f"millrace_room_{kind}", text, labels=["room"])
            family.add_metric([room], self._status.total(kind))
            yield family
        ready = GaugeMetricFamily("millrace_room_ready", "1 when the room is ready", labels=["room"])
        ready.add_metric([room], float(self._status.reasons()[0]))
        yield ready
        marks = GaugeMetricFamily(
            "millrace_room_watermark_us", "Project time up to which everything took effect", labels=["room", "project"]
        )
        for project, value in self._status.watermarks_us().items():
            marks.add_metric([room, project], value)
        yield marks


def install_metrics(app: FastAPI, status: StatusBoard) -> None:
    """Adds GET /metrics."""
    from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest

    board = CollectorRegistry()
    board.register(_BoardCollector(status))
    board.register(_WorkersCollector(status))

    @app.get("/metrics", include_in_schema=False)
    async def metrics() -> Response:
        return Response(generate_latest(board) + generate_latest(REGISTRY), media_type=CONTENT_TYPE_LATEST)
