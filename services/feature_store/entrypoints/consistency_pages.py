"""The page of the consistency check: what online reads said, against history. Read only."""

from __future__ import annotations

import json
from pathlib import Path

from fastapi import APIRouter, FastAPI
from fastapi.requests import Request
from fastapi.responses import HTMLResponse
from millrace.web import pages

from services.feature_store.domain.consistency import BAD, Outcome
from services.feature_store.domain.values import Status
from services.feature_store.entrypoints.navigation import navigation
from services.feature_store.handlers.consistency_report import ConsistencyReports
from services.feature_store.ports import Example

TEMPLATES = Path(__file__).parent / "pages"
PATH = "/consistency"


class ConsistencyPages:
    """Mounted on the room's HTTP server."""

    def __init__(self, reports: ConsistencyReports, console: str) -> None:
        self._reports = reports
        self._pages = pages(TEMPLATES, "feature store", navigation(console))

    def mount(self, app: FastAPI) -> None:
        """Adds the routes, and the stylesheet unless another page of the room has it."""
        if not any(getattr(route, "name", "") == "millrace-static" for route in app.routes):
            self._pages.mount(app)
        router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)
        router.add_api_route(PATH, self._home)
        router.add_api_route(PATH + "/{project}", self._project)
        app.include_router(router)

    async def _home(self, request: Request) -> HTMLResponse:
        found = [(name, await self._reports.report(name)) for name in self._reports.projects]
        return self._pages.render(request, "consistency.html", found=found)

    async def _project(self, request: Request, project: str) -> HTMLResponse:
        report = await self._reports.report(project)
        examples = [{**_example(one), "at_us": one.as_of_us, "entity": one.entity} for one in report.examples]
        return self._pages.render(
            request,
            "consistency_project.html",
            project=project,
            report=report,
            rows=sorted(report.tallies, key=lambda t: (-sum(t.by_outcome.get(o, 0) for o in BAD), t.feature, t.day)),
            outcomes=list(Outcome),
            examples=examples,
        )


def _example(example: Example) -> dict[str, str]:
    said, old = (json.loads(text) for text in (example.online, example.offline))
    return {
        "feature": example.feature,
        "outcome": Outcome(example.outcome).name.lower(),
        "online": _cell_text(*said),
        "offline": _cell_text(*old),
    }


def _cell_text(value: float | str | None, status: int, age_us: int) -> str:
    name = Status(status).name
    age = "" if age_us < 0 else f", {age_us / 1e6:,.6g} s old"
    return f"{value!r}{age}" if status == Status.PRESENT else f"{name}{age}"
