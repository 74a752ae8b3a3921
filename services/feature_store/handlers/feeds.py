"""What the definitions ask of this room: which sources to consume, which views they feed, the plan of inputs."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from millrace.bus.ports import Bus
from millrace.bus.topics import data_topic, load_topics
from millrace.definitions.model import Project, Source
from millrace.definitions.semantics import view_types
from millrace.runtime.definitions import Definition
from millrace.runtime.forgotten import Forgotten

from services.feature_store.domain.inputs import InputsPlan, plan_inputs
from services.feature_store.domain.views import CompiledView
from services.feature_store.errors import UnknownProject
from services.feature_store.handlers.choices import Choice, choose
from services.feature_store.handlers.withholding import WithholdingReader
from services.feature_store.ports import Place, Reader, Table

# Plans kept per project: callers ask for the same few sets again and again.
MOST_PLANS = 256


@dataclass(frozen=True)
class SourceFeed:
    """One source that feeds views."""

    project: str
    source: Source
    reader: Reader
    views: tuple[CompiledView, ...]
    table: Table
    partitions: int
    _places: dict[str, tuple[Place, ...]] = field(default_factory=dict, compare=False, repr=False)

    @property
    def topic(self) -> str:
        """The topic of its checked events."""
        return data_topic(self.project, self.source.name)

    def place(self, view: CompiledView, label: str) -> Place:
        """Where a view's rows of one partition live."""
        return Place(self.project, self.source.name, label, view.id)

    def places(self, view: CompiledView) -> tuple[Place, ...]:
        """A view's places over all partitions."""
        if view.id not in self._places:
            self._places[view.id] = tuple(self.place(view, str(partition)) for partition in range(self.partitions))
        return self._places[view.id]


@dataclass(frozen=True)
class ProjectFeed:
    """One project under one definition version."""

    definition: Definition
    sources: Mapping[str, SourceFeed]
    plan: InputsPlan
    plans: dict[Choice, InputsPlan] = field(default_factory=dict, compare=False)  # of what was asked before

    def source_of(self, view: CompiledView) -> SourceFeed:
        """The source that feeds a view."""
        return self.sources[view.view.source]

    @property
    def views(self) -> dict[str, CompiledView]:
        """Every view that is fed, by id."""
        return {view.id: view for source in self.sources.values() for view in source.views}

    def plan_for(self, features: tuple[str, ...], service: str = "", by: str = "") -> InputsPlan:
        """The plan of what is asked for, of all inputs for nothing. Raises UnknownFeature, UnknownService."""
        if not service and not by and (not features or list(features) == self.plan.names):
            return self.plan
        choice = Choice(features, service, by)
        plan = self.plans.get(choice)
        if plan is None:
            plan = choose(choice, self.definition.project, self.views, self.plan)
            if len(self.plans) >= MOST_PLANS:
                self.plans.clear()
            self.plans[choice] = plan
        return plan


class FeedBook:
    """The feeds of all projects, as last defined."""

    def __init__(self, bus: Bus, reader_of: Callable[[Source], Reader], forgotten: Forgotten | None = None) -> None:
        self._bus = bus
        self._reader_of = reader_of
        self._forgotten = forgotten if forgotten is not None else Forgotten()
        self._projects: dict[str, ProjectFeed] = {}
        self._topics: dict[str, SourceFeed] = {}

    @property
    def projects(self) -> Mapping[str, ProjectFeed]:
        """By name."""
        return self._projects

    @property
    def topics(self) -> Mapping[str, SourceFeed]:
        """By topic, over all projects."""
        return self._topics

    def project(self, name: str) -> ProjectFeed:
        """Raises UnknownProject."""
        try:
            return self._projects[name]
        except KeyError:
            raise UnknownProject(f"no project {name} is known here") from None

    async def learn(self, name: str, definition: Definition | None) -> None:
        """Take up a project's definition (None: the project is gone). Raises BusUnavailable."""
        if definition is None:
            self._projects.pop(name, None)
        else:
            self._projects[name] = await self._compile(definition)
        self._topics = {feed.topic: feed for p in self._projects.values() for feed in p.sources.values()}

    async def _compile(self, definition: Definition) -> ProjectFeed:
        project = definition.project
        fed = [source for source in project.sources if project.views_of(source.name)]
        await self._bus.ensure_topics(load_topics().for_project(project.name, [source.name for source in fed]))
        lateness = {source.name: source.lateness_us for source in fed}
        views = {
            f"{v.name}@{v.version}": CompiledView(v, lateness[v.source], view_types(v, project.source(v.source)))
            for v in project.views
        }
        sources = {}
        for source in fed:
            partitions = len(await self._bus.partitions(data_topic(project.name, source.name)))
            own = tuple(view for view in views.values() if view.view.source == source.name)
            reader = WithholdingReader(self._reader_of(source), self._forgotten, project.name, source.name)
            sources[source.name] = SourceFeed(
                project.name, source, reader, own, history_table(project, source), partitions
            )
        newest = {view.name: views[f"{view.name}@{project.view(view.name).version}"] for view in project.views}
        return ProjectFeed(definition, sources, plan_inputs(project.model.inputs, newest))


def history_table(project: Project, source: Source) -> Table:
    """The history table of a source under its contract: another set of fields is another table."""
    fields = tuple((field.name, field.type.value) for field in source.fields)
    contract = hashlib.sha256(repr((project.name, source.name, fields)).encode()).hexdigest()[:12]
    readable = re.sub(r"[^a-z0-9]+", "_", f"{project.name}_{source.name}".lower())
    return Table(f"events_{readable}_{contract}", project.name, source.name, fields)
