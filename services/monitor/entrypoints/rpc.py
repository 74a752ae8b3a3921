"""gRPC: millrace.wire.monitor.v1.Monitor."""

from __future__ import annotations

import grpc
from millrace.runtime.errors import Invalid
from millrace.wire.monitor.v1 import service_pb2 as wire
from millrace.wire.monitor.v1.service_pb2_grpc import MonitorServicer, add_MonitorServicer_to_server

from services.monitor.domain.alerts import Alert
from services.monitor.domain.causes import Link
from services.monitor.domain.performance import Cell
from services.monitor.handlers import messages
from services.monitor.handlers.queries import Queries

MOST_ALERTS = 1_000


class MonitorRpc(MonitorServicer):
    """Decodes, asks, encodes."""

    def __init__(self, queries: Queries) -> None:
        self._queries = queries

    def register(self, server: grpc.aio.Server) -> None:
        """Adds the service to a server."""
        add_MonitorServicer_to_server(self, server)  # type: ignore[no-untyped-call]  # generated

    async def Why(self, request: wire.WhyRequest, context: object) -> wire.WhyReply:
        """NOT_FOUND: no topic carried this id, or it has not arrived yet."""
        if not request.event_id:
            raise Invalid("event_id is empty")
        chain = await self._queries.why(request.event_id)
        return wire.WhyReply(links=[link_message(link) for link in chain.links], complete=chain.complete)

    async def ListAlerts(self, request: wire.ListAlertsRequest, context: object) -> wire.ListAlertsReply:
        """Newest first."""
        limit = min(request.limit or 100, MOST_ALERTS)
        found = await self._queries.state.alerts(request.project, open_only=request.open_only, limit=limit)
        return wire.ListAlertsReply(alerts=[alert_message(alert) for alert in found])

    async def Performance(self, request: wire.PerformanceRequest, context: object) -> wire.PerformanceReply:
        """Only what labels have shown; by window, version and kind of answer."""
        if request.window_us < 0:
            raise Invalid("window_us is negative")
        cells = await self._queries.performance(request.project, request.window_us)
        return wire.PerformanceReply(windows=[cell_message(cell) for cell in cells])


def link_message(link: Link) -> wire.ChainLink:
    """A link as the wire has it."""
    return wire.ChainLink(
        event_id=link.event_id,
        event_type=link.event_type,
        topic=link.topic,
        source=link.source,
        subject=link.subject,
        time_us=link.time_us,
        summary=link.summary,
        causation_id=link.causation_id,
        actor=link.actor,
    )


def alert_message(alert: Alert) -> wire.Alert:
    """An alert as the wire has it."""
    return wire.Alert(
        alert_id=messages.alert_id(alert),
        project=alert.project,
        rule=alert.rule,
        subject=alert.subject,
        state=alert.state.value,
        severity=alert.severity,
        reason=alert.reason,
        statistic=alert.statistic,
        threshold=alert.threshold,
        since_us=alert.since_us,
        updated_us=alert.updated_us,
        action=alert.action,
        event_id=alert.event_id,
    )


def cell_message(cell: Cell) -> wire.PerformanceWindow:
    """A cell as the wire has it; NaN stays NaN where there is no value yet."""
    return wire.PerformanceWindow(
        start_us=cell.start_us,
        version=cell.version,
        metric=cell.metric,
        value=cell.value,
        low=cell.low,
        high=cell.high,
        predictions=cell.predictions,
        labelled=cell.labelled,
        answered=cell.answered,
    )
