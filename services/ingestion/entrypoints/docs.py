"""The data docs as HTML: every source, and one source on one day. Read only."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.requests import Request
from fastapi.responses import HTMLResponse, RedirectResponse
from millrace.definitions.model import FieldType
from millrace.runtime.errors import Invalid
from millrace.web import pages, svg
from millrace.web.pages import number_text, time_text

from services.ingestion.domain.daily import QUANTILES, Day, Portrait
from services.ingestion.domain.expectations import FRESHNESS, NULL_SHARE, Finding
from services.ingestion.handlers.docs import DataDocs, SourceDocs, expectations_of

TEMPLATES = Path(__file__).parent / "pages"
DAYS_DRAWN = 30
COMMON_SHOWN = 8


class DocsPages:
    """Mounted on the room's HTTP server; the console links here."""

    def __init__(self, docs: DataDocs) -> None:
        self._docs = docs
        self._pages = pages(TEMPLATES, "ingestion", [("data docs", "/data")])

    def mount(self, app: FastAPI) -> None:
        """Adds the routes and the stylesheet."""
        self._pages.mount(app)
        routes = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)
        routes.add_api_route("/", self._home)
        routes.add_api_route("/data", self._sources)
        routes.add_api_route("/data/{project}/{source}", self._source)
        app.include_router(routes)

    async def _home(self) -> RedirectResponse:
        return RedirectResponse("/data")

    async def _sources(self, request: Request) -> HTMLResponse:
        rows = [_row(docs) for docs in await self._docs.all(DAYS_DRAWN)]
        return self._pages.render(request, "data.html", rows=rows)

    async def _source(self, request: Request, project: str, source: str, day: str = "") -> HTMLResponse:
        docs = await self._docs.source(project, source, read_day(day), DAYS_DRAWN)
        return self._pages.render(
            request,
            "source.html",
            docs=docs,
            day=docs.day,
            asked=day,
            date=date_text(docs.day.start_us) if docs.day else day,
            lines=_sparklines(docs),
            windows=_windows(docs.day),
            fields=[_field(field, docs) for field in docs.source.fields],
            findings=[(at_us, found.field, found.rule, told(found)) for at_us, found in _newest(docs.day)],
            standing=[(found, told(found)) for found in docs.findings],
            days=[(row, date_text(row.start_us)) for row in reversed(docs.days)],
        )


def read_day(text: str) -> int:
    """The start of `2013-07-01`, microseconds; 0 for an empty text. Raises Invalid."""
    if not text:
        return 0
    try:
        day = datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        raise Invalid(f"{text[:40]!r} is no day: write it as 2013-07-01") from None
    return int(day.timestamp()) * 1_000_000


def date_text(start_us: int) -> str:
    """The day that starts at `start_us`, as `2013-07-01`."""
    return time_text(start_us)[:10]


def told(found: Finding) -> str:
    """A finding in words."""
    example = f", for example {found.example}" if found.example else ""
    note = f" ({found.note})" if found.note else ""
    if found.rule == FRESHNESS:
        return f"{found.measured:,.0f} s without an event; {found.allowed:,.0f} s are allowed{note}"
    if found.rule == NULL_SHARE:
        return f"{found.measured:.1%} of {found.events:,} events; {found.allowed:.1%} are allowed{note}"
    return f"{found.measured:,.0f} of {found.events:,} values{example}{note}"


def _row(docs: SourceDocs) -> dict[str, Any]:
    newest = docs.days[-1] if docs.days else None
    volumes = svg.sparkline([row.events for row in docs.days], title="events a day") if newest else ""
    return {"docs": docs, "newest": newest, "volumes": volumes, "date": date_text(newest.start_us) if newest else "–"}


def _sparklines(docs: SourceDocs) -> list[tuple[str, Any, str]]:
    """(what, drawing, its newest value) over the days."""
    if not docs.days:
        return []
    last = docs.days[-1]
    refused = [row.quarantined / row.events if row.events else None for row in docs.days]
    series: list[tuple[str, list[float | None], str]] = [
        ("events a day", [row.events for row in docs.days], number_text(last.events)),
        ("refused", refused, f"{refused[-1] or 0:.2%}"),
        ("null values", [row.null_share for row in docs.days], f"{last.null_share:.2%}"),
        ("broken rules of windows", [row.broken for row in docs.days], number_text(last.broken)),
    ]
    return [(name, svg.sparkline(values, width=200, title=f"{name} by day"), text) for name, values, text in series]


def _windows(day: Day | None) -> Any:
    if day is None or not day.windows:
        return ""
    series = {
        "events": [(float(line.start_us), line.events) for line in day.windows],
        "refused": [(float(line.start_us), line.quarantined) for line in day.windows],
    }
    return svg.line_chart(series, height=200, title="events and refusals by window")


def _newest(day: Day | None) -> list[tuple[int, Finding]]:
    return list(reversed(day.findings)) if day else []


def _field(field: Any, docs: SourceDocs) -> dict[str, Any]:
    portrait = docs.day.fields.get(field.name) if docs.day else None
    broken = [(rule, b.events, b.example) for (name, rule), b in docs.day.broken.items() if name == field.name] \
        if docs.day else []  # fmt: skip
    return {
        "field": field,
        "expectations": expectations_of(field, docs.source),
        "portrait": portrait,
        "numbers": _numbers(field.type, portrait),
        "common": portrait.common.top()[:COMMON_SHOWN] if portrait else [],
        "broken": broken,
    }


def _numbers(kind: FieldType, portrait: Portrait | None) -> list[tuple[str, str]]:
    if portrait is None or not portrait.numbers:
        return []
    if kind is FieldType.TIMESTAMP:
        return [("first", time_text(int(portrait.low))), ("last", time_text(int(portrait.high)))]
    shares = [(f"{share:.0%}", value) for share, value in zip(QUANTILES, portrait.quantiles(), strict=True)]
    pairs = [("mean", portrait.mean), ("std", portrait.std), ("min", portrait.low), *shares, ("max", portrait.high)]
    return [(name, number_text(value, 4)) for name, value in pairs]
