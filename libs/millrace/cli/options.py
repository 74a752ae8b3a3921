"""Options that many commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from millrace.cli.errors import CliError

DEFAULT_HOME = Path(".millrace")

Home = Annotated[
    Path,
    typer.Option("--home", envvar="MILLRACE_HOME", help="Folder of the running platform.", show_default=".millrace"),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]
Actor = Annotated[
    str, typer.Option("--actor", envvar=["MILLRACE_ACTOR", "USER"], help="Who is doing this; kept in the events.")
]
Project = Annotated[str, typer.Argument(help="Name of the project.", show_default=False)]
Limit = Annotated[int, typer.Option("--limit", "-n", min=1, max=1000, help="At most this many rows.")]
TimeoutSeconds = Annotated[float, typer.Option("--timeout", min=0.1, help="Seconds to wait at most.")]


def time_of(text: str, option: str) -> int:
    """Microseconds of ISO 8601 (UTC where no zone is named) or of a number of them; 0 for an empty text."""
    from datetime import UTC, datetime

    if not text:
        return 0
    if text.isdigit():
        return int(text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise CliError(f"{option} {text}: {error}") from error
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1_000_000)
