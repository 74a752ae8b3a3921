"""What one group of a process read of the log, the other groups of the process need not fetch and unpack again."""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterable, Set
from contextlib import suppress
from dataclasses import dataclass

from millrace.bus.events import Batch, Record, TopicPartition

MOST_BYTES = 32 * 1024 * 1024
RECORD_BYTES = 1_024  # what a record takes in memory besides its payload: headers and key, mostly
KEEP_S = 2.0  # who has not come by then is stuck, or far away: it reads for itself


@dataclass(frozen=True, slots=True)
class _Page:
    """Records that follow each other in the log, from `first` up to `next`."""

    batch: Batch
    end: int  # of the partition, as it was known then
    bytes: int
    read_s: float

    @property
    def first(self) -> int:
        return self.batch.records[0].offset

    @property
    def next(self) -> int:
        return self.batch.last_offset + 1


class Pages:
    """Pages of this process, per partition a chain without holes, each kept until every group has come past it, or for
    `keep_s`. Nobody depends on them: who finds none reads for itself. Records are shared, so nobody may change them."""

    def __init__(
        self, most_bytes: int = MOST_BYTES, keep_s: float = KEEP_S, now_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._most_bytes = most_bytes
        self._keep_s = keep_s
        self._now_s = now_s
        self._shares: list[Share] = []
        self._chains: dict[TopicPartition, deque[_Page]] = {}
        self._freed = asyncio.Event()
        self._bytes = 0

    @property
    def bytes(self) -> int:
        """What is held now."""
        return self._bytes

    def share(self) -> Share:
        """The part of one group, until it leaves."""
        share = Share(self)
        self._shares.append(share)
        return share

    def crowded(self) -> bool:
        """Whether more cannot be held now, and somebody is still to come for what is."""
        self._expire()
        return self._bytes >= self._most_bytes

    async def freed(self, timeout_s: float) -> None:
        """Returns when a page has gone, at the latest after `timeout_s`."""
        self._freed.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._freed.wait()

    def _leave(self, share: Share) -> None:
        if share in self._shares:
            self._shares.remove(share)
            self._trim(self._chains)

    def _offer(self, by: Share, batch: Batch, end: int) -> None:
        """Keep what `by` has read, if anybody may come for it."""
        self._expire()
        place = (batch.topic, batch.partition)
        size = sum([len(record.data) for record in batch.records]) + RECORD_BYTES * len(batch.records)
        page = _Page(batch, end, size, self._now_s())
        if self._at(place, page.first) is not None:
            return
        chain = self._chains.get(place)
        if chain and chain[-1].next != page.first:
            self._drop(place, len(chain))
            chain = None
        first = chain[0].first if chain else page.first
        if any(other.may_come(place, first, batch.last_offset) for other in self._shares if other is not by):
            self._chains.setdefault(place, deque()).append(page)
            self._bytes += page.bytes
            while self._bytes > self._most_bytes and place in self._chains:
                self._drop(place, 1)

    def _at(self, place: TopicPartition, offset: int) -> _Page | None:
        oldest_s = self._now_s() - self._keep_s
        pages = self._chains.get(place, ())
        return next((page for page in pages if page.first <= offset < page.next and page.read_s > oldest_s), None)

    def _trim(self, places: Iterable[TopicPartition]) -> None:
        """Drop what nobody comes for any more."""
        for place in [place for place in places if place in self._chains]:
            first, passed = self._chains[place][0].first, 0
            for page in self._chains[place]:
                if any(share.may_come(place, first, page.batch.last_offset) for share in self._shares):
                    break
                passed += 1
            self._drop(place, passed)

    def _expire(self) -> None:
        """Drop what is too old; who it was kept for is not waited for."""
        oldest_s = self._now_s() - self._keep_s
        for place in list(self._chains):
            chain = self._chains[place]
            if chain[0].read_s <= oldest_s:
                for share in self._shares:
                    share.lapse(place, chain[0].first, chain[0].batch.last_offset)
                self._drop(place, len(chain))

    def _drop(self, place: TopicPartition, pages: int) -> None:
        chain = self._chains.get(place)
        if chain is None or not pages:
            return
        for _ in range(pages):
            self._bytes -= chain.popleft().bytes
        if not chain:
            del self._chains[place]
        self._freed.set()


class Share:
    """Where one group stands, and what others have read beyond that."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages
        self._topics: frozenset[str] = frozenset()
        self._at: dict[TopicPartition, int] = {}
        self._joining = False

    def subscribes(self, topics: Iterable[str]) -> None:
        """The topics that the group reads; where it stands in them is not known before it has joined."""
        self._topics = frozenset(topics)
        self.dealt()

    def dealt(self) -> None:
        """The partitions are being dealt out anew."""
        self._at.clear()
        self._joining = True
        self._pages._trim(self._pages._chains)

    def joined(self, assigned: Set[TopicPartition]) -> None:
        """The partitions of the group's member here: nobody waits for it in others."""
        if self._joining:
            self._joining = False
            self._at = {place: at for place, at in self._at.items() if place in assigned}
            self._pages._trim(self._pages._chains)

    def goes(self, place: TopicPartition, offset: int) -> None:
        """The group reads on from `offset`."""
        self._at[place] = offset
        self._pages._trim([place])

    def read(self, batch: Batch, end: int) -> None:
        """The group has read a batch for itself."""
        self._at[batch.topic, batch.partition] = batch.last_offset + 1
        self._pages._offer(self, batch, end)
        self._pages._trim([(batch.topic, batch.partition)])

    def finds(self, place: TopicPartition) -> bool:
        """Whether what comes next is here."""
        at = self._at.get(place)
        return at is not None and self._pages._at(place, at) is not None

    def take(self, place: TopicPartition, most_records: int) -> tuple[Batch, int]:
        """What comes next of a place where something was found, and the end of the partition as it was known when that
        was read. A large page comes as the very batch that the other group had, small ones come together."""
        pages = self._pages
        at = self._at[place]
        page = pages._at(place, at)
        if page is None:
            raise LookupError(f"nothing is held of {place} at {at}")
        records = _from(page.batch.records, at)
        batch = page.batch if len(records) == len(page.batch.records) <= most_records else None
        while 2 * len(records) < most_records and (page_after := pages._at(place, records[-1].offset + 1)):
            page, batch = page_after, None
            records += page.batch.records
        if batch is None:
            batch = page.batch.with_records(records[:most_records])
        self.goes(place, batch.last_offset + 1)
        return batch, page.end

    def leave(self) -> None:
        """The group reads no more here."""
        self._pages._leave(self)

    def may_come(self, place: TopicPartition, first: int, last: int) -> bool:
        """Whether the group will get to `last` of a chain that begins at `first` without a gap."""
        if self._joining:
            return place[0] in self._topics
        at = self._at.get(place)
        return at is not None and first <= at <= last

    def lapse(self, place: TopicPartition, first: int, last: int) -> None:
        """The group did not come in time."""
        if self.may_come(place, first, last):
            self._joining = False
            self._at.pop(place, None)


def _from(records: tuple[Record, ...], offset: int) -> tuple[Record, ...]:
    first = bisect_left(records, offset, key=lambda record: record.offset)
    return records[first:] if first else records
