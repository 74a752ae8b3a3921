"""Templates of a room on the common base layout."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.requests import Request
from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from millrace.definitions.model import format_duration
from millrace.web import csrf, svg

_HERE = Path(__file__).parent
STATIC = "/static/millrace"


class Pages:
    """Renders a room's templates; they extend `base.html` and fill its blocks `title`, `content`.

    In a template: `csrf_field` inside each form, the drawing functions of `millrace.web.svg` under `svg`, and the
    filters `time` (microseconds to UTC text), `duration` and `age` (microseconds), `number`, `percent`.
    """

    def __init__(self, templates: Path, room: str, navigation: Sequence[tuple[str, str]] = ()) -> None:
        loader = FileSystemLoader([templates, _HERE / "templates"])
        self._environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
        self._environment.globals.update(room=room, svg=svg, static=STATIC)
        self._environment.filters.update(
            time=time_text, duration=duration_text, age=age_text, number=number_text, percent=percent_text
        )
        self._navigation = tuple(navigation)

    def mount(self, app: FastAPI) -> None:
        """Serves the stylesheet of the base layout."""
        app.mount(STATIC, StaticFiles(directory=_HERE / "static"), name="millrace-static")

    def render(self, request: Request, template: str, *, status_code: int = 200, **context: Any) -> HTMLResponse:
        """The page; it carries the CSRF cookie and a policy that lets nothing foreign in."""
        text = self._environment.get_template(template).render(
            request=request,
            path=request.url.path,
            navigation=self._navigation,
            csrf_token=csrf.token_of(request),
            csrf_field=csrf_field(request),
            **context,
        )
        response = HTMLResponse(text, status_code=status_code, headers=_SECURITY)
        csrf.remember(request, response)
        return response

    def fragment(self, template: str, **context: Any) -> str:
        """A template without request, for reports written to disk."""
        return self._environment.get_template(template).render(**context)


def pages(templates: Path, name: str, navigation: Sequence[tuple[str, str]] = ()) -> Pages:
    """The pages of room `name` below the folder `templates`; `navigation` is (text, path) pairs."""
    return Pages(templates, name, navigation)


def csrf_field(request: Request) -> Markup:
    """The hidden input of a form."""
    return Markup(f'<input type="hidden" name="{csrf.FIELD}" value="{escape(csrf.token_of(request))}">')


def time_text(time_us: int | None) -> str:
    """`2013-07-01 05:30:00` (UTC); an en dash for none."""
    if not time_us:
        return "–"
    return datetime.fromtimestamp(time_us / 1e6, UTC).strftime("%Y-%m-%d %H:%M:%S")


def duration_text(duration_us: int | None) -> str:
    """The shortest exact text, `3h`; an en dash for none."""
    return "–" if duration_us is None else format_duration(int(duration_us))


def age_text(age_us: float | None) -> str:
    """A duration in the largest unit of which it holds two, rounded: `90 s`, `3 h`; an en dash for none."""
    if age_us is None or age_us != age_us:
        return "–"
    units = (("d", 86_400_000_000), ("h", 3_600_000_000), ("m", 60_000_000))
    unit, size_us = next(((u, size) for u, size in units if age_us >= 2 * size), ("s", 1_000_000))
    return f"{age_us / size_us:,.0f} {unit}"


def number_text(value: float | None, digits: int = 3) -> str:
    """Whole numbers with separators, others with `digits` significant digits; an en dash for none or NaN."""
    if value is None or value != value:
        return "–"
    if float(value).is_integer() and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:.{digits}g}"


def percent_text(value: float | None, digits: int = 1) -> str:
    """`12.3 %` of 0.123; an en dash for none or NaN."""
    return "–" if value is None or value != value else f"{value * 100:.{digits}f} %"


_SECURITY = {
    "Content-Security-Policy": "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "frame-ancestors 'none'; form-action 'self'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
}
