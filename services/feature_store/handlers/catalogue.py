"""What people look for in features: what there is, where it comes from and goes to, what it is worth now."""

from __future__ import annotations

from dataclasses import dataclass

from millrace.definitions import catalogue
from millrace.definitions.errors import did_you_mean
from millrace.definitions.model import Project
from millrace.runtime.errors import NotFound, Unavailable

from services.feature_store.domain.lineage import ModelVersion, views_of
from services.feature_store.domain.profile import Profile
from services.feature_store.errors import UnknownView
from services.feature_store.handlers.feeds import FeedBook
from services.feature_store.handlers.reads import Answer, OnlineReads
from services.feature_store.handlers.statistics import FeatureStatistics, Survey, ViewProfile
from services.feature_store.ports import ModelBook


@dataclass(frozen=True, slots=True)
class Readers:
    """Versions of models that read a view, the newest first; `problem` says why they are not known."""

    versions: tuple[ModelVersion, ...] = ()
    problem: str = ""


class Catalogue:
    """Answers the pages."""

    def __init__(
        self, feeds: FeedBook, models: ModelBook, statistics: FeatureStatistics, reads: OnlineReads, keep_s: float
    ) -> None:
        self._feeds = feeds
        self._models = models
        self._statistics = statistics
        self._reads = reads
        self._keep_s = keep_s

    def projects(self) -> list[Project]:
        """All of them, by name."""
        return [feed.definition.project for _, feed in sorted(self._feeds.projects.items())]

    def search(self, project: Project, text: str) -> list[catalogue.Entry]:
        """The project's features that have every word of `text` in them."""
        return catalogue.search(catalogue.entries(project), text)

    def find(self, project: str, feature: str) -> tuple[Project, catalogue.Entry]:
        """One feature by its name. Raises UnknownProject, UnknownView."""
        declared = self._feeds.project(project).definition.project
        found = {entry.feature: entry for entry in catalogue.entries(declared)}
        if feature not in found:
            hint = did_you_mean(feature, list(found))
            raise UnknownView(f"{project} has no feature {feature}" + (f" ({hint})" if hint else ""))
        return declared, found[feature]

    async def readers(self, project: Project, view_id: str) -> Readers:
        """Which model versions read the view, as the registry knows it."""
        try:
            definitions = await self._models.definitions(project.name)
            names = sorted({d.model.name for d in definitions.values()})
            versions = await self._models.versions(project.name, names)
        except (Unavailable, NotFound) as error:
            return Readers(problem=str(error))
        return Readers(tuple(v for v in versions if view_id in views_of(v, definitions)))

    async def survey(self, project: str) -> Survey:
        """Statistics of all views. Raises UnknownProject, StoreUnavailable."""
        return await self._statistics.survey(project, self._keep_s)

    async def profile(self, project: str, entry: catalogue.Entry) -> tuple[ViewProfile, Profile] | None:
        """Statistics of one feature; None while its view is not fed yet."""
        for view in (await self.survey(project)).views:
            if view.view.id == entry.view_id:
                return view, next(column for column in view.columns if column.name == entry.column)
        return None

    async def value(self, project: str, entry: catalogue.Entry, key: str) -> Answer:
        """The feature's value now, by the key of its own entity."""
        name = f"{entry.view_id}.{entry.column}"
        return await self._reads.read(project, [key], (name,), 0, 0.0, by=entry.view.entity)
