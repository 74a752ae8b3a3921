"""What the monitor does with each topic. `HANDLERS` is the room's table of contents; decisions follow the clock."""

from collections.abc import Awaitable, Callable

from millrace.bus.effects import Effects
from millrace.bus.events import Batch

from services.monitor.handlers.records import PLATFORM
from services.monitor.handlers.sinks import Sinks

Handler = Callable[[Sinks, Batch, Effects], Awaitable[None]]

HANDLERS: dict[str, Handler] = {
    "predictions": Sinks.predictions,
    "labels": Sinks.labels,
    **dict.fromkeys(PLATFORM, Sinks.platform),
}
