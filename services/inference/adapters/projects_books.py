"""What is known of projects: the definitions and clocks that are followed, and a copy on disk for a cold start."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from millrace.definitions.model import Clock, Project
from millrace.runtime.clock import ClockBook
from millrace.runtime.definitions import Definition
from millrace.stores.files import write_whole

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ProjectFacts:
    """What serving needs of one definition."""

    version: int
    model: str
    replayed: bool
    request: Mapping[str, str] = field(default_factory=dict)


class BookProjects:
    """Projects over `clocks`, as the last `learn` left them."""

    def __init__(self, clocks: ClockBook, file: Path) -> None:
        self._clocks = clocks
        self._file = file
        self._facts: dict[str, ProjectFacts] = {}

    def restore(self) -> None:
        """What a former process knew."""
        try:
            kept = json.loads(self._file.read_text(encoding="utf-8"))
            self._facts = {name: ProjectFacts(**facts) for name, facts in kept.items()}
        except FileNotFoundError:
            return
        except (ValueError, TypeError, AttributeError) as error:
            log.error("%s cannot be read; definitions come from the topic again: %s", self._file, error)

    async def learn(self, name: str, definition: Definition | None) -> None:
        """A definition changed; None: the project is gone."""
        if definition is None:
            self._facts.pop(name, None)
        else:
            self._facts[name] = facts_of(definition)
        document = {project: asdict(facts) for project, facts in self._facts.items()}
        try:
            write_whole(self._file, json.dumps(document, indent=1).encode())
        except OSError as error:
            log.error("definitions are known but not kept for a cold start: %s", error)

    def versions(self) -> dict[str, int]:
        """Project -> version of the definition that runs here."""
        return {name: facts.version for name, facts in self._facts.items()}

    def is_replayed(self, project: str) -> bool:
        """As the port says."""
        facts = self._facts.get(project)
        return facts is not None and facts.replayed

    def model_of(self, project: str) -> str:
        """As the port says."""
        facts = self._facts.get(project)
        return facts.model if facts else ""

    def request_inputs(self, project: str) -> Mapping[str, str]:
        """As the port says."""
        facts = self._facts.get(project)
        return facts.request if facts else {}

    def now_us(self, project: str) -> int:
        """As the port says."""
        return self._clocks.now_us(project)


def facts_of(definition: Definition) -> ProjectFacts:
    """The facts of one definition."""
    project = definition.project
    return ProjectFacts(definition.version, project.model.name, project.clock is Clock.REPLAY, request_inputs(project))


def request_inputs(project: Project) -> dict[str, str]:
    """Input name -> column, for the inputs that repeat a request-time column of the event that asks."""
    views = {v.name for v in project.views if v.source == project.predict.source and v.entity == project.predict.entity}
    return {
        i.name: i.column
        for i in project.model.inputs
        if i.column in project.predict.request and i.view in views and not i.through
    }
