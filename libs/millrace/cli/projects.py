"""`millrace apply`, `train`."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from millrace.cli.errors import CliError
from millrace.cli.options import DEFAULT_HOME, Actor, AsJson, Home, Project, TimeoutSeconds
from millrace.cli.runs import run_dict, state_of

if TYPE_CHECKING:
    from millrace.wire.registry.v1 import service_pb2

app = typer.Typer()

FOLLOWERS = ("ingestion", "labeling", "feature_store", "trainer", "inference", "monitor")
"""Rooms that follow the topic `definitions`; the registry writes it."""
UNFINISHED = ("QUEUED", "RUNNING", "STATE_UNSPECIFIED")


@app.command()
def apply(
    file: Annotated[Path, typer.Argument(help="The project file (YAML).", show_default=False)],
    home: Home = DEFAULT_HOME,
    plan: Annotated[bool, typer.Option("--plan", help="Only say what would change.")] = False,
    based_on: Annotated[
        int | None,
        typer.Option("--based-on", min=0, help="Version the file was written against (default: the current one)."),
    ] = None,
    timeout: TimeoutSeconds = 60.0,
    actor: Actor = "",
    as_json: AsJson = False,
) -> None:
    """Give a project file to the registry and wait until every room runs it, or name who lags.

    All errors of the file are printed at once, with their lines; the running project is then untouched.

    Examples:

      millrace apply project.yaml --plan

      millrace apply project.yaml
    """
    text = _read(file)
    reply = _apply(home, file, text, plan=plan, based_on=based_on, actor=actor)
    lagging = [] if plan else await_version(home, reply.project, reply.version, timeout)
    _show_apply(reply, plan=plan, lagging=lagging, as_json=as_json)
    if lagging:
        raise CliError(f"after {timeout:.0f} s version {reply.version} does not run in: {', '.join(lagging)}")


@app.command()
def train(
    project: Project,
    home: Home = DEFAULT_HOME,
    reason: Annotated[str, typer.Option("--reason", help="Why; kept with the run.")] = "asked by hand",
    accept_data: Annotated[
        bool, typer.Option("--accept-data", help="The rows are as they should be, whatever their validation finds.")
    ] = False,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait for the verdict; exit status 1 when the run failed.")
    ] = False,
    timeout: TimeoutSeconds = 1800.0,
    actor: Actor = "",
    as_json: AsJson = False,
) -> None:
    """Ask the trainer for a run. It alone decides whether one is made, and says so in `millrace runs list`.

    New rows are held against those of the last run that passed: rows in which a column suddenly is one value, has none
    or is of another unit are left out, and where that is most of them the run is declined. With --accept-data all rows
    are taken, those that earlier runs left out as well, and what they look like is what later runs are held against.

    Examples:

      millrace train sensors --reason "two new fields" --wait

      millrace train sensors --reason "pressure is in hPa from now on" --accept-data
    """
    from millrace.cli.output import emit_json
    from millrace.cli.remote import stub
    from millrace.wire.trainer.v1 import events_pb2

    request = events_pb2.TrainingRequest(
        project=project,
        trigger=events_pb2.TrainingRequest.MANUAL,
        reason=reason,
        asked_us=0,
        actor=actor,
        accept_data=accept_data,
    )
    with stub(home, "trainer") as trainer:
        request_id = trainer.RequestRun(request).request_id
    if not wait:
        if as_json:
            emit_json({"request_id": request_id})
        else:
            typer.echo(f"asked (request {request_id}); `millrace runs list {project}` shows what becomes of it")
        return
    run = _await_run(home, project, request_id, timeout)
    if as_json:
        emit_json(run_dict(run))
    else:
        typer.echo(f"run {run.run_id}: {state_of(run)} ({run.reason})")
    if state_of(run) == "FAILED":
        raise typer.Exit(1)


def await_version(home: Path, project: str, version: int, timeout_s: float) -> list[str]:
    """Waits until every room that runs reports the version. Returns who lags, with the version that it has."""
    from millrace.cli import health

    deadline, pause = time.monotonic() + timeout_s, threading.Event()
    while True:
        seen = {service.name: service for service in health.look(home).services}
        lagging = [
            f"{name} ({seen[name].definitions.get(project, 0) or 'none'})"
            for name in FOLLOWERS
            if seen[name].definitions.get(project, 0) < version
        ]
        if not lagging or time.monotonic() > deadline:
            return lagging
        pause.wait(0.2)


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CliError(f"cannot read {file}: {getattr(error, 'strerror', None) or error}") from error


def _apply(
    home: Path, file: Path, text: str, *, plan: bool, based_on: int | None, actor: str
) -> service_pb2.ApplyReply:
    from millrace.cli.remote import stub
    from millrace.wire.common.v1 import common_pb2
    from millrace.wire.registry.v1 import service_pb2 as wire

    with stub(home, "registry") as registry:
        if based_on is None:
            known = {item.project: item.version for item in registry.ListProjects(common_pb2.Empty()).projects}
            based_on = known.get(_project_name(text), 0)
        reply: wire.ApplyReply = registry.Apply(
            wire.ApplyRequest(yaml=text, based_on_version=based_on, plan_only=plan, actor=actor, file_name=str(file))
        )
    return reply


def _project_name(text: str) -> str:
    """The name in the file; "" when it cannot be read, which the registry then explains with lines."""
    import yaml

    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError:
        return ""
    return str(document.get("project", "")) if isinstance(document, dict) else ""


def _show_apply(reply: service_pb2.ApplyReply, *, plan: bool, lagging: list[str], as_json: bool) -> None:
    if as_json:
        from millrace.cli.output import as_dict, emit_json

        emit_json({**as_dict(reply), "plan": plan, "lagging": lagging})
        return
    for change in reply.changes:
        typer.echo(f"  {change}")
    if plan:
        typer.echo(
            f"{reply.project}: would become version {reply.version}" if reply.changed else "nothing would change"
        )
    elif not reply.changed:
        typer.echo(f"{reply.project}: unchanged, version {reply.version}")
    elif not lagging:
        typer.echo(f"{reply.project}: version {reply.version} runs in every room")


def _await_run(home: Path, project: str, request_id: str, timeout_s: float) -> Any:
    from millrace.cli.output import console
    from millrace.cli.remote import stub
    from millrace.wire.trainer.v1 import service_pb2 as wire

    deadline, pause = time.monotonic() + timeout_s, threading.Event()
    with stub(home, "trainer") as trainer, console(err=True).status("waiting for the trainer") as shown:
        while time.monotonic() < deadline:
            found = trainer.ListRuns(wire.ListRunsRequest(project=project, limit=50)).runs
            mine = next((run for run in found if request_id in run.request_ids), None)
            if mine is not None:
                if state_of(mine) not in UNFINISHED:
                    return mine
                shown.update(f"run {mine.run_id}: {state_of(mine).lower()} {mine.progress:.0%}")
            pause.wait(0.5)
    raise CliError(f"no verdict after {timeout_s:.0f} s (`millrace runs list {project}` shows the state)")
