"""`millrace topics list|lag|check`: the topics of the platform, who is behind in them, and drift from the table."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from millrace.cli.errors import CliError
from millrace.cli.options import DEFAULT_HOME, AsJson, Home

if TYPE_CHECKING:
    from millrace.bus.drift import Drift
    from millrace.bus.inspection import GroupLag, Inspection

app = typer.Typer(help="Topics: which there are, who is behind, drift from the table.", no_args_is_help=True)
T = TypeVar("T")


@app.command("list")
def list_topics(home: Home = DEFAULT_HOME, as_json: AsJson = False) -> None:
    """List the topics of the table that are on the broker, with owner and how they are kept.

    Examples:

      millrace topics list
    """
    from millrace.bus.drift import row_of
    from millrace.bus.topics import load_topics
    from millrace.cli.output import emit_json, show_table

    states = ask(home, lambda inspection: inspection.topics())
    table = load_topics()
    named = [(state, row_of(table, name)) for name, state in sorted(states.items())]
    rows = [
        (state.name, row.owner if row.owner != "room" else state.name.partition(".")[2], row.payload, state.partitions,
         state.cleanup, "forever" if state.retention_ms < 0 else f"{state.retention_ms / 3_600_000:g} h")
        for state, row in named if row is not None
    ]  # fmt: skip
    columns = ("topic", "owner", "payload", "partitions", "cleanup", "retention")
    if as_json:
        emit_json([dict(zip(columns, row, strict=True)) for row in rows])
    else:
        show_table(columns, rows, empty="no topics")


@app.command()
def lag(
    group: Annotated[str, typer.Argument(help="Consumer group; empty: all.")] = "",
    home: Home = DEFAULT_HOME,
    by_partition: Annotated[bool, typer.Option("--partitions", help="One line per partition.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show per consumer group how many records wait, and how old the oldest is.

    Lag counts from the last commit; a group that keeps its position in its own store may be further.

    Examples:

      millrace topics lag

      millrace topics lag monitor.predictions --partitions
    """
    from millrace.cli.output import emit_json, show_table

    async def question(inspection: Inspection) -> list[GroupLag]:
        known = await inspection.groups()
        if group and group not in known:
            raise CliError(f"no group {group} (there are: {', '.join(known) or 'none'})")
        return await inspection.lag([group] if group else known)

    found = ask(home, question)
    if as_json:
        emit_json([{**asdict(one), "lag_records": one.lag_records} for one in found])
        return
    rows = (
        [(one.group, one.topic, one.partition, one.committed, one.lag_records, _age(one.oldest_s)) for one in found]
        if by_partition
        else _summed(found)
    )
    columns = ("group", "topic", *(("partition", "committed") if by_partition else ("partitions",)), "lag", "oldest")
    show_table(columns, rows, empty="no group has committed anything")


@app.command()
def check(home: Home = DEFAULT_HOME, as_json: AsJson = False) -> None:
    """Compare the broker's topics with the table. Exit status 1 when a difference does harm.

    Examples:

      millrace topics check

      millrace topics check --json | jq -r '.drift[].fix'
    """
    from rich.text import Text

    from millrace.cli.output import console, emit_json, table

    found, foreign, seen = look_for_drift(home)
    if as_json:
        emit_json({"topics": seen, "drift": [asdict(drift) for drift in found], "not_in_the_table": foreign})
    else:
        marks = {True: Text("drift", style="bold red"), False: Text("note", style="yellow")}
        rows = [(marks[d.harmful], d.topic, d.what, d.table, d.broker, d.fix) for d in found]
        if rows:
            console().print(table(("", "topic", "what", "table", "broker", "fix"), rows))
        if foreign:
            typer.echo(f"not in the table: {', '.join(foreign)}")
        typer.echo(f"{seen} topics looked at, {sum(drift.harmful for drift in found)} differ from the table")
    if any(drift.harmful for drift in found):
        raise typer.Exit(1)


def look_for_drift(home: Path) -> tuple[list[Drift], list[str], int]:
    """(differences, topics that no row speaks of, topics looked at). CliError when Kafka is away."""
    from millrace.bus.drift import drifts, expected, strangers
    from millrace.bus.topics import load_topics
    from millrace.cli.places import ROOMS, require_kafka

    states = ask(home, lambda inspection: inspection.topics())
    table = load_topics()
    specs = expected(table, ROOMS, list(states))
    return drifts(specs, states, require_kafka(home)), strangers(table, list(states)), len(specs)


def ask(home: Path, question: Callable[[Inspection], Awaitable[T]]) -> T:
    """The answer of the cluster. CliError when it is away."""
    from millrace.bus.errors import BusUnavailable
    from millrace.bus.inspection import Inspection
    from millrace.cli.places import kafka_client
    from millrace.cli.topics import quiet, unreachable

    quiet()
    client = kafka_client(home)

    async def run() -> T:
        return await question(Inspection(client))

    try:
        return asyncio.run(run())
    except BusUnavailable as error:
        if str(error).startswith("connecting"):
            raise unreachable(client, error.__cause__ or error) from error
        raise CliError(str(error)) from error


def _summed(found: list[GroupLag]) -> list[tuple[Any, ...]]:
    """One line per group and topic: the sum of the lags, the greatest age."""
    by_topic: dict[tuple[str, str], list[GroupLag]] = {}
    for one in found:
        by_topic.setdefault((one.group, one.topic), []).append(one)
    return [
        (*name, len(many), sum(one.lag_records for one in many), _age(_oldest(many)))
        for name, many in sorted(by_topic.items())
    ]


def _oldest(many: list[GroupLag]) -> float | None:
    known = [one.oldest_s for one in many if one.oldest_s is not None]
    return max(known) if len(known) == len(many) else None


def _age(seconds: float | None) -> str:
    if seconds is None:
        return "?"
    return (
        f"{seconds:.1f} s"
        if seconds < 120
        else f"{seconds / 60:.0f} min"
        if seconds < 7200
        else f"{seconds / 3600:.0f} h"
    )
