"""`millrace features training-set`: a training set into a file, with progress and a verified digest."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from millrace.cli.errors import CliError
from millrace.cli.options import DEFAULT_HOME, AsJson, Home, Project, time_of

if TYPE_CHECKING:
    from rich.progress import Progress

    from millrace.client.features import TrainingSet

Out = Annotated[Path, typer.Option("--out", "-o", help="Parquet file to write.", show_default=False)]
Wanted = Annotated[
    list[str] | None,
    typer.Option("--features", help="Model inputs, comma-separated (may be repeated); default: all, in their order."),
]


def training_set(
    project: Project,
    out: Out,
    begin: Annotated[str, typer.Option("--from", help="First moment, ISO 8601 in UTC.")] = "",
    end: Annotated[str, typer.Option("--to", help="Moments before this one, ISO 8601 in UTC.")] = "",
    spine: Annotated[
        str,
        typer.Option(
            help="Rows of your own in place of labelled examples: a Parquet, Arrow, CSV or NDJSON file with columns"
            " entity, moment and any others; or the digest of one that was sent before."
        ),
    ] = "",
    features: Wanted = None,
    service: Annotated[
        str, typer.Option("--service", help="The features of a service, name@version or the newest.")
    ] = "",
    as_happened: Annotated[
        bool, typer.Option("--as-happened", help="Also what happened by then and was known only later.")
    ] = False,
    as_of: Annotated[str, typer.Option("--as-of", help="As known by this time; default: what is known now.")] = "",
    home: Home = DEFAULT_HOME,
    as_json: AsJson = False,
) -> None:
    """Build a training set and write it to a Parquet file: each row with the features known at its own moment.

    Examples:

      millrace features training-set sensors --from 2026-06-01 --to 2026-07-01 --out june.parquet

      millrace features training-set sensors --spine moments.csv --features readings.pressure --out mine.parquet
    """
    from millrace.cli.places import require_room
    from millrace.client.errors import CallFailed, ClientError

    if not spine and not (begin and end):
        raise CliError("which rows? --from and --to choose labelled examples by moment, --spine FILE brings its own")
    asked = {
        "begin": time_of(begin, "--from"),
        "end": time_of(end, "--to"),
        "as_of": time_of(as_of, "--as-of"),
        "spine": spine or None,
        "features": [name.strip() for part in features or [] for name in part.split(",") if name.strip()],
        "service": service,
        "as_happened": as_happened,
    }
    address = require_room(home, "feature_store").grpc
    try:
        facts = asyncio.run(_written(address, project, out, asked))
    except CallFailed as error:
        reason = str(error)
        if error.code == "FAILED_PRECONDITION":
            reason += " (`millrace features training-set --spine FILE` takes rows without labels)"
        raise CliError(reason) from error
    except ClientError as error:
        raise CliError(str(error)) from error
    _show(facts, out, as_json)


async def _written(address: str, project: str, out: Path, asked: dict[str, Any]) -> TrainingSet:
    import os

    from rich.progress import Progress

    from millrace.cli.output import console
    from millrace.client.features import Features

    screen = console(err=True)
    progress = Progress(console=screen, transient=True, disable=not screen.is_terminal)
    async with Features(address, project, token=os.environ.get("MILLRACE_TOKEN", "")) as features:
        with progress:
            work = progress.add_task("waiting for history", total=None)

            def told(done: int, total: int) -> None:
                progress.update(work, description="working out", completed=done, total=total)

            found = await features.training_set(**asked, on_progress=told)
            await _fetched(found, out, progress)
        return found


async def _fetched(found: TrainingSet, out: Path, progress: Progress) -> None:
    from millrace.client.frames import to_parquet

    work = progress.add_task("writing", total=found.rows)

    async def counted() -> Any:
        async for batch in found.batches():
            yield batch
            progress.advance(work, batch.num_rows)

    await to_parquet(counted(), out)


def _show(found: TrainingSet, out: Path, as_json: bool) -> None:
    from millrace.cli.output import emit_json, show_table

    facts = {
        "file": str(out),
        "rows": found.rows,
        "columns": len(found.columns),
        "digest": found.digest,
        "as_of_us": found.as_of_us,
        "definition_version": found.definition_version,
        "present": found.share_present,
    }
    if as_json:
        emit_json(facts)
        return
    typer.echo(f"{found.rows:,} rows of {len(found.columns)} columns in {out}")
    typer.echo(f"{found.digest}, verified")
    shares = [(name, f"{share:.1%}") for name, share in found.share_present.items()]
    show_table(("feature", "present"), shares, empty="no features")
