"""Dropping a view: everything kept of one version goes, once nothing needs it any more.

What is deleted is found in the store itself, not remembered: a drop that was interrupted is simply repeated. A pass
that finds nothing ends it, so what a batch in flight wrote behind the first pass is found by the second.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass

from millrace.definitions.errors import did_you_mean
from millrace.definitions.lineage import users_of_view
from millrace.runtime.errors import Invalid, Unavailable

from services.feature_store.domain.lineage import needing
from services.feature_store.errors import StillWritten, UnknownView, ViewInUse
from services.feature_store.handlers.feeds import FeedBook
from services.feature_store.ports import ModelBook, OnlineKeys

log = logging.getLogger(__name__)
# The last pass finds nothing; one before it clears, one what came meanwhile. More means that somebody keeps writing.
PASSES = 4
_VIEW = re.compile(r"[a-z][a-z0-9_]*@[1-9][0-9]*")
Forget = Callable[[str, str], None]


@dataclass(frozen=True, slots=True)
class DropProgress:
    """Keys looked at in this pass, of how many; rows and positions of the view deleted so far."""

    scanned: int
    total: int
    deleted: int
    done: bool = False


class Drops:
    """Drops views; `forget` (project, view id) are those who remember something of one in memory."""

    def __init__(self, keys: OnlineKeys, feeds: FeedBook, models: ModelBook, forget: Sequence[Forget]) -> None:
        self._keys = keys
        self._feeds = feeds
        self._models = models
        self._forget = forget
        self._one_at_a_time = asyncio.Lock()

    async def drop(self, project: str, view_id: str, *, force: bool, actor: str) -> AsyncIterator[DropProgress]:
        """How far it is, and at last that it is done.

        Raises UnknownProject, UnknownView, ViewInUse, StillWritten, StoreUnavailable; Unavailable when the registry
        cannot be asked who needs the view (`force` does not ask).
        """
        if not _VIEW.fullmatch(view_id):
            raise Invalid(f"{view_id} is not name@version, such as orders@1")
        async with self._one_at_a_time:
            await self._check(project, view_id, force)
            log.info("dropping a view", extra={"project": project, "view": view_id, "actor": actor, "force": force})
            deleted = 0
            for _ in range(PASSES):
                before = deleted
                async for step in self._keys.walk(project):
                    mine = [kept.key for kept in step.found if kept.place.view_id == view_id]
                    deleted += await self._keys.delete(mine) if mine else 0
                    yield DropProgress(step.scanned, step.total, deleted)
                self._check_gone(project, view_id)
                if deleted == before:
                    for forget in self._forget:
                        forget(project, view_id)
                    log.info("a view is dropped", extra={"project": project, "view": view_id, "deleted": deleted})
                    yield DropProgress(step.scanned, step.total, deleted, done=True)
                    return
            raise StillWritten(f"rows of {view_id} come back: a replica still runs an older definition; drop it again")

    def _check_gone(self, project: str, view_id: str) -> None:
        """Raises ViewInUse while the definition that runs here has the view: it would be fed again at once."""
        declared = self._feeds.project(project).definition.project
        if any(f"{v.name}@{v.version}" == view_id for v in declared.views):
            users = users_of_view(declared, view_id)
            taken = f" (used by {', '.join(users)})" if users else ""
            raise ViewInUse(
                f"{view_id} is declared by {project}{taken}: take it out of the project file and apply that first"
            )

    async def _check(self, project: str, view_id: str, force: bool) -> None:
        self._check_gone(project, view_id)
        if force:
            return
        try:
            definitions = await self._models.definitions(project)
            names = sorted({d.model.name for d in definitions.values()})
            versions = await self._models.versions(project, names)
        except Unavailable as error:
            raise Unavailable(f"who needs {view_id} is not known (force drops it all the same): {error}") from error
        ever = {f"{v.name}@{v.version}" for d in definitions.values() for v in d.views}
        if view_id not in ever:
            hint = did_you_mean(view_id, sorted(ever))
            raise UnknownView(f"{project} never declared a view {view_id}" + (f" ({hint})" if hint else ""))
        if needed := needing(view_id, versions, definitions):
            raise ViewInUse(
                f"{view_id} is needed by {', '.join(map(str, needed))}: retire what serves;"
                " force drops it all the same, and those versions cannot be served again"
            )
