"""Messages to domain to messages: what this room does with each topic that it consumes."""

from __future__ import annotations

from services.ingestion.handlers.forgetting import ForgetDesk
from services.ingestion.handlers.plane import Ingestion

# Topic pattern to handler.
HANDLERS = {"raw.{project}.{source}": Ingestion.on_raw, "data.forgotten": ForgetDesk.on_receipts}
