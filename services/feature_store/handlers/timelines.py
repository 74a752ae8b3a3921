"""Views over history, held as timelines within a bound of memory, or read in parts where they do not fit.

Held timelines are fed what came since: the census of a table says what is new, and tells by its counts when something
that is held was changed or taken away (a repeat that was merged, data that was forgotten); then all is read anew.
"""

from __future__ import annotations

import asyncio
import math
import zlib
from collections import OrderedDict
from dataclasses import dataclass, replace
from itertools import pairwise

from millrace.runtime.errors import Unavailable

from services.feature_store.domain.views import CompiledView
from services.feature_store.ports import Census, HistoryColumns, Question, Stretch, Table, TimelineShelf, Told

# Beyond every time that an event can carry: no bound.
FOREVER_US = 2**62
MIB = 1 << 20
# Measured (tests/unit/feature_store/test_bounded.py): what an event costs while it is sorted, beside its fields twice.
SORTING_BYTES_PER_EVENT = 220
FIELD_COPIES = 3
# Of the bound: what timelines may hold together; the rest is for the one that is being sorted, or for a part.
HELD_SHARE = 0.5
BUILD_SHARE = 0.25
PIECE_BYTES = 24 * MIB  # of history on its way from the store to a timeline


@dataclass(slots=True)
class _Resident:
    """A timeline that is held: what of the table it knows, and what it takes."""

    census: Census
    bytes: int


class Timelines:
    """Answers questions about views from history; `memory_mib` bounds what timelines take together."""

    def __init__(self, history: HistoryColumns, shelf: TimelineShelf, memory_mib: int) -> None:
        self._history = history
        self._shelf = shelf
        self._bound = memory_mib * MIB
        self._held: OrderedDict[str, _Resident] = OrderedDict()
        self._one_load = asyncio.Lock()  # two sorts at once would be two times the memory
        self._reads = 0
        self._parts = 0

    @property
    def held_bytes(self) -> int:
        """What timelines take now."""
        return sum(resident.bytes for resident in self._held.values())

    async def clear(self) -> None:
        """Lets go of everything that is held, at once: whoever takes data away from history need not wait."""
        async with self._one_load:
            for name in list(self._held):
                await self._forget(name)

    async def ready(self, table: Table, view: CompiledView) -> None:
        """Holds the view up to what the table has now, if it fits. Raises Unavailable, ExpressionError."""
        name = _name(table, view)
        async with self._one_load:
            census = await self._history.census(table)
            resident = self._held.get(name)
            try:
                if resident is not None and await self._refreshed(name, table, view, resident, census):
                    self._held.move_to_end(name)
                    return
                await self._forget(name)
                await self._load(name, table, view, census)
            except BaseException:
                # Half a timeline must not answer; if its process died, all that it held went with it.
                self._held.pop(name, None)
                raise

    async def read(self, table: Table, view: CompiledView, question: Question) -> Told:
        """The view's columns. From what `ready` held, else part by part. Raises Unavailable, ExpressionError."""
        name = _name(table, view)
        if name in self._held:
            try:
                return await self._shelf.read(name, question)
            except (KeyError, Unavailable):  # its process died: it is read in parts now, and held again next time
                for other in list(self._held):
                    await self._forget(other)
        async with self._one_load:
            return await self._in_parts(name, table, view, question)

    async def _refreshed(self, name: str, table: Table, view: CompiledView, old: _Resident, now: Census) -> bool:
        """Whether the timeline could be brought up to date by what came since."""
        known = old.census
        if now == known:
            return True
        try:
            return await self._caught_up(name, table, view, known, now)
        except Unavailable:  # its process died
            return False

    async def _caught_up(self, name: str, table: Table, view: CompiledView, known: Census, now: Census) -> bool:
        before = {partition: last for partition, (_, last) in known.partitions.items()}
        if now.retried != known.retried or not set(before) <= set(now.partitions):
            return False
        upto = {partition: last for partition, (_, last) in now.partitions.items()}
        after = {partition: before.get(partition, -1) for partition in upto}
        news = await self._history.timeline(table, sorted(view.fields), _stretch(view, upto, after))
        if known.rows + news.num_rows != now.rows:
            return False
        await self._shelf.add(name, view, news)
        held = await self._shelf.seal(name, view)
        # A repeat would count twice; and what has grown too large must be let go.
        if held.repeats or held.bytes > HELD_SHARE * self._bound:
            return False
        self._held[name] = _Resident(now, held.bytes)
        await self._make_room(name, 0)
        return True

    async def _load(self, name: str, table: Table, view: CompiledView, census: Census) -> None:
        upto = {partition: last for partition, (_, last) in census.partitions.items()}
        stretch = _stretch(view, upto, {})
        weight = await self._history.weigh(table, sorted(view.fields), stretch)
        cost = weight.rows * SORTING_BYTES_PER_EVENT + weight.bytes * FIELD_COPIES
        if cost > BUILD_SHARE * self._bound:
            return
        await self._make_room(name, cost)
        await self._feed(name, table, view, stretch, weight.bytes)
        held = await self._shelf.seal(name, view)
        self._held[name] = _Resident(census, held.bytes)
        await self._make_room(name, 0)

    async def _in_parts(self, name: str, table: Table, view: CompiledView, question: Question) -> Told:
        """As many parts, by entity, as it takes for each to fit; what is in none was never heard of."""
        census = await self._history.census(table)
        upto = {partition: last for partition, (_, last) in census.partitions.items()}
        lookback_us = view.lookback_us()
        moments = question.moment_us
        stretch = replace(
            _stretch(view, upto, {}),
            from_us=int(moments.min()) - lookback_us if lookback_us and len(moments) else -FOREVER_US,
            to_us=int(moments.max(initial=0)),
            visible_to_us=question.visible_to_us,
        )
        weight = await self._history.weigh(table, sorted(view.fields), stretch)
        cost = weight.rows * SORTING_BYTES_PER_EVENT + weight.bytes * FIELD_COPIES
        parts = max(1, math.ceil(cost / (BUILD_SHARE * self._bound)))
        whole: Told | None = None
        for part in range(parts):
            self._parts += 1
            passing = f"{name}/passing-{self._parts}"
            try:
                chosen = replace(stretch, part=(part, parts))
                await self._feed(passing, table, view, chosen, weight.bytes // parts)
                await self._shelf.seal(passing, view)
                told = await self._shelf.read(passing, question)
            finally:
                await self._shelf.drop(passing)
            whole = told if whole is None else whole.replaced(told.known, told)
        assert whole is not None
        return whole

    async def _feed(self, name: str, table: Table, view: CompiledView, stretch: Stretch, size_bytes: int) -> None:
        """History into a timeline, piece by piece: no more than one is on its way."""
        fields = sorted(view.fields)
        cuts = await self._history.cuts(table, stretch, math.ceil(size_bytes / PIECE_BYTES))
        edges = [stretch.from_us, *cuts, stretch.to_us]
        for from_us, to_us in pairwise(edges):
            piece = await self._history.timeline(table, fields, replace(stretch, from_us=from_us, to_us=to_us))
            await self._shelf.add(name, view, piece)

    async def _make_room(self, name: str, cost: float) -> None:
        """Lets go of what was not asked for longest, until `cost` more bytes fit."""
        while self.held_bytes + cost * HELD_SHARE > HELD_SHARE * self._bound:
            oldest = next((other for other in self._held if other != name), None)
            if oldest is None:
                return
            await self._forget(oldest)

    async def _forget(self, name: str) -> None:
        self._held.pop(name, None)
        await self._shelf.drop(name)


def _name(table: Table, view: CompiledView) -> str:
    # Of another definition a view of the same name and version may be another (a project that was made anew).
    return f"{table.name}/{view.id}/{zlib.crc32(repr(view.view).encode()):08x}"


def _stretch(view: CompiledView, upto: dict[int, int], after: dict[int, int]) -> Stretch:
    return Stretch(upto, after, -FOREVER_US, FOREVER_US, FOREVER_US, view.view.entity_fields)
