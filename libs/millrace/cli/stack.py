"""`millrace up`, `down`, `status`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from millrace.cli.errors import CliError
from millrace.cli.options import DEFAULT_HOME, AsJson, Home, TimeoutSeconds

app = typer.Typer()


@app.command()
def up(
    home: Home = DEFAULT_HOME,
    detach: Annotated[
        bool, typer.Option("--detach", "-d", help="Return when all is ready and leave it running.")
    ] = False,
    room: Annotated[list[str] | None, typer.Option("--room", help="Start only this room (may be repeated).")] = None,
    processes: Annotated[
        list[str] | None,
        typer.Option("--processes", metavar="ROOM=N", help="Run a room in N processes that share its work."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Start Kafka, Valkey, ClickHouse and the seven rooms; show them live until Ctrl-C, which drains and stops all.

    MILLRACE_KAFKA_BOOTSTRAP, MILLRACE_REDIS_URL or MILLRACE_CLICKHOUSE_URL replace an embedded part by a running one.

    Examples:

      millrace up

      millrace up --detach --home .millrace/demo

      millrace up --processes feature_store=2

      millrace up --detach --json | jq -r .console
    """
    from millrace.cli import up as running
    from millrace.cli.output import emit_json
    from millrace.cli.places import ROOMS

    rooms = tuple(room or ROOMS)
    unknown = [name for name in rooms if name not in ROOMS]
    if unknown:
        raise CliError(f"no room is called {unknown[0]} (rooms: {', '.join(ROOMS)})")
    if as_json and not detach:
        raise CliError("--json says what was started and returns: give --detach with it")
    if not detach:
        running.foreground(home, rooms, _counts(processes or []))
        return
    pid = running.detached(home, rooms, _counts(processes or []))
    if as_json:
        emit_json(running.facts(home, pid))
    else:
        typer.echo(f"ready in {home.resolve()} (process {pid}); `millrace status`, `millrace down`")


def _counts(asked: Sequence[str]) -> dict[str, int]:
    counts = {}
    for text in asked:
        room, equals, number = text.partition("=")
        if not equals or not number.isdigit() or int(number) < 1:
            raise CliError(f"--processes {text}: give a room and a number, as in feature_store=2")
        counts[room] = int(number)
    return counts


@app.command()
def down(
    home: Home = DEFAULT_HOME,
    timeout: TimeoutSeconds = 90.0,
    force: Annotated[bool, typer.Option("--force", help="Kill what has not stopped in time.")] = False,
    as_json: AsJson = False,
) -> None:
    """Stop the platform of this home: rooms drain, then the parts stop. Data stays.

    Examples:

      millrace down

      millrace down --home .millrace/demo --force
    """
    from millrace.cli.output import emit_json
    from millrace.cli.up import stop_running

    ended = stop_running(home, timeout, force=force)
    if as_json:
        emit_json({"home": str(home.resolve()), "stopped": True, "pid": ended.pid, "killed": ended.killed})
    elif ended.pid:
        typer.echo(f"{'killed' if ended.killed else 'stopped'} (process {ended.pid})")
    else:
        typer.echo(f"nothing runs in {home}")


@app.command()
def status(
    home: Home = DEFAULT_HOME,
    as_json: AsJson = False,
    sample: Annotated[float, typer.Option("--sample", min=0.0, help="Seconds over which the rate is measured.")] = 0.5,
) -> None:
    """Show each service: health, lag, rate, watermark. Exit status 1 when something is not healthy.

    Examples:

      millrace status

      millrace status --json | jq '.services[] | {name, pid, grpc, http, address}'
    """
    from millrace.cli import health
    from millrace.cli.output import console, emit_json

    seen = health.look(home, sample)
    if as_json:
        emit_json(
            {"home": str(home.resolve()), "healthy": seen.healthy, "services": [s.as_dict() for s in seen.services]}
        )
    else:
        console().print(health.as_table(seen))
    if not seen.healthy:
        raise typer.Exit(1)
