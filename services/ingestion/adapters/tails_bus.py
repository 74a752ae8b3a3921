"""The end of a data topic, read through the bus."""

from __future__ import annotations

from millrace.bus.events import Record
from millrace.bus.ports import Bus

from services.ingestion.handlers.messages import HEARTBEAT
from services.ingestion.ports import Tail

POLL_RECORDS = 5_000
POLL_WAIT_MS = 200


class BusTails:
    """Reads the last records of every partition."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def read(self, topic: str, records: int) -> Tail:
        """As Tails.read."""
        share = max(1, records // max(1, len(await self._bus.partitions(topic))))
        reader = self._bus.reader([topic])
        found: list[tuple[int, str]] = []
        last_us: dict[int, int] = {}
        try:
            await reader.start()
            await reader.go_to_tail(share)
            while await reader.behind():
                for batch in await reader.poll(POLL_RECORDS, POLL_WAIT_MS):
                    for record in batch.records:
                        visible_us, event_id = _facts(record)
                        last_us[record.partition] = max(last_us.get(record.partition, 0), visible_us)
                        if event_id:
                            found.append((visible_us, event_id))
        finally:
            await reader.stop()
        found.sort(key=lambda pair: pair[0])
        return Tail(last_us, [event_id for _, event_id in found])


def _facts(record: Record) -> tuple[int, str]:
    """(visible time, event id); no id for a heartbeat, 0 for a record that is not ours."""
    headers = dict(record.headers)
    visible = headers.get("visible_us", b"")
    event_id = (
        "" if headers.get("ce_type") == HEARTBEAT.encode() else headers.get("ce_id", b"").decode(errors="replace")
    )
    return (int(visible) if visible.isdigit() else 0), event_id
