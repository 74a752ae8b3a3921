"""The HTML pages: models, what serves, versions and where each of them comes from. Read only."""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter, FastAPI
from fastapi.requests import Request
from fastapi.responses import HTMLResponse, RedirectResponse
from millrace.runtime.errors import RoomError
from millrace.web import pages
from millrace.wire.registry.v1.events_pb2 import ServingPlan, Variant
from millrace.wire.registry.v1.service_pb2 import GetVersionRequest, ListVersionsRequest

from services.registry.adapters.definitions_sql import read_project
from services.registry.domain.report import GateReport, read_report
from services.registry.errors import UnknownThing
from services.registry.handlers import definitions, models
from services.registry.handlers.desk import Desk

TEMPLATES = Path(__file__).parent / "pages"
PAGE = 50
TONES = {"champion": "good", "canary": "warn", "shadow": "warn", "rejected": "bad"}


class ModelPages:
    """Mounted on the room's HTTP server; the console links here."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._pages = pages(TEMPLATES, "registry", [("models", "/models")])

    def mount(self, app: FastAPI) -> None:
        """Adds the routes and the stylesheet."""
        self._pages.mount(app)
        router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)
        router.add_api_route("/", self._home)
        router.add_api_route("/models", self._models)
        router.add_api_route("/models/{project}/{model}", self._model)
        router.add_api_route("/models/{project}/{model}/{version}", self._version)
        app.include_router(router)

    async def _home(self) -> RedirectResponse:
        return RedirectResponse("/models")

    async def _models(self, request: Request) -> HTMLResponse:
        rows = []
        for published in await definitions.projects(self._desk):
            model = read_project(published.canonical_json).model
            plan = await self._plan(model.name)
            rows.append({"project": published.project, "version": published.version, "model": model, "plan": plan})
        return self._pages.render(request, "models.html", rows=rows)

    async def _model(self, request: Request, project: str, model: str, before: int = 0) -> HTMLResponse:
        asked = ListVersionsRequest(project=project, model=model, before_version=before, limit=PAGE)
        versions = await models.versions(self._desk, asked)
        plan = await self._plan(model)
        return self._pages.render(
            request,
            "model.html",
            project=project,
            model=model,
            plan=plan,
            versions=versions,
            roles={v.version: _role(v) for v in plan.variants} if plan else {},
            older=versions[-1].version if len(versions) == PAGE else 0,
            tones=TONES,
        )

    async def _version(self, request: Request, project: str, model: str, version: int) -> HTMLResponse:
        if version < 1:
            raise UnknownThing(f"model {model} has no version {version}")
        found = await models.lineage(self._desk, GetVersionRequest(project=project, model=model, version=version))
        report, trouble = await self._report(found.version.gate_report_digest)
        return self._pages.render(
            request,
            "version.html",
            found=found.version,
            events=list(found.events),
            metrics=sorted(found.version.metrics.items()),
            report=report,
            trouble=trouble,
            tones=TONES,
        )

    async def _report(self, digest: str) -> tuple[GateReport | None, str]:
        """What the gate asked, or why that cannot be shown; neither for a model that met no gate."""
        if not digest:
            return None, ""
        try:
            return read_report(await self._desk.objects.get(digest)), ""
        except (RoomError, ValueError) as error:
            return None, f"its report cannot be shown: {error}"

    async def _plan(self, model: str) -> ServingPlan | None:
        async with self._desk.database.read() as transaction:
            return await self._desk.releases(transaction).plan(model)


def _role(variant: Variant) -> str:
    """What a variant does, for people: `champion 80%`, `warm`, `shadow`."""
    name = "warm" if variant.fallback else Variant.Role.Name(variant.role).lower()
    return f"{name} {variant.weight:.0%}" if variant.weight else name
