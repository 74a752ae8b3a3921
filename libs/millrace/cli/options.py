"""Options that many commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

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
