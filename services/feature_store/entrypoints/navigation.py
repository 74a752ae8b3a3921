"""The links that stand on every page of the room."""

from __future__ import annotations

PAGES = (
    ("Features", "/features"),
    ("Services", "/services"),
    ("Freshness and cost", "/freshness"),
    ("Online against history", "/consistency"),
)


def navigation(console: str) -> tuple[tuple[str, str], ...]:
    """With the console at host:port, where there is one."""
    return (*PAGES, ("Console", f"http://{console}/")) if console else PAGES
