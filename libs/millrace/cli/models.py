"""`millrace models list|show|push|promote|lineage` and `millrace rollback`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from millrace.cli.errors import CliError
from millrace.cli.options import DEFAULT_HOME, Actor, AsJson, Home, Limit

app = typer.Typer(help="Versions of models: list, show, push, promote, lineage.", no_args_is_help=True)
top = typer.Typer()

CHUNK_BYTES = 1024 * 1024

Model = Annotated[str, typer.Argument(help="Model, or its project.", show_default=False)]
Version = Annotated[int, typer.Argument(help="Version number.", min=1, show_default=False)]
Reason = Annotated[str, typer.Option("--reason", help="Why; kept in the events.", show_default=False)]


@app.command("list")
def list_versions(
    model: Annotated[str, typer.Argument(help="Model or project; empty: all.")] = "",
    home: Home = DEFAULT_HOME,
    limit: Limit = 20,
    as_json: AsJson = False,
) -> None:
    """List versions, newest first.

    Examples:

      millrace models list sensors
    """
    from millrace.cli.output import as_dict, emit_json, show_table, when
    from millrace.cli.remote import stub
    from millrace.wire.registry.v1 import service_pb2 as wire

    with stub(home, "registry") as registry:
        wanted = [resolve(registry, model)] if model else _all_models(registry)
        found = [
            version
            for project, name in wanted
            for version in registry.ListVersions(
                wire.ListVersionsRequest(project=project, model=name, limit=limit)
            ).versions
        ]
    if as_json:
        emit_json([as_dict(version) for version in found])
        return
    rows = [
        (v.project, v.model, v.version, v.state, ", ".join(v.aliases), _metrics(v), when(v.created_us), v.reason)
        for v in found
    ]
    columns = ("project", "model", "version", "state", "aliases", "metrics", "created", "reason")
    show_table(columns, rows, empty="no versions yet")


@app.command()
def show(model: Model, version: Version, home: Home = DEFAULT_HOME, as_json: AsJson = False) -> None:
    """Show one version: state, digests, metrics, and what serves now.

    Examples:

      millrace models show sensors 3
    """
    from millrace.cli.output import as_dict, emit_json, table, when
    from millrace.cli.output import console as terminal

    found = _of_version(home, "GetVersion", model, version)
    content = as_dict(found)
    if as_json:
        emit_json(content)
        return
    content |= {"created_us": when(found.created_us), "metrics": _metrics(found), "aliases": ", ".join(found.aliases)}
    terminal().print(table(("", ""), [(key.removesuffix("_us"), str(value)) for key, value in content.items()]))


@app.command()
def push(
    model: Model,
    file: Annotated[Path, typer.Argument(help="The ONNX file.", show_default=False)],
    reason: Reason,
    home: Home = DEFAULT_HOME,
    bundle: Annotated[
        Path | None, typer.Option("--bundle", help="Its metadata (JSON); derived from the file when not given.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Release without a gate; the events say so.")] = False,
    actor: Actor = "",
    as_json: AsJson = False,
) -> None:
    """Bring a model from outside: bytes first, then the version that names their digests.

    With --force it serves at once and the events say who did it and why. Without, it is checked, kept and registered,
    and serves nobody: a gate judges only what the trainer made, so `promote` refuses it. Push it again with --force.

    Examples:

      millrace models push sensors better.onnx --force --reason "trained elsewhere"

      millrace models push sensors better.onnx --reason "only to see whether it fits"
    """
    from millrace.cli.output import as_dict, emit_json
    from millrace.cli.remote import stub
    from millrace.wire.registry.v1 import service_pb2 as wire

    with stub(home, "registry") as registry:
        project, _ = resolve(registry, model)
        model_digest = _put(registry, file)
        bundle_digest = _put(registry, bundle) if bundle else ""
        made = registry.RegisterVersion(
            wire.RegisterVersionRequest(
                project=project,
                model_digest=model_digest,
                bundle_digest=bundle_digest,
                reason=reason,
                actor=actor,
                force=force,
            )
        )
    if as_json:
        emit_json(as_dict(made))
    else:
        typer.echo(f"{made.model} version {made.version}: {made.state} ({made.model_digest})")
        if made.state == "registered":
            typer.echo("it serves nobody and cannot be promoted: there is no gate for a model from outside")
            typer.echo(f'to release it: millrace models push {model} {file} --force --reason "..."')


@app.command()
def promote(
    model: Model,
    version: Version,
    reason: Reason,
    home: Home = DEFAULT_HOME,
    actor: Actor = "",
    as_json: AsJson = False,
) -> None:
    """Ask the registry to make a gated version the champion, past the rest of its rollout.

    Examples:

      millrace models promote sensors 4 --reason "canary looked good"
    """
    _command(home, model, "PROMOTE", version=version, target=0, reason=reason, actor=actor, as_json=as_json)


@app.command()
def lineage(model: Model, version: Version, home: Home = DEFAULT_HOME, as_json: AsJson = False) -> None:
    """Show where a version comes from and every change of its state.

    Examples:

      millrace models lineage sensors 3
    """
    from millrace.cli.output import as_dict, emit_json, show_table, when

    found = _of_version(home, "Lineage", model, version)
    if as_json:
        emit_json(as_dict(found))
        return
    made = found.version
    typer.echo(
        f"{made.model} version {made.version} ← run {made.run_id or 'none'} ← snapshot {made.snapshot_digest or 'none'}"
    )
    if made.forgotten:
        typer.echo(made.forgotten)
    rows = [(when(e.clock_us), e.kind, f"{e.from_state} → {e.to_state}", e.actor, e.reason) for e in found.events]
    show_table(("clock", "event", "state", "actor", "reason"), rows, empty="no events")


@top.command()
def rollback(
    model: Model,
    to: Annotated[int, typer.Option("--to", min=1, help="Version that shall serve again.", show_default=False)],
    reason: Reason,
    home: Home = DEFAULT_HOME,
    actor: Actor = "",
    as_json: AsJson = False,
) -> None:
    """Ask the registry to serve an earlier version again, only to one that still loads.

    Examples:

      millrace rollback wear --to 2 --reason "wrong by noon"
    """
    _command(home, model, "ROLLBACK", version=0, target=to, reason=reason, actor=actor, as_json=as_json)


def resolve(registry: Any, name: str) -> tuple[str, str]:
    """(project, model) for the name of either; CliError when there is none."""
    known = _all_models(registry)
    for project, model in known:
        if name in (project, model):
            return project, model
    raise CliError(f"no model or project is called {name} (known: {', '.join(m for _, m in known) or 'none'})")


def _all_models(registry: Any) -> list[tuple[str, str]]:
    from millrace.wire.common.v1 import common_pb2

    projects = registry.ListProjects(common_pb2.Empty()).projects
    return [(item.project, json.loads(item.canonical_json)["model"]["name"]) for item in projects]


def _of_version(home: Path, method: str, model: str, version: int) -> Any:
    """The registry's answer about one version."""
    from millrace.cli.remote import stub
    from millrace.wire.registry.v1 import service_pb2 as wire

    with stub(home, "registry") as registry:
        project, name = resolve(registry, model)
        return getattr(registry, method)(wire.GetVersionRequest(project=project, model=name, version=version))


def _command(
    home: Path, model: str, verb: str, *, version: int, target: int, reason: str, actor: str, as_json: bool
) -> None:
    from millrace.cli.output import as_dict, emit_json
    from millrace.cli.remote import stub
    from millrace.wire.registry.v1 import events_pb2
    from millrace.wire.registry.v1 import service_pb2 as wire

    with stub(home, "registry") as registry:
        project, name = resolve(registry, model)
        if not version:
            version = _champion(registry.GetPlan(wire.GetPlanRequest(project=project, model=name)), name)
        reply = registry.Command(
            events_pb2.ModelCommand(
                project=project,
                model=name,
                verb=verb,
                version=version,
                target_version=target,
                reason=reason,
                actor=actor,
            )
        )
    if as_json:
        emit_json(as_dict(reply))
    if not reply.accepted:
        raise CliError(f"the registry refused: {reply.reason}")
    if not as_json:
        typer.echo(f"done: epoch {reply.epoch}, event {reply.event_id}")


def _champion(plan: Any, model: str) -> int:
    from millrace.wire.registry.v1 import events_pb2

    for variant in plan.variants:
        if variant.role == events_pb2.Variant.CHAMPION:
            return int(variant.version)
    raise CliError(f"{model} has no champion to roll back from")


def _put(registry: Any, file: Path) -> str:
    from millrace.wire.registry.v1 import service_pb2 as wire

    def chunks() -> Iterator[wire.ArtifactChunk]:
        with file.open("rb") as source:
            while data := source.read(CHUNK_BYTES):
                yield wire.ArtifactChunk(data=data)

    if not file.is_file():
        raise CliError(f"no file {file}")
    return str(registry.PutArtifact(chunks()).digest)


def _metrics(version: Any) -> str:
    return " ".join(f"{name}={value:.4g}" for name, value in sorted(version.metrics.items()))
