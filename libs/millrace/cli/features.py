"""`millrace features`: what a project's features are, what they are worth for an entity, and training sets of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from millrace.cli.errors import CliError
from millrace.cli.options import DEFAULT_HOME, AsJson, Home, Project, time_of
from millrace.cli.trainingset import training_set

if TYPE_CHECKING:
    from pathlib import Path

    from millrace.definitions import catalogue
    from millrace.definitions import model as declared

app = typer.Typer(help="Features: what they are made of, and their values online and in history.", no_args_is_help=True)
app.command("training-set")(training_set)

MOST_VERSIONS = 200  # of a model that are looked at, the newest
MICROSECONDS = {"s": 1_000_000, "m": 60_000_000, "h": 3_600_000_000, "d": 86_400_000_000}
Entities = Annotated[list[str], typer.Argument(help="Entity keys, as the project predicts for.", show_default=False)]
Wanted = Annotated[
    list[str] | None,
    typer.Option("--feature", help="view.column, also of a view that no model takes (may be repeated); default: all."),
]
Service = Annotated[str, typer.Option("--service", help="The features of a service, name@version or the newest.")]
By = Annotated[
    str, typer.Option("--by", help="Field whose values the keys are, to read views about it; default: predict entity.")
]


@app.command("list")
def list_features(
    project: Project,
    home: Home = DEFAULT_HOME,
    search: Annotated[
        str, typer.Option("--search", "-s", help="Only those in which every word occurs: name, entity, source, docs.")
    ] = "",
    as_json: AsJson = False,
) -> None:
    """List a project's features: every column of every view, what it is made of, and who takes it.

    Examples:

      millrace features list sensors

      millrace features list sensors --search "pressure mean"
    """
    from millrace.cli.output import emit_json, show_table
    from millrace.cli.remote import definition
    from millrace.definitions import catalogue

    declared_here = definition(home, project)
    found = [_facts(entry) for entry in catalogue.search(catalogue.entries(declared_here), search)]
    if as_json:
        emit_json(found)
        return
    names = ("feature", "type", "entity", "source", "made_of", "where", "ttl", "used_by", "description")
    empty = f"no feature has {search!r} in it" if search else "no features are declared"
    show_table(names, [[cell(fact[name]) for name in names] for fact in found], empty=empty)


@app.command()
def show(
    project: Project,
    feature: Annotated[str, typer.Argument(help="Its name, view.column.", show_default=False)],
    home: Home = DEFAULT_HOME,
    as_json: AsJson = False,
) -> None:
    """Show one feature: what is said of it, the fields it comes from, and the services and models that it goes to.

    Examples:

      millrace features show sensors readings.pressure_mean_1h
    """
    from difflib import get_close_matches

    from millrace.cli.output import console, emit_json, table
    from millrace.cli.remote import definition
    from millrace.definitions import catalogue

    declared_here = definition(home, project)
    found = {entry.feature: entry for entry in catalogue.entries(declared_here)}
    if feature not in found:
        near = get_close_matches(feature, found, n=3, cutoff=0.4)
        raise CliError(f"{project} has no feature {feature}" + (f"; near: {', '.join(near)}" if near else ""))
    entry = found[feature]
    facts = _facts(entry)
    upstream = _upstream(declared_here, entry)
    versions = _versions(home, declared_here, entry)
    if as_json:
        emit_json({**facts, "upstream": upstream, "downstream": _downstream(entry), "model_versions": versions})
        return
    screen = console()
    screen.print(table(("", ""), [(name, cell(value)) for name, value in facts.items()]))
    names = ("field", "type", "personal", "role")
    screen.print(table(names, [[row[name] for name in names] for row in upstream], title="comes from"))
    names = ("kind", "name", "as", "through")
    screen.print(table(names, [[row[name] for name in names] for row in _downstream(entry)], title="goes to"))
    if versions:
        names = ("model", "version", "state", "definition")
        screen.print(table(names, [[v[name] for name in names] for v in versions], title="model versions that read it"))


@app.command()
def read(
    project: Project,
    entities: Entities,
    home: Home = DEFAULT_HOME,
    feature: Wanted = None,
    service: Service = "",
    by: By = "",
    as_json: AsJson = False,
) -> None:
    """Read the values that a prediction would get now, with their status and age.

    Examples:

      millrace features read sensors pump-17

      millrace features read sensors pump-17 --feature readings.pressure_mean_1h --json

      millrace features read sensors pump-17 --service dashboard@2

      millrace features read sensors north --by plant --feature plants.alarms_1d
    """
    from millrace.cli.remote import stub
    from millrace.wire.feature_store.v1 import service_pb2 as wire

    asked = wire.GetOnlineRequest(project=project, entities=entities, features=feature or [], service=service, by=by)
    with stub(home, "feature_store") as store:
        reply = store.GetOnline(asked)
    _show(reply, entities, as_json)


@app.command()
def history(
    project: Project,
    entities: Entities,
    home: Home = DEFAULT_HOME,
    at: Annotated[str, typer.Option("--at", help="Moment, ISO 8601 in UTC; default: the project's clock.")] = "",
    feature: Wanted = None,
    service: Service = "",
    by: By = "",
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
    asked = wire.GetHistoricalRequest(
        project=project, keys=keys, features=feature or [], as_happened=as_happened, service=service, by=by
    )
    with stub(home, "feature_store") as store:
        reply = store.GetHistorical(asked)
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


def _facts(entry: catalogue.Entry) -> dict[str, Any]:
    from millrace.definitions.model import format_duration

    view = entry.view
    model = next((use for use in entry.uses if use.kind == "model" and use.feature.endswith(f".{entry.column}")), None)
    return {
        "feature": entry.feature,
        "view": entry.view_id,
        "type": entry.type,
        "entity": view.entity,
        "source": view.source,
        "event_type": entry.event_type,
        "made_of": entry.making.text,
        "where": view.where,
        "hop": format_duration(view.hop_us) if view.hop_us else "",
        "ttl": format_duration(view.ttl_us) if view.ttl_us else "",
        "input": model is not None,
        "through": model.through if model else "",
        "model": model.name if model else "",
        "used_by": ", ".join(entry.used_by),
        "description": entry.docs.description,
        "owner": entry.docs.owner,
        "tags": ", ".join(entry.docs.tags),
    }


def _upstream(project: declared.Project, entry: catalogue.Entry) -> list[dict[str, str]]:
    """The fields of the source that the feature depends on."""
    source = project.source(entry.view.source)
    roles = dict.fromkeys(entry.making.selecting, "selects events") | dict.fromkeys(entry.making.fields, "value")
    roles[source.event_time] = "event time" if source.event_time not in entry.making.fields else "value, event time"
    rows = []
    for name, role in roles.items():
        field = source.field(name)
        rows.append({"field": name, "type": field.type.value, "personal": field.pii.value, "role": role})
    return rows


def _downstream(entry: catalogue.Entry) -> list[dict[str, str]]:
    return [{"kind": u.kind, "name": u.name, "as": u.feature, "through": u.through} for u in entry.uses]


def _versions(home: Path, project: declared.Project, entry: catalogue.Entry) -> list[dict[str, Any]]:
    """The versions of the project's model whose definition reads this version of the view, the newest first."""
    import grpc

    from millrace.cli.remote import stub
    from millrace.definitions import from_canonical_json
    from millrace.definitions.lineage import model_pins
    from millrace.wire.registry.v1 import service_pb2 as wire

    found = []
    with stub(home, "registry") as registry:
        try:
            asked = wire.ListVersionsRequest(project=project.name, model=project.model.name, limit=MOST_VERSIONS)
            versions = registry.ListVersions(asked).versions
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.NOT_FOUND:
                return []  # no version yet
            raise
        reads: dict[int, bool] = {}
        for version in versions:
            number = version.definition_version
            if number not in reads:
                published = registry.GetDefinition(wire.GetDefinitionRequest(project=project.name, version=number))
                pins = model_pins(from_canonical_json(published.canonical_json))
                reads[number] = pins.get(entry.view.name) == entry.view.version
            if reads[number]:
                found.append(
                    {"model": version.model, "version": version.version, "state": version.state, "definition": number}
                )
    return found


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
    body = [(r["entity"], r["feature"], cell(r["value"]), r["status"], age(r["age_us"])) for r in rows]
    show_table(headings, body, empty="no features")


def cell(value: Any) -> str:
    """A value in a table."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def age(age_us: int | None) -> str:
    """A duration in the largest unit of which it holds two: 90 s, 3 h."""
    if age_us is None:
        return ""
    unit = next((u for u in ("d", "h", "m") if age_us >= 2 * MICROSECONDS[u]), "s")
    return f"{age_us / MICROSECONDS[unit]:.0f} {unit}"
