"""The loop as one drawing: seven rooms with health, live rate and lag; arrows are topics, dashed ones gRPC."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from markupsafe import Markup, escape

from services.monitor.handlers.queries import RoomView

WIDTH, HEIGHT, BOX_WIDTH, BOX_HEIGHT = 1000, 410, 168, 88
_PLACES: dict[str, tuple[int, int]] = {
    "ingestion": (20, 70),
    "labeling": (280, 70),
    "feature_store": (540, 70),
    "trainer": (812, 70),
    "registry": (812, 270),
    "inference": (540, 270),
    "monitor": (220, 270),
}
# (path, text, x, y, anchor, dashed): drawn once, between the boxes above.
_ARROWS: tuple[tuple[str, str, int, int, str, bool], ...] = (
    ("M188 114H278", "data.*", 233, 106, "middle", False),
    ("M104 70C104 14 620 10 620 68", "data.*", 330, 22, "middle", False),
    ("M400 70C420 34 896 20 896 68", "labels", 740, 30, "middle", False),
    ("M708 114H810", "training sets", 759, 106, "middle", True),
    ("M910 158V268", "training.runs", 918, 240, "start", False),
    ("M812 314H710", "models.releases", 761, 306, "middle", False),
    ("M624 158V268", "features", 632, 218, "start", True),
    ("M540 314H390", "predictions", 465, 306, "middle", False),
    ("M340 158L312 268", "labels", 318, 218, "end", False),
    ("M304 358C304 404 896 404 896 360", "models.commands", 600, 388, "middle", False),
    ("M370 270C470 170 760 200 838 160", "training.requests", 510, 196, "end", False),
    ("M120 158C130 270 160 300 218 310", "data.violations", 118, 250, "end", False),
)


def loop_picture(rooms: Sequence[RoomView]) -> Markup:
    """An SVG of 1000 x 410."""
    by_name: Mapping[str, RoomView] = {view.room: view for view in rooms}
    arrows = "".join(_arrow(*arrow) for arrow in _ARROWS)
    boxes = "".join(_box(name, by_name.get(name)) for name in _PLACES)
    return Markup(
        f'<svg class="loop" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">'
        "<title>The loop: rooms and the topics between them</title>"
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0L8 4L0 8z"/></marker></defs>'
        f"{arrows}{boxes}</svg>"
    )


def health(view: RoomView | None) -> tuple[str, str]:
    """(colour, word) of a room."""
    if view is None:
        return "note", "no address"
    if view.status is None:
        return "bad", "does not answer"
    if not view.status.ready:
        return "bad", "not ready"
    return ("warn", "degraded") if view.status.reasons else ("good", "ready")


def _arrow(path: str, text: str, x: int, y: int, anchor: str, dashed: bool) -> str:
    kind = "arrow call" if dashed else "arrow"
    return (
        f'<path class="{kind}" d="{path}" marker-end="url(#tip)"/>'
        f'<text class="topic {anchor}" x="{x}" y="{y}">{escape(text)}</text>'
    )


def _box(name: str, view: RoomView | None) -> str:
    x, y = _PLACES[name]
    colour, word = health(view)
    status = view.status if view else None
    facts = f"{_short(view.rate)} /s · lag {_short(status.lag_records)}" if view and status else word
    reason = "; ".join(status.reasons) if status and status.reasons else word
    return (
        f'<g class="room-box" data-room="{name}"><title>{escape(f"{name}: {reason}")}</title>'
        f'<rect x="{x}" y="{y}" width="{BOX_WIDTH}" height="{BOX_HEIGHT}" rx="10"/>'
        f'<circle class="dot {colour}" cx="{x + 18}" cy="{y + 24}" r="6"/>'
        f'<text class="name" x="{x + 32}" y="{y + 29}">{escape(name.replace("_", " "))}</text>'
        f'<text class="fact" x="{x + 16}" y="{y + 54}">{escape(word)}</text>'
        f'<text class="fact strong" x="{x + 16}" y="{y + 74}">{escape(facts)}</text></g>'
    )


def _short(value: float) -> str:
    if value >= 10_000:
        return f"{value / 1000:.0f}k"
    return f"{value:,.0f}" if value >= 10 or float(value).is_integer() else f"{value:.1f}"
