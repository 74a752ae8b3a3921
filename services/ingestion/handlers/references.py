"""The books of values that others refer to: opened when a rule asks for one, filled from the source's topic, kept."""

from __future__ import annotations

import asyncio
import logging

from millrace.bus.backoff import Backoff
from millrace.definitions.model import Project
from millrace.runtime.errors import RoomError

from services.ingestion.domain.known import KnownValues
from services.ingestion.handlers.watch import Known
from services.ingestion.ports import Place, References

log = logging.getLogger(__name__)


class ReferenceBooks:
    """Of every project. Until a book is filled, nothing that refers to it is judged."""

    def __init__(self, store: References, tail_records: int) -> None:
        self._store = store
        self._tail_records = tail_records
        self._secret = b""
        self._books: dict[Place, KnownValues] = {}
        self._fills: dict[Place, asyncio.Task[None]] = {}

    def open(self, secret: bytes) -> None:
        """`secret` is the key of the fingerprints."""
        self._secret = secret

    def of(self, project: str) -> Known:
        """(source, field) to its book."""
        return {place[1:]: book for place, book in self._books.items() if place[0] == project}

    def filling(self) -> list[str]:
        """`project/source.field` of the books that are still being filled."""
        return [f"{p}/{s}.{f}" for (p, s, f), task in self._fills.items() if not task.done()]

    async def follow(self, name: str, project: Project | None) -> None:
        """Opens the books that the definition asks for, forgets the others. Raises StoreUnavailable."""
        wanted = _places(name, project)
        for place in [place for place in self._books if place[0] == name and place not in wanted]:
            await self._close(place)
        await self._store.forget(name, wanted)
        for place in wanted - self._books.keys():
            values, is_whole = await self._store.load(place)
            book = KnownValues(self._secret)
            # The last records may have come after the last save: the tail is read again, whatever was kept.
            book.restore(values, False)
            self._books[place] = book
            records = self._tail_records if is_whole else 0
            self._fills[place] = asyncio.create_task(self._fill(place, book, records), name=f"fill {'/'.join(place)}")

    async def save(self) -> None:
        """Keeps what was added since. Raises StoreUnavailable, after which the next call keeps it."""
        for place, book in list(self._books.items()):
            unsaved = book.take_unsaved()
            if not unsaved:
                continue
            try:
                await self._store.add(place, unsaved, book.is_whole)
            except BaseException:
                book.give_back(unsaved)
                raise

    async def filled(self) -> None:
        """When every book that was opened is filled."""
        await asyncio.gather(*self._fills.values())

    async def close(self) -> None:
        """Ends what is being filled and keeps the rest."""
        for place in list(self._fills):
            await self._stop(place)
        await self.save()

    async def _fill(self, place: Place, book: KnownValues, records: int) -> None:
        backoff = Backoff()
        while not book.is_whole:
            try:
                async for column in self._store.column(place, records):
                    book.add(map(book.mark, set(column) - {None}))
                    await asyncio.sleep(0)
                unsaved = book.take_unsaved()
                try:
                    await self._store.add(place, unsaved, True)
                except BaseException:
                    book.give_back(unsaved)
                    raise
                book.is_whole = True
            except (RoomError, OSError) as error:
                log.warning("filling the book of %s has to wait: %s", "/".join(place), error)
                await backoff.wait()

    async def _close(self, place: Place) -> None:
        await self._stop(place)
        del self._books[place]

    async def _stop(self, place: Place) -> None:
        task = self._fills.pop(place, None)
        if task is not None:
            task.cancel()
            await asyncio.wait([task])


def _places(name: str, project: Project | None) -> set[Place]:
    fields = [field for source in project.sources for field in source.fields] if project else []
    return {(name, field.references.source, field.references.field) for field in fields if field.references}
