"""What the registry does: message → domain → messages. The table at the end is this room's table of contents."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from millrace.bus.events import Record
from millrace.stores.sql import Transaction

from services.registry.handlers.desk import Desk
from services.registry.handlers.release import on_command, on_run, on_status

Handler = Callable[[Desk, Transaction, Record], Awaitable[None]]

HANDLERS: Mapping[str, Handler] = {
    "training.runs": on_run,
    "models.commands": on_command,
    "serving.status": on_status,
}
