"""What one group of a process read of the log, the other groups of the process need not fetch and unpack again."""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Set
from contextlib import suppress
from dataclasses import dataclass

from millrace.bus.events import Batch, Record, TopicPartition

MOST_BYTES = 64 * 1024 * 1024  # some seven polls of the feature store: further apart its groups read for themselves
RECORD_BYTES = 2_048  # what a record takes in memory besides its payload: headers, key, and what is decoded of it
KEEP_S = 2.0  # who has not come by then is stuck, or far away: it reads for itself
LEADS_S = 0.5  # nobody waits for a group that has not moved for so long: its store may be slow, that of others is not


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
        self._chains: dict[TopicPartition, list[_Page]] = {}
        self._offered = asyncio.Event()
        self._bytes = 0

    @property
    def bytes(self) -> int:
        """What is held now."""
        return self._bytes

    def share(self, *, follows: bool = False) -> Share:
        """The part of one group, until it leaves. One that `follows` lets the others read first."""
        share = Share(self, follows=follows)
        self._shares.append(share)
        return share

    async def offered(self, timeout_s: float) -> None:
        """Returns when a page has come, at the latest after `timeout_s`."""
        self._offered.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._offered.wait()

    def is_about_to_be_read(self, by: Share, place: TopicPartition, offset: int) -> bool:
        """Whether another group than `by` will soon read on from `offset`."""
        return any(other.comes_by(place, offset) for other in self._shares if other is not by)

    def now_s(self) -> float:
        """By the clock that ages are counted with."""
        return self._now_s()

    def joins_by_s(self) -> float:
        """Until when it is waited for who begins to join now."""
        return self._now_s() + self._keep_s

    def offer(self, by: Share, batch: Batch, end: int) -> None:
        """Keep what `by` has read, if anybody may come for it and there is room. A chain that somebody follows is not
        given up for a page that does not continue it."""
        self.expire()
        place = (batch.topic, batch.partition)
        size = sum([len(record.data) for record in batch.records]) + RECORD_BYTES * len(batch.records)
        page = _Page(batch, end, size, self._now_s())
        chain = self._chains.get(place, [])
        if chain and chain[-1].next != page.first:
            return
        first = chain[0].first if chain else page.first
        wanted = any(other.may_come(place, first, batch.last_offset) for other in self._shares if other is not by)
        if wanted and self._bytes + size <= self._most_bytes:
            self._chains.setdefault(place, []).append(page)
            self._bytes += size
            self._offered.set()

    def at(self, place: TopicPartition, offset: int) -> list[_Page]:
        """The page that holds `offset`, and those that follow it; nothing where none does."""
        chain = self._chains.get(place, [])
        found = bisect_right(chain, offset, key=lambda page: page.first) - 1
        if found < 0 or offset >= chain[found].next or chain[found].read_s <= self._now_s() - self._keep_s:
            return []
        return chain[found:]

    def trim(self, places: Iterable[TopicPartition] | None = None) -> None:
        """Drop what nobody comes for any more, of these places or of all."""
        for place in list(self._chains if places is None else places):
            chain = self._chains.get(place, [])
            passed = 0
            for page in chain:
                if any(share.may_come(place, chain[0].first, page.batch.last_offset) for share in self._shares):
                    break
                passed += 1
            self._drop(place, passed)

    def expire(self) -> None:
        """Drop what is too old: who it was kept for reads for itself."""
        oldest_s = self._now_s() - self._keep_s
        for place, chain in list(self._chains.items()):
            if chain[0].read_s <= oldest_s:
                self._drop(place, len(chain))

    def remove(self, share: Share) -> None:
        """A group leaves: nothing is kept for it."""
        if share in self._shares:
            self._shares.remove(share)
            self.trim()

    def _drop(self, place: TopicPartition, pages: int) -> None:
        if pages:
            chain = self._chains[place]
            self._bytes -= sum(page.bytes for page in chain[:pages])
            del chain[:pages]
            if not chain:
                del self._chains[place]


class Share:
    """Where one group stands, and what others have read beyond that."""

    def __init__(self, pages: Pages, *, follows: bool) -> None:
        self._pages = pages
        self._follows = follows
        self._topics: frozenset[str] = frozenset()
        self._at: dict[TopicPartition, int] = {}
        self._moved_s = 0.0
        self._joins_by_s = 0.0

    def subscribes(self, topics: Iterable[str]) -> None:
        """The topics that the group reads; where it stands in them is not known before it has joined."""
        self._topics = frozenset(topics)
        self.dealt()

    def dealt(self) -> None:
        """The partitions are being dealt out anew."""
        self._at.clear()
        self._joins_by_s = self._pages.joins_by_s()
        self._pages.trim()

    def polls(self, assigned: Set[TopicPartition]) -> None:
        """The group asks for records of the partitions that its member here has: nobody waits for it in others."""
        self._pages.expire()
        if self._joins_by_s:
            self._joins_by_s = 0.0
            self._at = {place: at for place, at in self._at.items() if place in assigned}
            self._pages.trim()

    def goes(self, place: TopicPartition, offset: int) -> None:
        """The group reads on from `offset`."""
        self._at[place] = offset
        self._moved_s = self._pages.now_s()
        self._pages.trim([place])

    def read(self, batch: Batch, end: int) -> None:
        """The group has read a batch for itself."""
        place = (batch.topic, batch.partition)
        self._pages.offer(self, batch, end)
        self.goes(place, batch.last_offset + 1)

    def finds(self, place: TopicPartition, at_most: int) -> bool:
        """Whether what comes next is here. `at_most`: where the group's own consumer stands; where that has gone back,
        because the log was made anew, nothing is found."""
        at = self._at.get(place, -1)
        return 0 <= at <= at_most and bool(self._pages.at(place, at))

    def is_led(self, place: TopicPartition) -> bool:
        """Whether another group is about to read what comes next, or has just joined and may be; never where this one
        does not follow."""
        return self._follows and place in self._at and self._pages.is_about_to_be_read(self, place, self._at[place])

    def take(self, place: TopicPartition, most_records: int) -> tuple[Batch, int]:
        """What comes next of a place where something was found, and the end of the partition as it was known when that
        was read. A large page comes as the very batch that the other group had, small ones come together."""
        at = self._at[place]
        pages = self._pages.at(place, at)
        if not pages:
            raise LookupError(f"nothing is held of {place} at {at}")
        used, records = pages[0], _from(pages[0].batch.records, at)
        batch = used.batch if len(records) == len(used.batch.records) <= most_records else None
        for page in pages[1:]:
            if 2 * len(records) >= most_records:
                break
            used, batch = page, None
            records += page.batch.records
        if batch is None:
            batch = used.batch.with_records(records[:most_records])
        self.goes(place, batch.last_offset + 1)
        return batch, used.end

    def leave(self) -> None:
        """The group reads no more here."""
        self._pages.remove(self)

    def may_come(self, place: TopicPartition, first: int, last: int) -> bool:
        """Whether the group will get to `last` of a chain that begins at `first`."""
        return first <= self._at.get(place, -1) <= last or self._may_join(place)

    def comes_by(self, place: TopicPartition, offset: int) -> bool:
        """Whether the group will soon read on from `offset`: it stands there and has moved lately, or is joining, and
        does not itself wait for others."""
        moves = self._pages.now_s() - self._moved_s < LEADS_S
        stands = moves and self._at.get(place) == offset
        return not self._follows and (stands or self._may_join(place))

    def _may_join(self, place: TopicPartition) -> bool:
        return self._pages.now_s() < self._joins_by_s and place[0] in self._topics


def _from(records: tuple[Record, ...], offset: int) -> tuple[Record, ...]:
    first = bisect_left(records, offset, key=lambda record: record.offset)
    return records[first:] if first else records
