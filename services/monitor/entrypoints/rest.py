"""HTTP/JSON: the same answers as gRPC and the console, for scripts. Times are microseconds UTC."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Query

from services.monitor.domain.causes import Link
from services.monitor.handlers import overview
from services.monitor.handlers.queries import Queries

MOST_ROWS = 1_000
Limit = Annotated[int, Query(ge=1, le=MOST_ROWS)]


def router(queries: Queries) -> APIRouter:
    """All routes below /api."""
    api = APIRouter(prefix="/api")

    @api.get("/fleet")
    async def fleet() -> dict[str, Any]:
        """Rooms with health, rate and lag; serving versions; live figures; each project's clock."""
        rooms = [overview.room_json(view) for view in await queries.rooms()]
        models = await overview.model_rows(queries)
        fields = ("project", "model", "version", "role", "weight", "fallback", "since_us", "event_id")
        return {
            "rooms": rooms,
            "models": [{name: getattr(row, name) for name in fields} for row in models],
            "live": {model: asdict(live) for model, live in queries.live().items()},
            "clocks_us": {name: queries.now_us(name) for name in queries.projects()},
        }

    @api.get("/alerts")
    async def alerts(project: str = "", open_only: bool = False, limit: Limit = 100) -> list[dict[str, Any]]:
        """Newest first."""
        found = await queries.state.alerts(project, open_only=open_only, limit=limit)
        return [overview.alert_json(alert) for alert in found]

    @api.get("/performance")
    async def performance(project: str, window_us: Annotated[int, Query(ge=0)] = 0) -> list[dict[str, Any]]:
        """Per window, version and kind of answer; `window_us` 0 means seven days."""
        return [overview.cell_json(cell) for cell in await queries.performance(project, window_us)]

    @api.get("/why/{event_id}")
    async def why(event_id: str) -> dict[str, Any]:
        """The causal chain, newest first."""
        chain = await queries.why(event_id)
        return {"complete": chain.complete, "links": [link_json(link) for link in chain.links]}

    @api.get("/events")
    async def events(
        project: str = "", topic: str = "", before_us: Annotated[int, Query(ge=0)] = 0, limit: Limit = 100
    ) -> list[dict[str, Any]]:
        """Platform events, newest first; page on with the last row's `received_us` as `before_us`."""
        topics = [topic] if topic else []
        rows = await queries.index.recent(project=project, topics=topics, before_us=before_us, limit=limit)
        return [dict(row) for row in rows]

    return api


def link_json(link: Link) -> dict[str, Any]:
    """A link of a chain; fields that do not apply are left out."""
    names = (
        "event_id", "event_type", "topic", "source", "subject", "time_us", "summary", "causation_id", "actor",
        "project", "model", "version", "run_id", "snapshot_digest",
    )  # fmt: skip
    return {name: value for name in names if (value := getattr(link, name))}
