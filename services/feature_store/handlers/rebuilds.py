"""Views made anew on request: `millrace features rebuild`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

from millrace.runtime.errors import Precondition

from services.feature_store.errors import UnknownView
from services.feature_store.handlers.feeds import FeedBook
from services.feature_store.handlers.filler import Filler, labels
from services.feature_store.handlers.online import OnlineFeatures
from services.feature_store.handlers.progress import Progress


@dataclass(frozen=True, slots=True)
class FillProgress:
    """Events worked into online rows so far, of how many, and of which view now."""

    view: str
    events: int
    total: int


class Rebuilds:
    """Views made anew on request, while everything is served."""

    def __init__(self, filler: Filler, feeds: FeedBook, online: OnlineFeatures, progress: Progress) -> None:
        self._filler = filler
        self._feeds = feeds
        self._online = online
        self._progress = progress
        self._one_at_a_time = asyncio.Lock()

    async def rebuild(self, project: str, views: tuple[str, ...], *, keep: bool) -> AsyncIterator[FillProgress]:
        """The views (all for none) from history. With `keep` what an interrupted rebuild has made stays, else all of
        it is deleted first; what is not there yet reads as missing. Raises UnknownProject, UnknownView,
        StoreUnavailable."""
        feed = self._feeds.project(project)
        known = {view.id: (source, view) for source in feed.sources.values() for view in source.views}
        for wanted in views:
            if wanted not in known:
                raise UnknownView(f"{project} has no view {wanted}; it has {', '.join(sorted(known))}")
        chosen = {view_id: known[view_id] for view_id in views or known}
        if self._one_at_a_time.locked():
            raise Precondition("a rebuild is running already: wait until it is done")
        async with self._one_at_a_time:
            total = sum([await self._filler.events(source) for source, _ in chosen.values()])
            done = 0
            with self._online.without(project, frozenset(chosen)):
                if chosen and not keep:
                    await self._filler.clear(list(chosen.values()))
                    for view_id in chosen:
                        self._progress.forget(project, view_id)
                for view_id, (source, view) in chosen.items():
                    yield FillProgress(view_id, done, total)
                    for label in labels(source):
                        async for events in self._filler.parts(source, view, label):
                            done += events
                            yield FillProgress(view_id, done, total)
            self._online.rewind.set()
            yield FillProgress("", total, total)
