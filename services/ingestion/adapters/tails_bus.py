"""The end of a data topic, read through the bus."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from millrace.bus.events import Record
from millrace.bus.ports import Bus

from services.ingestion.handlers.messages import HEARTBEAT
from services.ingestion.ports import Tail

POLL_RECORDS = 5_000
POLL_WAIT_MS = 200
# Of each partition and wanted id, in the second look: one that has all ids and as many heartbeats is read far enough.
# Idle ones are heartbeats alone, one a second, and a start must not wait for a month of them.
SECOND_LOOK = 2


@dataclass(slots=True)
class _PartitionEnd:
    """What was read of one partition: ids with the time at which each was sent, and the last visible time."""

    first_ms: int
    ids: deque[tuple[int, str]] = field(default_factory=deque)
    visible_us: int = 0
    records: int = 0

    def take(self, record: Record) -> None:
        headers = dict(record.headers)
        visible = headers.get("visible_us", b"")
        if visible.isdigit():  # else it is no record of ours
            self.visible_us = max(self.visible_us, int(visible))
        if headers.get("ce_type") != HEARTBEAT.encode() and (event_id := headers.get("ce_id")):
            self.ids.append((record.timestamp_ms, event_id.decode(errors="replace")))
        self.records += 1


class BusTails:
    """Reads an equal share of each partition's end, and once more of it where newer ids may lie before that."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def read(self, topic: str, ids: int) -> Tail:
        """As Tails.read. What is newer is told by when it was sent: the visible time of events that come at one tick of
        the clock is the same, and in a partition it may be ahead."""
        share = -(-ids // max(1, len(await self._bus.partitions(topic))))
        ends = await self._ends(topic, share)
        newest = _newest(ends.values(), ids)
        if _may_be_newer(ends.values(), share, newest, ids):
            ends = await self._ends(topic, SECOND_LOOK * ids)
            newest = _newest(ends.values(), ids)
        return Tail({partition: end.visible_us for partition, end in ends.items()}, [one for _, one in newest])

    async def _ends(self, topic: str, share: int) -> Mapping[int, _PartitionEnd]:
        ends: dict[int, _PartitionEnd] = {}
        reader = self._bus.reader([topic])
        try:
            await reader.start()
            await reader.go_to_tail(share)
            while await reader.behind():
                for batch in await reader.poll(POLL_RECORDS, POLL_WAIT_MS):
                    for record in batch.records:
                        ends.setdefault(record.partition, _PartitionEnd(record.timestamp_ms)).take(record)
        finally:
            await reader.stop()
        return ends


def _newest(ends: Collection[_PartitionEnd], wanted: int) -> list[tuple[int, str]]:
    """The newest ids, oldest first: so many, and those that were sent in the same millisecond as the oldest."""
    merged = list(heapq.merge(*(end.ids for end in ends), key=_sent_ms))
    if len(merged) <= wanted:
        return merged
    since_ms = _sent_ms(merged[-wanted])
    return [one for one in merged if _sent_ms(one) >= since_ms]


def _may_be_newer(ends: Collection[_PartitionEnd], share: int, newest: list[tuple[int, str]], wanted: int) -> bool:
    """Whether a partition that was not read from its start can hold an id that belongs to the newest."""
    cut = [end for end in ends if end.records >= share]
    return bool(cut) and (len(newest) < wanted or any(end.first_ms >= _sent_ms(newest[0]) for end in cut))


def _sent_ms(one: tuple[int, str]) -> int:
    return one[0]
