"""The HTML pages: features with search, each one's lineage and statistics, services, freshness and cost. Read only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.requests import Request
from fastapi.responses import HTMLResponse, RedirectResponse
from fastapi.staticfiles import StaticFiles
from markupsafe import Markup
from millrace.definitions.catalogue import Entry
from millrace.definitions.lineage import model_pins
from millrace.runtime.errors import Unavailable
from millrace.web import pages, svg

from services.feature_store.domain.profile import SHARES, Profile
from services.feature_store.domain.values import Status
from services.feature_store.entrypoints.navigation import navigation
from services.feature_store.entrypoints.picture import TONES, lineage_picture
from services.feature_store.handlers.catalogue import Catalogue

HERE = Path(__file__).parent / "pages"
LONGEST_KEY = 500  # characters of a key that are looked up


class FeaturePages:
    """Mounted on the room's HTTP server; the console links here."""

    def __init__(self, catalogue: Catalogue, console: str) -> None:
        self._catalogue = catalogue
        self._pages = pages(HERE, "feature store", navigation(console))

    def mount(self, app: FastAPI) -> None:
        """Adds the routes and the stylesheets."""
        self._pages.mount(app)
        app.mount("/static/feature_store", StaticFiles(directory=HERE / "static"), name="feature-store-static")
        router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)
        router.add_api_route("/", self._home)
        router.add_api_route("/features", self._features)
        router.add_api_route("/features/{project}/{feature}", self._feature)
        router.add_api_route("/services", self._services)
        router.add_api_route("/freshness", self._freshness)
        app.include_router(router)

    async def _home(self) -> RedirectResponse:
        return RedirectResponse("/features")

    async def _features(self, request: Request, search: str = "") -> HTMLResponse:
        found = [(project, self._catalogue.search(project, search)) for project in self._catalogue.projects()]
        total = sum(len(view.columns) for project, _ in found for view in project.views)
        return self._pages.render(
            request,
            "features.html",
            found=[(project, entries) for project, entries in found if entries],
            shown=sum(len(entries) for _, entries in found),
            total=total,
            search=search,
        )

    async def _feature(self, request: Request, project: str, feature: str, key: str = "") -> HTMLResponse:
        declared, entry = self._catalogue.find(project, feature)
        readers = await self._catalogue.readers(declared, entry.view_id)
        return self._pages.render(
            request,
            "feature.html",
            project=declared,
            entry=entry,
            picture=lineage_picture(declared, entry, readers.versions),
            readers=readers,
            tones=TONES,
            key=key,
            value=await self._value(project, entry, key.strip()),
            **await self._statistics(project, entry),
        )

    async def _services(self, request: Request) -> HTMLResponse:
        projects = [(project, model_pins(project)) for project in self._catalogue.projects()]
        return self._pages.render(request, "services.html", projects=projects)

    async def _freshness(self, request: Request) -> HTMLResponse:
        rows: list[tuple[str, Any, str]] = []
        for project in self._catalogue.projects():
            try:
                rows.append((project.name, await self._catalogue.survey(project.name), ""))
            except Unavailable as error:
                rows.append((project.name, None, str(error)))
        return self._pages.render(request, "freshness.html", rows=rows)

    async def _value(self, project: str, entry: Entry, key: str) -> dict[str, Any] | None:
        if not key:
            return None
        if len(key) > LONGEST_KEY:
            return {"problem": f"a key has at most {LONGEST_KEY} characters here"}
        try:
            answer = await self._catalogue.value(project, entry, key)
        except Unavailable as error:
            return {"problem": str(error)}
        cells = answer.cells[0]
        status, age_us = Status(int(cells.status[0])), int(cells.age_us[0])
        shown = str(cells.values[0]) if status is Status.PRESENT else ""
        return {"problem": "", "status": status.name, "value": shown, "age_us": age_us}

    async def _statistics(self, project: str, entry: Entry) -> dict[str, Any]:
        nothing = {"view": None, "profile": None, "cost": None, "histogram": "", "statistics_problem": ""}
        try:
            found = await self._catalogue.profile(project, entry)
        except Unavailable as error:
            return {**nothing, "statistics_problem": str(error)}
        if found is None:
            return nothing
        view, profile = found
        cost = view.costs[view.columns.index(profile)]
        drawn = {"histogram": _drawing(profile), "shares": SHARES}
        return {**nothing, "view": view, "profile": profile, "cost": cost, **drawn}


def _drawing(profile: Profile) -> Markup | str:
    if profile.moments is not None:
        return svg.histogram(profile.moments.edges, profile.moments.counts, title=f"Values of {profile.name}")
    return svg.bars(profile.top, title=f"Most frequent values of {profile.name}") if profile.top else ""
