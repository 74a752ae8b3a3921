"""`millrace replay`: recorded events drive a project's clock."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from millrace.cli.errors import CliError
from millrace.cli.options import DEFAULT_HOME, AsJson, Home, Project

if TYPE_CHECKING:
    from millrace.client.addresses import Addresses
    from millrace.client.playback import Outcome
    from millrace.client.replay import Pace, Progress

app = typer.Typer()


@app.command()
def replay(
    project: Project,
    file: Annotated[Path, typer.Argument(help="NDJSON, sorted by available_us.", show_default=False)],
    home: Home = DEFAULT_HOME,
    slice_width: Annotated[str, typer.Option("--slice", help="Event time per step.")] = "30m",
    barrier: Annotated[str, typer.Option("--barrier", help="Event time between rests.")] = "6h",
    free_running: Annotated[
        bool, typer.Option("--free-running", help="Never wait for the platform to come to rest.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Replay recorded events of a project with `clock: replay`, asking for predictions as their moments come.

    Each line is {"available_us": 1372640400000000, "source": "readings", "id": "r1", "data": {...}}.
    From the first release on, every example of the project is asked for. Exit status 1 when a request failed.
    A replay that was cut off goes on where the project's clock stands; what was sent already is not taken twice.

    Examples:

      millrace replay stations events.ndjson --slice 1h
    """
    import asyncio

    from millrace.cli.output import emit_json
    from millrace.client.errors import ClientError

    try:
        outcome = asyncio.run(_replay(home, project, file, _pace(slice_width, barrier), free_running))
    except ClientError as error:
        raise CliError(str(error)) from error
    facts = _facts(outcome)
    if as_json:
        emit_json(facts)
    else:
        typer.echo(", ".join(f"{name} {value}" for name, value in facts.items() if name != "failures"))
        for failure in outcome.failures[:10]:
            typer.echo(failure, err=True)
    if outcome.failures:
        raise typer.Exit(1)


async def _replay(home: Path, project: str, file: Path, pace: Pace, free_running: bool) -> Outcome:
    from millrace.cli.output import when
    from millrace.cli.remote import clock_us, definition
    from millrace.client.playback import Hooks, Playback
    from millrace.client.recording import read_recording

    bounds = _bounds(file)
    first_us = (bounds[0] - 1) // pace.slice_us * pace.slice_us
    end_us = -(-bounds[1] // pace.slice_us) * pace.slice_us
    addresses, running = _addresses(home), definition(home, project)
    # Down to its slice: what of a slice came before the clock is sent again, and known again by its id.
    start_us = min(max(first_us, clock_us(home, project) // pace.slice_us * pace.slice_us), end_us)
    if start_us > first_us:
        typer.echo(f"{project} has come to {when(start_us)}: the replay goes on from there", err=True)
    with _Bar(project, start_us, end_us) as bar:
        playback = Playback(
            addresses,
            running,
            read_recording(file),
            pace=pace,
            hooks=Hooks(on_progress=bar.show),
            free_running=free_running,
            token=os.environ.get("MILLRACE_TOKEN", ""),
        )
        return await playback.run(start_us, end_us)


def _addresses(home: Path) -> Addresses:
    """Where the rooms are, as for every other command; the environment may replace an address."""
    from millrace.cli.places import ROOMS, room
    from millrace.client.addresses import Addresses, RoomAddress

    places = [room(home, name) for name in ROOMS]
    return Addresses({place.name: RoomAddress(place.grpc, place.http, place.pid) for place in places if place.grpc})


def _bounds(file: Path) -> tuple[int, int]:
    """First and last availability. Raises BadRecording; CliError when the file holds no event."""
    from millrace.client.recording import read_recording

    if not file.is_file():
        raise CliError(f"no file {file}")
    first = last = None
    for event in read_recording(file):
        first, last = (event.available_us if first is None else first), event.available_us
    if first is None or last is None:
        raise CliError(f"{file} holds no event")
    return first, last


def _pace(slice_width: str, barrier: str) -> Pace:
    from millrace.client.replay import Pace
    from millrace.expressions.durations import parse_duration

    try:
        return Pace(parse_duration(slice_width), parse_duration(barrier))
    except ValueError as error:
        raise CliError(f"--slice {slice_width} --barrier {barrier}: {error}") from error


def _facts(outcome: Outcome) -> dict[str, Any]:
    progress = outcome.progress
    return {
        "events": progress.events,
        "accepted": progress.accepted,
        "duplicates": progress.duplicates,
        "quarantined": progress.quarantined,
        "predictions": outcome.asked,
        "failed": len(outcome.failures),
        "before_first_release": outcome.skipped,
        "failures": outcome.failures[:10],
    }


class _Bar:
    """A progress bar in event time."""

    def __init__(self, project: str, start_us: int, end_us: int) -> None:
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

        from millrace.cli.output import console

        columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
        self._progress = Progress(*columns, console=console(err=True))
        self._task = self._progress.add_task(project, total=end_us - start_us)
        self._start_us = start_us

    def __enter__(self) -> _Bar:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def show(self, progress: Progress) -> None:
        """One slice is done."""
        from millrace.cli.output import when

        text = f"{when(progress.now_us)}  {progress.events:,} events"
        self._progress.update(self._task, completed=progress.now_us - self._start_us, description=text)
