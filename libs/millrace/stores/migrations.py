"""Migration files: `NNNN_name.sql`, run once each in the order of their names."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path


async def read_migrations(folder: Path | None) -> list[tuple[str, list[str]]]:
    """(file name, its statements) of every migration in `folder`, in order; nothing for None."""
    return await asyncio.to_thread(_read, folder) if folder else []


def statements(source: str) -> list[str]:
    """The statements of a script: `--` comments dropped, cut at semicolons that end a line."""
    lines = [re.sub(r"(^|\s)--.*$", "", line).rstrip() for line in source.splitlines()]
    return [part.strip() for part in re.split(r";[ \t]*(?:\n|$)", "\n".join(lines)) if part.strip()]


def _read(folder: Path) -> list[tuple[str, list[str]]]:
    paths = sorted(folder.glob("[0-9]*.sql"))
    return [(path.name, statements(path.read_text(encoding="utf-8"))) for path in paths]
