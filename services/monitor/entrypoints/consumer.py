"""Inbound topics: one worker per sink, so that a slow one does not hold up the others."""

from __future__ import annotations

from millrace.bus.delays import Delays
from millrace.bus.effects import Effects
from millrace.bus.events import Batch
from millrace.bus.ports import Bus
from millrace.bus.worker import Worker

from services.monitor.handlers import HANDLERS
from services.monitor.handlers.records import PLATFORM
from services.monitor.handlers.sinks import Sinks

GROUPS: dict[str, tuple[str, ...]] = {
    "monitor.predictions": ("predictions",),
    "monitor.labels": ("labels",),
    "monitor.platform": tuple(PLATFORM),
}
# Rows that go to ClickHouse come in larger batches. On a replayed clock decisions rest on them, and a barrier hurries
# them; on the wall clock a decision waits 5 s for what is under way. Somebody may wait for a single platform event.
GATHER_MS = {"monitor.predictions": 500, "monitor.labels": 500, "monitor.platform": 50}

# Rows of the prediction log are keyed by prediction and stand by themselves: one that comes later is as one that was
# late. Labels and platform events say how far they are complete, so their order counts.
DELAYS = {"monitor.predictions": Delays()}


def workers(bus: Bus, sinks: Sinks, max_records: int) -> dict[str, Worker]:
    """Group name to its worker."""

    async def handle(batch: Batch, effects: Effects) -> None:
        await HANDLERS[batch.topic](sinks, batch, effects)

    return {
        group: Worker(
            bus,
            room="monitor",
            group=group,
            handle=handle,
            topics=topics,
            max_records=max_records,
            gather_ms=GATHER_MS[group],
            delays=DELAYS.get(group),
        )
        for group, topics in GROUPS.items()
    }
