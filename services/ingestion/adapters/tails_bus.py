"""The end of a data topic, read through the bus."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from millrace.bus.events import Record
from millrace.bus.ports import Bus

from services.ingestion.handlers.messages import HEARTBEAT
from services.ingestion.ports import Tail

POLL_RECORDS = 5_000
POLL_WAIT_MS = 200
MAX_RECORDS_PER_ID = 10  # read for one wanted id at most: an idle partition is mostly heartbeats, one a second


@dataclass(slots=True)
class _End:
    """The end of one partition, as far as it was read."""

    ids: deque[tuple[int, str]]
    first_us: int = -1
    last_us: int = 0
    records: int = 0

    def take(self, record: Record) -> None:
        visible_us, event_id = _facts(record)
        self.first_us = visible_us if self.first_us < 0 else self.first_us
        self.last_us = max(self.last_us, visible_us)
        self.records += 1
        if event_id:
            self.ids.append((visible_us, event_id))


@dataclass(slots=True)
class _Ends:
    wanted: int
    share: int
    of: dict[int, _End] = field(default_factory=dict)

    def take(self, record: Record) -> None:
        end = self.of.get(record.partition)
        if end is None:
            end = self.of[record.partition] = _End(deque(maxlen=self.wanted))
        end.take(record)

    def newest(self) -> list[tuple[int, str]]:
        """(visible time, event id) of the newest events that were read, oldest first."""
        merged = heapq.merge(*(end.ids for end in self.of.values()), key=lambda pair: pair[0])
        return list(deque(merged, maxlen=self.wanted))

    def hides_newer(self, newest: list[tuple[int, str]]) -> bool:
        """Whether what was not read can hold a newer event than the oldest of `newest`, or one that is missing."""
        cut = [end for end in self.of.values() if end.records >= self.share]  # the others were read from their start
        return bool(cut) and (len(newest) < self.wanted or any(end.first_us > newest[0][0] for end in cut))


class BusTails:
    """Reads the end of each partition, further back until the newest ids are found."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def read(self, topic: str, ids: int) -> Tail:
        """As Tails.read. Reads at most ten records for each wanted id, shared out over the partitions."""
        partitions = max(1, len(await self._bus.partitions(topic)))
        share = -(-ids // partitions)
        while True:
            ends = await self._ends(topic, ids, share)
            newest = ends.newest()
            most = MAX_RECORDS_PER_ID * ids // partitions
            if share >= most or not ends.hides_newer(newest):
                return Tail(_last_us(ends.of), [event_id for _, event_id in newest])
            share = min(2 * share, most)

    async def _ends(self, topic: str, ids: int, share: int) -> _Ends:
        ends = _Ends(ids, share)
        reader = self._bus.reader([topic])
        try:
            await reader.start()
            await reader.go_to_tail(share)
            while await reader.behind():
                for batch in await reader.poll(POLL_RECORDS, POLL_WAIT_MS):
                    for record in batch.records:
                        ends.take(record)
        finally:
            await reader.stop()
        return ends


def _last_us(ends: Mapping[int, _End]) -> dict[int, int]:
    return {partition: end.last_us for partition, end in ends.items()}


def _facts(record: Record) -> tuple[int, str]:
    """(visible time, event id); no id for a heartbeat, 0 for a record that is not ours."""
    headers = dict(record.headers)
    visible = headers.get("visible_us", b"")
    event_id = (
        "" if headers.get("ce_type") == HEARTBEAT.encode() else headers.get("ce_id", b"").decode(errors="replace")
    )
    return (int(visible) if visible.isdigit() else 0), event_id
