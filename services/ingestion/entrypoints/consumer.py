"""The topics `raw.<project>.<source>`, for producers that write straight to Kafka, and `data.forgotten`."""

from __future__ import annotations

from millrace.bus.ports import Bus
from millrace.bus.worker import Worker

from services.ingestion.handlers.forgetting import ForgetDesk
from services.ingestion.handlers.plane import Ingestion
from services.ingestion.settings import ROOM


def raw_worker(bus: Bus, plane: Ingestion) -> Worker:
    """The worker; its topics follow the definitions."""
    return Worker(bus, room=ROOM, group=ROOM, handle=plane.on_raw)


def receipts_worker(bus: Bus, desk: ForgetDesk) -> Worker:
    """What the rooms answer when an entity is forgotten."""
    return Worker(bus, room=ROOM, group=f"{ROOM}.forgetting", handle=desk.on_receipts, topics=["data.forgotten"])
