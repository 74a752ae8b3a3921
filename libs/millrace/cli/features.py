"""`millrace features list|show|read|history|consistency`: what features are, and what they are worth for an entity."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from millrace.cli.errors import CliError
from millrace.cli.options import DEFAULT_HOME, AsJson, Home, Project, time_of

if TYPE_CHECKING:
    from millrace.definitions import model as declared

app = typer.Typer(help="Features: what they are made of, and their values online and in history.", no_args_is_help=True)

MICROSECONDS = {"s": 1_000_000, "m": 60_000_000, "h": 3_600_000_000, "d": 86_400_000_000}
Entities = Annotated[list[str], typer.Argument(help="Entity keys, as the project predicts for.", show_default=False)]
Wanted = Annotated[
    list[str] | None, typer.Option("--feature", help="One of the model's inputs (may be repeated); default: all.")
]


@app.command("list")
def list_features(project: Project, home: Home = DEFAULT_HOME, as_json: AsJson = False) -> None:
    """List a project's features: every column of every view, and whether the model takes it.

    Examples:

      millrace features list sensors
    """
    from millrace.cli.output import emit_json, show_table
    from millrace.cli.remote import definition

    found = described(definition(home, project))
    if as_json:
        emit_json(found)
        return
    names = ("feature", "entity", "source", "made_of", "where", "ttl", "input")
    show_table(names, [[_cell(fact[name]) for name in names] for fact in found], empty="no features are declared")


@app.command()
def show(
    project: Project,
    feature: Annotated[str, typer.Argument(help="Its name, view.column.", show_default=False)],
    home: Home = DEFAULT_HOME,
    as_json: AsJson = False,
) -> None:
    """Show one feature, from the source's event to the model's input.

    Examples:

      millrace features show sensors readings.pressure_mean_1h
    """
    from difflib import get_close_matches

    from millrace.cli.output import console, emit_json, table
    from millrace.cli.remote import definition

    found = {fact["feature"]: fact for fact in described(definition(home, project))}
    if feature not in found:
        near = get_close_matches(feature, found, n=3, cutoff=0.4)
        raise CliError(f"{project} has no feature {feature}" + (f"; near: {', '.join(near)}" if near else ""))
    if as_json:
        emit_json(found[feature])
        return
    console().print(table(("", ""), [(name, _cell(value)) for name, value in found[feature].items()]))


@app.command()
def read(
    project: Project,
    entities: Entities,
    home: Home = DEFAULT_HOME,
    feature: Wanted = None,
    as_json: AsJson = False,
) -> None:
    """Read the values that a prediction would get now, with their status and age.

    Examples:

      millrace features read sensors pump-17

      millrace features read sensors pump-17 --feature readings.pressure_mean_1h --json
    """
    from millrace.cli.remote import stub
    from millrace.wire.feature_store.v1 import service_pb2 as wire

    with stub(home, "feature_store") as store:
        reply = store.GetOnline(wire.GetOnlineRequest(project=project, entities=entities, features=feature or []))
    _show(reply, entities, as_json)


@app.command()
def history(
    project: Project,
    entities: Entities,
    home: Home = DEFAULT_HOME,
    at: Annotated[str, typer.Option("--at", help="Moment, ISO 8601 in UTC; default: the project's clock.")] = "",
    feature: Wanted = None,
    as_happened: Annotated[
        bool, typer.Option("--as-happened", help="Also what happened by then and was known only later.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Read the values that a training set would hold for a moment: what happened before it and was known by it.

    Examples:

      millrace features history sensors pump-17 --at 2026-07-01T05:00:00
    """
    from millrace.cli.remote import clock_us, stub
    from millrace.wire.common.v1 import common_pb2
    from millrace.wire.feature_store.v1 import service_pb2 as wire

    moment_us = time_of(at, "--at") or clock_us(home, project)
    keys = [common_pb2.ExampleKey(project=project, entity=entity, moment_us=moment_us) for entity in entities]
    with stub(home, "feature_store") as store:
        reply = store.GetHistorical(
            wire.GetHistoricalRequest(project=project, keys=keys, features=feature or [], as_happened=as_happened)
        )
    _show(reply, entities, as_json)


@app.command()
def consistency(
    project: Project,
    home: Home = DEFAULT_HOME,
    begin: Annotated[str, typer.Option("--from", help="Reads as of this moment or later, ISO 8601 in UTC.")] = "",
    end: Annotated[str, typer.Option("--to", help="Reads as of before this moment.")] = "",
    as_json: AsJson = False,
) -> None:
    """Show what a sample of online reads came to when it was worked out again from history.

    Exits with 1 when an answer differs from history. Columns: `ahead` is what had been applied while one partition was
    ahead of another; `missing` is in history alone, `extra` in the answer alone, `mismatch` any other difference.

    Examples:

      millrace features consistency sensors

      millrace features consistency sensors --from 2026-07-01 --json
    """
    from millrace.cli.consistency import show_report
    from millrace.cli.remote import stub
    from millrace.wire.feature_store.v1 import service_pb2 as wire

    with stub(home, "feature_store") as store:
        reply = store.Consistency(
            wire.ConsistencyRequest(project=project, from_us=time_of(begin, "--from"), to_us=time_of(end, "--to"))
        )
    if show_report(project, reply, as_json=as_json):
        raise typer.Exit(1)


def described(project: declared.Project) -> list[dict[str, Any]]:
    """Every feature of the project, by view and column, in the order declared."""
    inputs = {one.name: one for one in project.model.inputs}
    return [
        _feature(project, view, column, inputs.get(f"{view.name}.{column}"))
        for view in project.views
        for column in view.columns
    ]


def _feature(
    project: declared.Project, view: declared.View, column: str, taken: declared.Input | None
) -> dict[str, Any]:
    from millrace.definitions.model import format_duration

    return {
        "feature": f"{view.name}.{column}",
        "view": f"{view.name}@{view.version}",
        "entity": view.entity,
        "source": view.source,
        "event_type": project.source(view.source).event_type,
        "made_of": _made_of(view, column),
        "where": view.where,
        "hop": format_duration(view.hop_us) if view.hop_us else "",
        "ttl": format_duration(view.ttl_us) if view.ttl_us else "",
        "input": taken is not None,
        "type": taken.type.value if taken else "",
        "through": taken.through if taken else "",
        "model": project.model.name if taken else "",
    }


def _made_of(view: declared.View, column: str) -> str:
    from millrace.definitions.model import format_duration

    for aggregate in view.aggregates:
        argument = f", {aggregate.argument:g}" if aggregate.argument else ""
        for window_us in view.windows_us:
            if column in [f"{output}_{format_duration(window_us)}" for output in aggregate.outputs]:
                call = f"{aggregate.function.value}({aggregate.expression}{argument})"
                return f"{call} over {format_duration(window_us)}"
    expression = dict(view.derive).get(column)
    return expression if expression is not None else f"newest {column}"


def _show(reply: Any, entities: Sequence[str], as_json: bool) -> None:
    """Both replies hold the same: names, and a column for each, with a cell per entity."""
    from millrace.cli.output import emit_json, show_table
    from millrace.client.columns import read_columns
    from millrace.wire.feature_store.v1 import service_pb2 as wire

    columns = read_columns(reply.columns, len(entities))
    rows = [
        {
            "entity": entity,
            "feature": name,
            "value": cells.values[place],
            "status": wire.FeatureStatus.Name(cells.statuses[place]),
            "age_us": None if cells.ages_us[place] < 0 else cells.ages_us[place],
        }
        for place, entity in enumerate(entities)
        for name, cells in zip(reply.features, columns, strict=True)
    ]
    if as_json:
        emit_json(rows)
        return
    headings = ("entity", "feature", "value", "status", "age")
    body = [(r["entity"], r["feature"], _cell(r["value"]), r["status"], _age(r["age_us"])) for r in rows]
    show_table(headings, body, empty="no features")


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _age(age_us: int | None) -> str:
    """In the largest unit of which it holds two: 90 s, 3 h."""
    if age_us is None:
        return ""
    unit = next((u for u in ("d", "h", "m") if age_us >= 2 * MICROSECONDS[u]), "s")
    return f"{age_us / MICROSECONDS[unit]:.0f} {unit}"
