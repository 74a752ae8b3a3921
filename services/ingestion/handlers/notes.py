"""What this room notes of its sources beside their events: books of values, and days. Kept now and then."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Sequence

from millrace.definitions.model import DAY_US, Project

from services.ingestion.domain.daily import MAX_OPEN_DAYS, Day
from services.ingestion.handlers.lanes import Lane
from services.ingestion.handlers.references import ReferenceBooks
from services.ingestion.ports import DayRow, Profiles

KEPT_DAYS = 100_000  # more than are ever kept of a source
SAVED_EVERY_BEATS = 10  # of days: some KB per field and source. A kill loses at most what came since


class Notes:
    """Joins lanes and their notes. A definition is followed before its lanes take an event."""

    def __init__(self, profiles: Profiles, books: ReferenceBooks) -> None:
        self.books = books
        self._profiles = profiles
        self._lanes: dict[tuple[str, str], Lane] = {}  # whose days were read back
        self._beats = 0

    def open(self, secret: bytes) -> None:
        """`secret` is the key of fingerprints."""
        self.books.open(secret)

    async def follow(self, project: Project, lanes: Iterable[Lane]) -> None:
        """Lanes of a project under its newest definition. Raises StoreUnavailable: to be repeated."""
        await self.books.follow(project.name, project)
        known = self.books.of(project.name)
        current = {(project.name, lane.name): lane for lane in lanes}
        await self._leave([place for place in self._lanes if place[0] == project.name and place not in current])
        for place, lane in current.items():
            if place not in self._lanes:
                kept = await self._profiles.newest(*place, MAX_OPEN_DAYS)
                lane.watch.days.restore(map(Day.from_state, kept))
                self._lanes[place] = lane
            lane.watch.follow(lane.contract.source, known)

    async def leave(self, project: str) -> None:
        """A project that is gone: its days stay, its books do not."""
        await self._leave([place for place in self._lanes if place[0] == project])
        await self.books.follow(project, None)

    async def _leave(self, places: Sequence[tuple[str, str]]) -> None:
        await self._save_days([self._lanes[place] for place in places])
        for place in places:
            del self._lanes[place]

    async def save(self) -> None:
        """A beat: new values are kept at each, days at each tenth. Raises StoreUnavailable."""
        await self.books.save()
        self._beats += 1
        if self._beats % SAVED_EVERY_BEATS == 0:
            await self._save_days(self._lanes.values())

    async def close(self) -> None:
        """Keeps everything."""
        await self._save_days(self._lanes.values())
        await self.books.close()

    async def forget(self, project: str, texts: Collection[str]) -> int:
        """Days of the data docs that showed one of the texts, and show it no more. Raises StoreUnavailable."""
        forgot = 0
        for place, lane in self._lanes.items():
            if place[0] != project:
                continue
            lane.forget(texts)
            await self._save_days([lane])
            kept = [Day.from_state(state) for state in await self._profiles.newest(*place, KEPT_DAYS)]
            changed = [day for day in kept if day.forget(texts)]
            await self._profiles.save(*place, {day.start_us: day.to_state() for day in changed})
            forgot += len(changed)
        return forgot

    async def day(self, lane: Lane, start_us: int) -> Day | None:
        """A day of the lane's source, as far as it was seen; None where there is none."""
        found = lane.watch.day(start_us)
        if found is not None:
            return found
        kept = await self._profiles.load(lane.project, lane.name, start_us)
        return Day.from_state(kept) if kept else None

    async def days(self, lane: Lane, most: int) -> list[DayRow]:
        """The newest days, oldest first."""
        rows = {row.start_us: row for row in await self._profiles.summaries(lane.project, lane.name, most)}
        lane.watch.look()
        rows |= {day.start_us: summary(day) for day in lane.watch.days.open_days()}
        return [rows[start_us] for start_us in sorted(rows)][-most:]

    async def _save_days(self, lanes: Iterable[Lane]) -> None:
        for lane in list(lanes):
            lane.watch.look()
            changed = lane.watch.days.take_changed()
            if not changed:
                continue
            try:
                states = {day.start_us: day.to_state() for day in changed}
                await self._profiles.save(lane.project, lane.name, states)
            except BaseException:
                lane.watch.days.give_back(changed)
                raise
            await asyncio.sleep(0)


def summary(day: Day) -> DayRow:
    """A day in few words."""
    broken = sum(line.broken for line in day.windows)
    return DayRow(day.start_us, day.events, day.quarantined, day.null_share, broken)


def day_start_us(time_us: int) -> int:
    """The start of the day that holds a time."""
    return time_us // DAY_US * DAY_US
