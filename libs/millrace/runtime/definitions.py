"""Every room follows the topic `definitions` and runs the newest version of each project, with nothing restarted."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from millrace.definitions.model import Project
from millrace.runtime.book import TopicBook
from millrace.wire.registry.v1 import events_pb2

if TYPE_CHECKING:
    from millrace.bus.events import Record
    from millrace.bus.ports import Bus

log = logging.getLogger(__name__)
TOPIC = "definitions"
MAX_VERSIONS_KEPT = 64  # per project; a model pins its version, and 64 applies back nothing is loadable any more


@dataclass(frozen=True, slots=True)
class Definition:
    """One accepted version of a project file."""

    version: int
    digest: str
    project: Project


OnChange = Callable[[str, Definition | None], Awaitable[None]]


class DefinitionBook(TopicBook):
    """The projects as last published. A definition that cannot be read is shown in `problem` and changes nothing."""

    def __init__(self, bus: Bus) -> None:
        super().__init__(bus, TOPIC)
        self._projects: dict[str, Definition] = {}
        self._versions: dict[str, dict[int, Definition]] = {}
        self._listeners: list[OnChange] = []
        self._problems: dict[str, str] = {}

    @property
    def projects(self) -> Mapping[str, Definition]:
        """Project name to its newest definition."""
        return MappingProxyType(self._projects)

    @property
    def problem(self) -> str:
        """Definitions that could not be read; "" when all could."""
        return "; ".join(f"{name}: {why}" for name, why in self._problems.items())

    def on_change(self, listener: OnChange) -> None:
        """`listener(name, definition)` after each change, also for those read at start; None: the project is gone."""
        self._listeners.append(listener)

    def version(self, project: str, number: int) -> Definition | None:
        """A version seen since start; None when it never was."""
        return self._versions.get(project, {}).get(number)

    def versions(self) -> dict[str, int]:
        """Project name to the version that runs; what StatusBoard.definitions wants."""
        return {name: definition.version for name, definition in self._projects.items()}

    async def _apply(self, record: Record) -> None:
        name = (record.key or b"").decode()
        if not record.data:
            self._projects.pop(name, None)
            self._problems.pop(name, None)
            await self._tell(name, None)
            return
        definition = self._read(name, record.data)
        if definition is None:
            return
        current = self._projects.get(name)
        if current is not None and definition.version <= current.version:
            return
        self._projects[name] = definition
        try:
            await self._tell(name, definition)
        except Exception:
            self._forget(name, current)  # the follower brings the record again, and it must count as new then
            raise
        kept = self._versions.setdefault(name, {})
        kept[definition.version] = definition
        while len(kept) > MAX_VERSIONS_KEPT:
            del kept[min(kept)]

    def _forget(self, name: str, before: Definition | None) -> None:
        if before is None:
            del self._projects[name]
        else:
            self._projects[name] = before

    def _read(self, name: str, data: bytes) -> Definition | None:
        from millrace.definitions.canonical import from_canonical_json

        try:
            published = events_pb2.DefinitionPublished.FromString(data)
            project = from_canonical_json(published.canonical_json)
        except Exception as error:
            log.exception("definition of %s cannot be read; the running one stays", name)
            self._problems[name] = f"{type(error).__name__}: {error}"
            return None
        self._problems.pop(name, None)
        return Definition(published.version, published.digest, project)

    async def _tell(self, name: str, definition: Definition | None) -> None:
        for listener in self._listeners:
            await listener(name, definition)
