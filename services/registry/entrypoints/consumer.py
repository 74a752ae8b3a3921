"""Topics in: each record is handled once, in the transaction that remembers its position."""

from __future__ import annotations

from millrace.bus.effects import Effects
from millrace.bus.events import Batch

from services.registry.handlers import HANDLERS
from services.registry.handlers.desk import Desk


class Consumer:
    """The handler of a Worker: `group` names the inbox."""

    def __init__(self, desk: Desk, group: str) -> None:
        self._desk = desk
        self._group = group

    async def handle(self, batch: Batch, effects: Effects) -> None:
        """One transaction per record: a poisoned one is cut out alone."""
        handler = HANDLERS[batch.topic]
        for record in batch.records:
            place = (self._group, record.position_topic, record.partition, record.offset)
            async with self._desk.database.transaction() as transaction:
                if await transaction.seen(*place):
                    continue
                await handler(self._desk, transaction, record)
                await transaction.mark(*place)
