"""The topics that every replica follows from the start."""

from __future__ import annotations

from millrace.bus.events import Record
from millrace.bus.follower import Follower
from millrace.bus.ports import Bus

from services.inference.handlers import HANDLERS
from services.inference.handlers.releases import Releases


def follower(bus: Bus, releases: Releases) -> Follower:
    """Reads every topic of the table and hands each record to its handler."""

    async def apply(record: Record) -> None:
        await HANDLERS[record.topic](record, releases)

    return Follower(bus, list(HANDLERS), apply)
