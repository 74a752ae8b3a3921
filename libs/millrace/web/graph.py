"""Boxes in columns, linked from left to right, as inline SVG. All text is escaped; a box may lead somewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

WIDTH, HEIGHT = 190, 46  # of a box
_GAP_X, _GAP_Y, _MARGIN = 56, 12, 4
_LONGEST = 27  # characters of a line that fit; the whole text is shown on hover


@dataclass(frozen=True, slots=True)
class Box:
    """One box: `key` is unique in the drawing, `kind` becomes a CSS class."""

    key: str
    title: str
    subtitle: str = ""
    kind: str = ""
    href: str = ""


@dataclass(frozen=True, slots=True)
class Link:
    """From one box to another, by their keys; `kind` becomes a CSS class."""

    start: str
    end: str
    kind: str = ""


def columns(boxes: Sequence[Sequence[Box]], links: Sequence[Link], *, title: str) -> Markup:
    """The drawing; empty columns are left out, links to boxes that are not there too."""
    shown = [column for column in boxes if column]
    most = max((len(column) for column in shown), default=0)
    height = most * (HEIGHT + _GAP_Y) - _GAP_Y + 2 * _MARGIN if most else 2 * _MARGIN
    width = len(shown) * (WIDTH + _GAP_X) - _GAP_X + 2 * _MARGIN if shown else 2 * _MARGIN
    places: dict[str, tuple[float, float]] = {}
    for i, column in enumerate(shown):
        top = (height - len(column) * (HEIGHT + _GAP_Y) + _GAP_Y) / 2
        for j, box in enumerate(column):
            places[box.key] = (_MARGIN + i * (WIDTH + _GAP_X), top + j * (HEIGHT + _GAP_Y))
    lines = "".join(_line(link, places) for link in links if link.start in places and link.end in places)
    drawn = "".join(_box(box, *places[box.key]) for column in shown for box in column)
    size = f'viewBox="0 0 {width} {height:g}" width="{width}" height="{height:g}"'
    # A group, not an image: an image's parts could not be reached by keyboard.
    return Markup(
        f'<svg class="graph" xmlns="http://www.w3.org/2000/svg" {size} role="group" aria-label="{escape(title)}">'
        f"<title>{escape(title)}</title>{lines}{drawn}</svg>"
    )


def _line(link: Link, places: Mapping[str, tuple[float, float]]) -> str:
    (x0, y0), (x1, y1) = places[link.start], places[link.end]
    x0, y0, y1 = x0 + WIDTH, y0 + HEIGHT / 2, y1 + HEIGHT / 2
    middle = (x0 + x1) / 2
    curve = f"M{x0:g} {y0:g}C{middle:g} {y0:g} {middle:g} {y1:g} {x1:g} {y1:g}"
    return f'<path class="link {_word(link.kind)}" d="{curve}"/>'


def _box(box: Box, x: float, y: float) -> str:
    whole = f"{box.title}: {box.subtitle}" if box.subtitle else box.title
    body = (
        f'<g class="box {_word(box.kind)}"><title>{escape(whole)}</title>'
        f'<rect x="{x:g}" y="{y:g}" width="{WIDTH}" height="{HEIGHT}" rx="7"/>'
        f'<text class="name" x="{x + 10:g}" y="{y + 19:g}">{escape(_short(box.title))}</text>'
        f'<text class="fact" x="{x + 10:g}" y="{y + 36:g}">{escape(_short(box.subtitle))}</text></g>'
    )
    return f'<a href="{escape(box.href)}">{body}</a>' if box.href else body


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def _word(text: str) -> str:
    """A CSS class that cannot leave its attribute."""
    return "".join(c for c in text if c.isalnum() or c in "-_") or "plain"
