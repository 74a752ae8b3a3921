"""Small drawings as inline SVG, coloured by the stylesheet (classes s0 … s5). All text is escaped.

A value that is None, NaN or infinite is a gap. Sizes are in CSS pixels.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeGuard

from markupsafe import Markup, escape

COLOURS = 6
Number = float | int | None
_LEFT, _RIGHT, _TOP, _BOTTOM = 48.0, 12.0, 12.0, 24.0  # room for the axes' texts


@dataclass(frozen=True, slots=True)
class Mark:
    """One event of a timeline or one vertical line of a chart, at `x`; `kind` becomes a CSS class."""

    x: float
    text: str
    kind: str = "note"
    lane: str = ""


@dataclass(frozen=True, slots=True)
class _Frame:
    """Maps data to pixels."""

    x0: float
    x1: float
    y0: float
    y1: float
    width: float
    height: float
    step: float = 1.0  # between the lines across

    def x(self, value: float) -> float:
        return _LEFT + (value - self.x0) / ((self.x1 - self.x0) or 1.0) * (self.width - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        return self.height - _BOTTOM - (value - self.y0) / ((self.y1 - self.y0) or 1.0) * (self.height - _TOP - _BOTTOM)


def sparkline(values: Sequence[Number], *, width: int = 120, height: int = 28, title: str = "") -> Markup:
    """A bare line of equally spaced values."""
    finite = [v for v in values if _is_finite(v)]
    if not finite:
        return _svg("sparkline", width, height, title, "")
    low, high = min(finite), max(finite)
    step = (width - 4) / max(len(values) - 1, 1)
    points = [(2 + i * step, height - 3 - (v - low) / ((high - low) or 1.0) * (height - 6) if _is_finite(v) else None)
              for i, v in enumerate(values)]  # fmt: skip
    return _svg("sparkline", width, height, title, _path(points, "line s0"))


def bars(pairs: Iterable[tuple[str, float]], *, width: int = 420, title: str = "") -> Markup:
    """Horizontal bars, one line of 22 px each: (name, value), values not below 0."""
    rows = [(name, value if _is_finite(value) else 0.0) for name, value in pairs]
    top = max((value for _, value in rows), default=0.0) or 1.0
    parts = []
    for i, (name, value) in enumerate(rows):
        length = max(value, 0.0) / top * (width - 230)
        parts.append(
            f'<text class="label" x="0" y="{i * 22 + 15}">{escape(name)}</text>'
            f'<rect class="bar s0" x="160" y="{i * 22 + 4}" width="{length:.1f}" height="14" rx="2"/>'
            f'<text class="value" x="{165 + length:.1f}" y="{i * 22 + 15}">{escape(_short(value))}</text>'
        )
    return _svg("bars", width, max(len(rows), 1) * 22, title, "".join(parts))


def line_chart(
    series: Mapping[str, Sequence[tuple[float, Number]]],
    *,
    width: int = 720,
    height: int = 240,
    title: str = "",
    x_is_time_us: bool = True,
    marks: Sequence[Mark] = (),
    steps: bool = False,
) -> Markup:
    """Named series of (x, y) with axes and a legend; x is microseconds or a plain number. `steps` holds each value."""
    frame = _frame(series, marks, width, height)
    if frame is None:
        return _svg(
            "chart", width, height, title, f'<text class="label" x="{_LEFT}" y="{height / 2}">no data yet</text>'
        )
    body = [_grid(frame, x_is_time_us), _vertical_marks(frame, marks)]
    for i, (name, values) in enumerate(series.items()):
        points: list[tuple[float, float | None]] = []
        for x, y in values:
            if steps and points:
                points.append((frame.x(x), points[-1][1]))
            points.append((frame.x(x), frame.y(y) if _is_finite(y) else None))
        body.append(_path(points, f"line s{i % COLOURS}"))
        body.append(
            f'<text class="legend s{i % COLOURS}" x="{_LEFT + 8 + i * 150}" y="{_TOP + 2}">{escape(name)}</text>'
        )
    return _svg("chart", width, height, title, "".join(body))


def histogram(
    edges: Sequence[float], counts: Sequence[int], *, width: int = 420, height: int = 150, title: str = ""
) -> Markup:
    """Counts between edges (one more than counts), as bars on a common ground; a bar's numbers are shown on hover."""
    if not counts or len(edges) != len(counts) + 1:
        return _svg("histogram", width, height, title, f'<text class="label" x="8" y="{height / 2}">no data yet</text>')
    ground, top = height - 22.0, max(counts) or 1
    step = (width - 16) / len(counts)
    parts = []
    for i, count in enumerate(counts):
        tall = count / top * (ground - 8)
        text = f"{_short(edges[i])} to {_short(edges[i + 1])}: {count:,}"
        parts.append(
            f'<rect class="bar s0" x="{8 + i * step:.1f}" y="{ground - tall:.1f}" width="{max(step - 1.5, 0.5):.1f}" '
            f'height="{tall:.1f}"><title>{escape(text)}</title></rect>'
        )
    for x, value, anchor in ((8, edges[0], "start"), (width - 8, edges[-1], "end")):
        parts.append(f'<text class="tick {anchor}" x="{x}" y="{height - 6}">{escape(_short(value))}</text>')
    return _svg("histogram", width, height, title, "".join(parts))


def timeline(marks: Sequence[Mark], *, width: int = 720, title: str = "", x_is_time_us: bool = True) -> Markup:
    """Events as dots in lanes of 30 px; a dot's text is shown on hover."""
    lanes = list(dict.fromkeys(mark.lane for mark in marks)) or [""]
    height = len(lanes) * 30 + _TOP + _BOTTOM
    if not marks:
        return _svg("timeline", width, height, title, f'<text class="label" x="8" y="{height / 2}">nothing yet</text>')
    low, high = min(m.x for m in marks), max(m.x for m in marks)
    frame = _Frame(low, high if high > low else low + 1, 0, 1, width, height)
    body = [_x_axis(frame, x_is_time_us)]
    for i, lane in enumerate(lanes):
        y = _TOP + i * 30 + 15
        body.append(f'<line class="grid" x1="{_LEFT}" x2="{width - _RIGHT}" y1="{y}" y2="{y}"/>')
        body.append(f'<text class="label" x="2" y="{y - 5}">{escape(lane)}</text>')
        body.extend(
            f'<circle class="dot {_word(m.kind)}" cx="{frame.x(m.x):.1f}" cy="{y}" r="5">'
            f"<title>{escape(_x_text(m.x, x_is_time_us))} {escape(m.text)}</title></circle>"
            for m in marks
            if m.lane == lane
        )
    return _svg("timeline", width, height, title, "".join(body))


def _svg(kind: str, width: float, height: float, title: str, body: str) -> Markup:
    label = f"<title>{escape(title)}</title>" if title else ""
    role = 'role="img"' if title else 'aria-hidden="true"'
    return Markup(
        f'<svg class="{kind}" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" '
        f'width="{width:g}" height="{height:g}" {role}>{label}{body}</svg>'
    )


def _frame(
    series: Mapping[str, Sequence[tuple[float, Number]]], marks: Sequence[Mark], width: int, height: int
) -> _Frame | None:
    xs = [x for values in series.values() for x, _ in values]
    ys = [float(y) for values in series.values() for _, y in values if y is not None and _is_finite(y)]
    if not ys:
        return None
    xs += [mark.x for mark in marks]
    step, y0, y1 = _scale(min(ys), max(ys))
    return _Frame(min(xs), max(xs), y0, y1, width, height, step)


def _scale(low: float, high: float) -> tuple[float, float, float]:
    """(step, first, last) of an axis that shows both: steps of 1, 2 or 5 times a power of ten, some four of them, and
    from zero where that is not far."""
    if low == high:
        low, high = (min(low, 0.0), max(high, 0.0)) if low else (0.0, 1.0)
    if 0 < low < 0.6 * high:
        low = 0.0
    rough = (high - low) / 4
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * n for n in (1, 2, 5, 10) if power * n >= rough * (1 - 1e-9))
    return step, math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step


def _grid(frame: _Frame, x_is_time_us: bool) -> str:
    parts = []
    for i in range(round((frame.y1 - frame.y0) / frame.step) + 1):
        value = round(frame.y0 / frame.step + i) * frame.step
        y = frame.y(value)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{frame.width - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="tick end" x="{_LEFT - 6}" y="{y + 4:.1f}">{_tick(value, frame.step)}</text>')
    return "".join(parts) + _x_axis(frame, x_is_time_us)


def _tick(value: float, step: float) -> str:
    """With as many digits as tell one line from the next."""
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    return f"{value:,.{decimals}f}" if decimals <= 6 and abs(value) < 1e9 else f"{value:.3g}"


def _x_axis(frame: _Frame, x_is_time_us: bool) -> str:
    parts = []
    for i in range(5):
        value = frame.x0 + (frame.x1 - frame.x0) * i / 4
        anchor = ("start", "middle", "middle", "middle", "end")[i]
        text = escape(_x_text(value, x_is_time_us))
        parts.append(f'<text class="tick {anchor}" x="{frame.x(value):.1f}" y="{frame.height - 6}">{text}</text>')
    return "".join(parts)


def _vertical_marks(frame: _Frame, marks: Sequence[Mark]) -> str:
    return "".join(
        f'<line class="mark {_word(m.kind)}" x1="{frame.x(m.x):.1f}" x2="{frame.x(m.x):.1f}" y1="{_TOP}" '
        f'y2="{frame.height - _BOTTOM}"><title>{escape(m.text)}</title></line>'
        for m in marks
    )


def _path(points: Sequence[tuple[float, float | None]], css: str) -> str:
    """A path that lifts the pen at gaps; a point alone between gaps is drawn as a dot by its round cap."""
    commands, is_down = [], False
    for x, y in points:
        if y is None:
            is_down = False
            continue
        commands.append(f"L{x:.1f} {y:.1f}" if is_down else f"M{x:.1f} {y:.1f}h0")
        is_down = True
    return f'<path class="{css}" d="{" ".join(commands)}"/>' if commands else ""


def _x_text(value: float, is_time_us: bool) -> str:
    return datetime.fromtimestamp(value / 1e6, UTC).strftime("%Y-%m-%d %H:%M") if is_time_us else _short(value)


def _short(value: float) -> str:
    return f"{int(value):,}" if float(value).is_integer() and abs(value) < 1e9 else f"{value:.3g}"


def _word(text: str) -> str:
    """A CSS class that cannot leave its attribute."""
    return "".join(c for c in text if c.isalnum() or c in "-_") or "note"


def _is_finite(value: Number) -> TypeGuard[float]:
    return value is not None and math.isfinite(value)
