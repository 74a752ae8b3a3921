"""The topics `raw.<project>.<source>`, for producers that write straight to Kafka."""

from __future__ import annotations

from millrace.bus.ports import Bus
from millrace.bus.worker import Worker

from services.ingestion.handlers.plane import Ingestion
from services.ingestion.settings import ROOM


def raw_worker(bus: Bus, plane: Ingestion) -> Worker:
    """The worker; its topics follow the definitions."""
    return Worker(bus, room=ROOM, group=ROOM, handle=plane.on_raw)
