"""The console: one page that shows the loop, who serves, what is wrong and what was done about it; a page per event."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Form
from fastapi.requests import Request
from fastapi.responses import HTMLResponse, RedirectResponse
from fastapi.staticfiles import StaticFiles
from millrace.runtime import auth
from millrace.runtime.errors import NotFound
from millrace.web import guard, pages, svg

from services.monitor.adapters.state_sql import SqlState
from services.monitor.domain import causes
from services.monitor.entrypoints.picture import health, loop_picture
from services.monitor.errors import CommandRefused
from services.monitor.handlers import messages, overview
from services.monitor.handlers.queries import Queries

HERE = Path(__file__).parent / "pages"
NAVIGATION = (("Console", "/"), ("Events", "/events"), ("Reports", "/reports"))
# Pages of other rooms that the console leads to: (text, path).
PAGES = {"feature_store": (("features", "/features"),), "registry": (("models", "/models"),)}
EVENTS_PER_PAGE = 100
ALERTS_SHOWN = 30
# Reports are Evidently's own pages with their scripts inside: they run, but as nobody, in a frame of their own.
REPORT_POLICY = "sandbox allow-scripts; default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; " \
    "img-src data:; font-src data:"  # fmt: skip


class Console:
    """Renders; the queries answer."""

    def __init__(self, queries: Queries, state: SqlState, reports: Path, refresh_s: float, wall_us: Any) -> None:
        self._queries = queries
        self._state = state
        self._reports = reports
        self._refresh_ms = int(refresh_s * 1000)
        self._wall_us = wall_us
        self._pages = pages(HERE, "monitor", NAVIGATION)

    def mount(self, app: FastAPI) -> None:
        """Adds every route."""
        self._pages.mount(app)
        app.mount("/static/monitor", StaticFiles(directory=HERE / "static"), name="monitor-static")
        app.include_router(self._router())

    def _router(self) -> APIRouter:
        routes = APIRouter(include_in_schema=False)
        routes.add_api_route("/", self.home, response_class=HTMLResponse)
        routes.add_api_route("/fragments/{name}", self.fragment, response_class=HTMLResponse)
        routes.add_api_route("/events", self.events, response_class=HTMLResponse)
        routes.add_api_route("/why/{event_id:path}", self.why, response_class=HTMLResponse)
        routes.add_api_route("/reports", self.reports, response_class=HTMLResponse)
        routes.add_api_route("/reports/{file}", self.report, response_class=HTMLResponse)
        routes.add_api_route("/rollback", self.rollback, methods=["POST"], dependencies=[Depends(guard)])
        return routes

    async def home(self, request: Request) -> HTMLResponse:
        """The first page; its parts refresh themselves."""
        parts = {name: await gather() for name, gather in self._parts().items()}
        context: dict[str, Any] = {}
        for part in parts.values():
            context.update(part)
        return self._pages.render(request, "console.html", refresh_ms=self._refresh_ms, parts=list(parts), **context)

    async def fragment(self, request: Request, name: str) -> HTMLResponse:
        """One part of the first page."""
        gather = self._parts().get(name)
        if gather is None:
            raise NotFound(f"no part {name}")
        return self._pages.render(request, f"part_{name}.html", **await gather())

    async def events(self, request: Request, before_us: int = 0, topic: str = "") -> HTMLResponse:
        """Platform events, newest first."""
        rows = await self._queries.index.recent(
            topics=[topic] if topic else [], before_us=before_us, limit=EVENTS_PER_PAGE
        )
        more = rows[-1]["received_us"] if len(rows) == EVENTS_PER_PAGE else 0
        return self._pages.render(request, "events.html", rows=rows, more=more, topic=topic)

    async def why(self, request: Request, event_id: str) -> HTMLResponse:
        """An event's chain of causes."""
        chain = await self._queries.why(event_id)
        return self._pages.render(
            request, "why.html", chain=chain, event_id=event_id, evidence=causes.EVIDENCE, snapshot=causes.SNAPSHOT
        )

    async def reports(self, request: Request) -> HTMLResponse:
        """Evidently's drift reports; they are shown and never act."""
        return self._pages.render(request, "reports.html", reports=await self._state.reports())

    async def report(self, file: str) -> HTMLResponse:
        """One report, as Evidently wrote it."""
        known = {row.file for row in await self._state.reports()}
        path = self._reports / file
        if file not in known or not path.is_file():
            raise NotFound(f"no report {file}")
        return HTMLResponse(
            await asyncio.to_thread(path.read_text, encoding="utf-8"),
            headers={"Content-Security-Policy": REPORT_POLICY},
        )

    async def rollback(
        self,
        project: Annotated[str, Form()],
        model: Annotated[str, Form()],
        version: Annotated[int, Form()],
        target: Annotated[int, Form()],
    ) -> RedirectResponse:
        """The button: asks the registry, as the person who pressed it."""
        identity = auth.require("operator")
        rows = await overview.model_rows(self._queries)
        known = [r for r in rows if (r.project, r.model, r.version) == (project, model, version)]
        if not known or known[0].rollback_to != target or not target:
            raise CommandRefused(f"{model} v{version} cannot be rolled back to v{target} now: load the page again")
        message = messages.rollback_by_hand(
            project, model, version, target, actor=identity.name, wall_us=self._wall_us()
        )
        await self._state.publish([message])
        return RedirectResponse("/", status_code=303)

    def _parts(self) -> dict[str, Any]:
        return {
            "loop": self._loop,
            "models": self._models,
            "alerts": self._alerts,
            "timeline": self._timeline,
            "performance": self._performance,
        }

    async def _loop(self) -> dict[str, Any]:
        rooms = await self._queries.rooms()
        clocks = {name: self._queries.now_us(name) for name in sorted(self._queries.projects())}
        troubled = [(v.room, list(v.status.reasons) if v.status else ["does not answer"]) for v in rooms]
        return {
            "picture": loop_picture(rooms),
            "data_docs": next((v.status.http_address for v in rooms if v.room == "ingestion" and v.status), ""),
            "clocks": clocks,
            "rooms": [(view, *health(view)) for view in rooms],
            "feature_store": next((v.status.http_address for v in rooms if v.room == "feature_store" and v.status), ""),
            "troubles": [(room, reasons) for room, reasons in troubled if reasons],
            "closer": [
                (text, f"http://{view.status.http_address}{path}")
                for view in rooms
                if view.status and view.status.http_address
                for text, path in PAGES.get(view.room, ())
            ],
        }

    async def _models(self) -> dict[str, Any]:
        rooms = {view.room: view.status for view in await self._queries.rooms()}
        registry = rooms.get("registry")
        return {
            "live": dict(self._queries.live()),
            "models": await overview.model_rows(self._queries),
            "registry": registry.http_address if registry else "",
        }

    async def _alerts(self) -> dict[str, Any]:
        found = await self._state.alerts(limit=ALERTS_SHOWN)
        tone = {"critical": "bad", "warning": "warn", "info": "note"}
        return {"alerts": sorted(found, key=lambda a: not a.is_open), "tone": tone}

    async def _timeline(self) -> dict[str, Any]:
        moments = await overview.timeline(self._queries)
        marks = [svg.Mark(m.at_us, m.text, m.kind, m.lane) for m in moments]
        return {"moments": list(reversed(moments))[:12], "drawing": svg.timeline(marks, width=1000, title="Timeline")}

    async def _performance(self) -> dict[str, Any]:
        moments = await overview.timeline(self._queries)
        lines = [m for m in moments if m.lane in ("releases", "rollbacks") and m.kind in ("good", "bad", "warn")]
        charts = []
        for project, metric, series in await overview.performance_charts(self._queries):
            marks = [svg.Mark(m.at_us, m.text, m.kind) for m in lines if m.project == project]
            drawing = svg.line_chart(series, width=1000, title=f"{metric} by week", marks=marks) if series else ""
            charts.append((project, metric, drawing))
        return {"charts": charts}
