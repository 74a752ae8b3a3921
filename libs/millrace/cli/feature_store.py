"""`millrace features services|stats|drop`: named sets of features, what the online store holds, and what is to go."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from millrace.cli.features import age, cell
from millrace.cli.options import DEFAULT_HOME, Actor, AsJson, Home, Project

app = typer.Typer()

STATS_TIMEOUT_S = 300.0  # a store of many million keys is walked through
REBUILD_TIMEOUT_S = 24 * 3600.0
DROP_TIMEOUT_S = 6 * 3600.0
MEDIAN = 3  # place of 0.5 among the shares that quantiles are given at


@app.command()
def services(project: Project, home: Home = DEFAULT_HOME, as_json: AsJson = False) -> None:
    """List feature services: named sets of features, each version fixed; the model's inputs are one.

    Examples:

      millrace features services sensors
    """
    from millrace.cli.output import emit_json, show_table
    from millrace.cli.remote import definition
    from millrace.definitions.lineage import model_pins

    declared = definition(home, project)
    rows: list[dict[str, Any]] = [
        {
            "service": declared.model.name,
            "entity": declared.predict.entity,
            "features": [i.name for i in declared.model.inputs],
            "views": [f"{name}@{version}" for name, version in model_pins(declared).items()],
            "description": "the model's inputs, as the definition has them now",
        }
    ]
    rows += [
        {
            "service": service.id,
            "entity": service.entity,
            "features": [i.name for i in service.features],
            "views": [f"{name}@{version}" for name, version in service.pins],
            "description": service.docs.description,
        }
        for service in declared.services
    ]
    if as_json:
        emit_json(rows)
        return
    names = ("service", "entity", "features", "views", "description")
    body = [[", ".join(row[n]) if isinstance(row[n], list) else row[n] for n in names] for row in rows]
    show_table(names, body, empty="no services")


@app.command()
def stats(
    project: Project,
    features: Annotated[
        list[str] | None, typer.Argument(help="view.column or views; default: all.", show_default=False)
    ] = None,
    home: Home = DEFAULT_HOME,
    fresh: Annotated[bool, typer.Option("--fresh", help="Look now, whatever was worked out a moment ago.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show what the online store holds of each feature, how old it is and what it costs.

    With many entities the values are of a sample and counts are estimates, which is said.

    Examples:

      millrace features stats sensors

      millrace features stats sensors readings.pressure_mean_1h --json
    """
    from millrace.cli.output import as_dict, console, emit_json, table
    from millrace.cli.remote import stub
    from millrace.wire.feature_store.v1 import service_pb2 as wire

    asked = wire.FeatureStatsRequest(project=project, features=features or [], max_age_ms=1 if fresh else 0)
    with stub(home, "feature_store") as store:
        reply = store.FeatureStats(asked, timeout=STATS_TIMEOUT_S)
    if as_json:
        emit_json(as_dict(reply))
        return
    screen = console()
    columns = ("feature", "present", "missing", "expired", "mean", "std", "least", "median", "most", "distinct")
    body = [_values(view, column) for view in reply.views for column in view.columns]
    screen.print(table((*columns, "most frequent", "age"), body))
    costs = ("view", "entities", "rows", "sampled", "bytes a row", "in all", "read", "update", "of all", "events/h")
    costly = table((*costs, "as of", "behind"), [_cost(view) for view in reply.views], title="freshness and cost")
    screen.print(costly)
    parts = [_part(view, column) for view in reply.views for column in view.columns]
    screen.print(table(("feature", "bytes a row", "in all", "update"), parts, title="each feature's part of it"))
    for left in reply.left:
        about = f"{left.view} is declared no more, and {left.keys:,} keys of it are kept"
        typer.echo(f"{about}: millrace features drop {project} {left.view}")


@app.command()
def drop(
    project: Project,
    view: Annotated[str, typer.Argument(help="The view's version, name@version.", show_default=False)],
    home: Home = DEFAULT_HOME,
    force: Annotated[
        bool, typer.Option("--force", help="Although a model version needs it: that version cannot serve again.")
    ] = False,
    actor: Actor = "",
    as_json: AsJson = False,
) -> None:
    """Delete everything that is kept of a view which the project does not declare any more.

    An interrupted drop is repeated by calling it again.

    Examples:

      millrace features drop sensors readings@1
    """
    from rich.progress import Progress

    from millrace.cli.output import console, emit_json
    from millrace.cli.remote import stub
    from millrace.wire.feature_store.v1 import service_pb2 as wire

    screen = console(err=True)
    progress = Progress(console=screen, transient=True, disable=not screen.is_terminal)
    asked = wire.DropViewRequest(project=project, view=view, force=force, actor=actor)
    deleted = 0
    with stub(home, "feature_store") as store, progress:
        task = progress.add_task(f"dropping {view}", total=None)
        for step in store.DropView(asked, timeout=DROP_TIMEOUT_S):
            deleted = step.deleted
            text = f"dropping {view}: {deleted:,} keys"
            progress.update(task, total=step.total, completed=step.scanned, description=text)
    if as_json:
        emit_json({"project": project, "view": view, "deleted_keys": deleted})
    else:
        typer.echo(f"{view} of {project} is dropped: {deleted:,} keys deleted")


@app.command()
def rebuild(
    project: Project,
    views: Annotated[list[str] | None, typer.Argument(help="Views, name@version; all by default.")] = None,
    home: Home = DEFAULT_HOME,
    keep: Annotated[
        bool, typer.Option("--keep", help="Go on behind a rebuild that was interrupted; delete nothing first.")
    ] = False,
    actor: Actor = "",
    as_json: AsJson = False,
) -> None:
    """Make the online values of views anew from history, while the platform serves.

    What is not there yet reads as MISSING, and `as of` says how far a view has come. A store that was emptied is filled
    by itself; this is for one whose values are in doubt.

    Examples:

      millrace features rebuild sensors

      millrace features rebuild sensors readings@2 --keep
    """
    from rich.progress import Progress

    from millrace.cli.output import console, emit_json
    from millrace.cli.remote import stub
    from millrace.wire.feature_store.v1 import service_pb2 as wire

    screen = console(err=True)
    progress = Progress(console=screen, transient=True, disable=not screen.is_terminal)
    asked = wire.RebuildRequest(project=project, views=views or [], keep=keep, actor=actor)
    events = 0
    with stub(home, "feature_store") as store, progress:
        task = progress.add_task("rebuilding", total=None)
        for step in store.RebuildViews(asked, timeout=REBUILD_TIMEOUT_S):
            events = step.events
            progress.update(task, total=step.total, completed=events, description=f"rebuilding {step.view}")
    if as_json:
        emit_json({"project": project, "views": views or [], "events": events})
    else:
        typer.echo(f"{', '.join(views or ['all views'])} of {project}: made anew of {events:,} events")


def _values(view: Any, column: Any) -> list[str]:
    moments = [column.mean, column.std, column.min, column.quantiles[MEDIAN] if column.quantiles else None, column.max]
    if not column.HasField("mean"):
        moments = [None] * 5
    frequent = ", ".join(f"{top.value} ({top.count:,})" for top in column.top[:3]) if column.type == "string" else ""
    ages = column.age_quantiles_us
    return [
        f"{view.view}.{column.name}",
        *(f"{n:,}" for n in (column.present, column.missing, column.expired)),
        *map(cell, moments),
        f"{column.distinct:,}",
        frequent,
        age(int(ages[MEDIAN])) if ages else "",
    ]


def _part(view: Any, column: Any) -> list[str]:
    return [
        f"{view.view}.{column.name}",
        f"{column.memory_bytes:,.1f}",
        f"{'' if view.exact else 'about '}{column.memory_bytes * view.rows / 1e6:,.2f} MB",
        "" if column.update_us < 0 else f"{column.update_us:,.2f} µs",
    ]


def _cost(view: Any) -> list[str]:
    from millrace.cli.output import when

    about = "" if view.exact else "about "
    return [
        view.view,
        f"{about}{view.entities:,}",
        f"{about}{view.rows:,}",
        f"{view.sampled:,}",
        f"{view.memory_bytes:,.0f}",
        f"{about}{view.total_bytes / 1e6:,.1f} MB",
        "" if view.read_us < 0 else f"{view.read_us:,.0f} µs",
        "" if view.update_us < 0 else f"{view.update_us:,.1f} µs",
        "" if view.update_us < 0 else f"{view.update_share:.0%}",
        "" if view.events_per_hour < 0 else f"{view.events_per_hour:,.0f}",
        when(view.as_of_us),
        age(view.lag_us) if view.lag_us else "",
    ]
