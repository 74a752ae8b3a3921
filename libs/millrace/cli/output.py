"""What a command prints: a table for people, JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import typer

PIPE_WIDTH = 240

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table


def console(*, err: bool = False) -> Console:
    """A rich console on stdout or stderr."""
    from rich.console import Console

    screen = Console(stderr=err, highlight=False)
    # A pipe or a log has no width: rows stay whole there, so that they can be searched.
    return screen if screen.is_terminal else Console(stderr=err, highlight=False, width=PIPE_WIDTH)


def emit_json(content: Any) -> None:
    """One JSON document on stdout."""
    typer.echo(json.dumps(content, indent=2, default=str))


def emit_json_line(content: Any) -> None:
    """One JSON object on one line, for streams."""
    typer.echo(json.dumps(content, default=str))


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]], *, title: str = "") -> Table:
    """A plain table; numbers are right-aligned."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    body = [list(row) for row in rows]
    grid = Table(box=box.SIMPLE_HEAD, title=title or None, title_justify="left", pad_edge=False)
    for index, name in enumerate(columns):
        numeric = bool(body) and all(isinstance(row[index], int | float) for row in body)
        grid.add_column(name, justify="right" if numeric else "left", overflow="fold")
    for row in body:
        # Text, not markup: a reason such as "[Errno 111]" must come out as it is.
        grid.add_row(*(cell if isinstance(cell, Text) else Text(_text(cell)) for cell in row))
    return grid


def show_table(columns: Sequence[str], rows: Iterable[Sequence[Any]], *, empty: str) -> None:
    """Prints the table, or `empty` when it has no rows."""
    body = list(rows)
    if body:
        console().print(table(columns, body))
    else:
        typer.echo(empty)


def mark(healthy: bool, good: str = "ok", bad: str = "not ready") -> Any:
    """A coloured word."""
    from rich.text import Text

    return Text(good, style="green") if healthy else Text(bad, style="bold red")


def when(time_us: int) -> str:
    """Microseconds UTC as text to the second; "" for 0."""
    if not time_us:
        return ""
    return datetime.fromtimestamp(time_us / 1_000_000, UTC).strftime("%Y-%m-%d %H:%M:%S")


def as_dict(message: Any) -> dict[str, Any]:
    """A protobuf message as a plain dict with the fields' own names; empty fields included."""
    from google.protobuf.json_format import MessageToDict

    content = MessageToDict(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
    numbers: dict[str, Any] = _numbers(message, content)
    return numbers


def _numbers(message: Any, content: dict[str, Any]) -> dict[str, Any]:
    """Protobuf's JSON writes 64-bit integers as text; ours are times and counts, and stay numbers."""
    for field in message.DESCRIPTOR.fields:
        value = content.get(field.name)
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            if field.message_type.fields_by_name["value"].cpp_type in (2, 4):
                content[field.name] = {key: int(entry) for key, entry in (value or {}).items()}
        elif field.message_type is not None:
            inner = getattr(message, field.name)
            if isinstance(value, list):
                content[field.name] = [_numbers(m, c) for m, c in zip(inner, value, strict=True)]
            elif isinstance(value, Mapping):
                content[field.name] = _numbers(inner, dict(value))
        elif field.cpp_type in (2, 4) and value is not None:
            content[field.name] = [int(v) for v in value] if isinstance(value, list) else int(value)
    return content


def _text(cell: Any) -> str:
    if isinstance(cell, float):
        return f"{cell:,.4g}" if abs(cell) < 1000 else f"{cell:,.0f}"
    if isinstance(cell, int) and not isinstance(cell, bool):
        return f"{cell:,}"
    return "" if cell is None else str(cell)
