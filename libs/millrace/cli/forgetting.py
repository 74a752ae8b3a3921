"""`millrace data forget|forgotten|reveal|revealed`: one entity out of everything, and encrypted values in the clear."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from millrace.cli.errors import CliError
from millrace.cli.options import DEFAULT_HOME, Actor, AsJson, Home, Project

app = typer.Typer(help="Personal data: forget an entity, see the proof, reveal fields.", no_args_is_help=True)

LOOK_AGAIN_S = 0.3
Reason = Annotated[str, typer.Option("--reason", help="Why; it is kept with the proof.", show_default=False)]
Wait = Annotated[float, typer.Option("--wait", help="Seconds to wait for the rooms; 0: do not wait.", min=0)]


@app.command()
def forget(
    entity: Annotated[str, typer.Argument(help="The entity's key, as its producers write it.", show_default=False)],
    project: Annotated[str, typer.Option("--project", "-p", help="The project.", show_default=False)],
    reason: Reason,
    fields: Annotated[
        list[str] | None,
        typer.Option("--field", help="Field that holds it (may be repeated); the predict entity's when not given."),
    ] = None,
    home: Home = DEFAULT_HOME,
    wait: Wait = 60.0,
    actor: Actor = "",
    as_json: AsJson = False,
) -> None:
    """Delete one entity from every store, and keep the proof. What arrives of it later is taken as new.

    Exit status 0 only when every room has answered twice; a room that is away answers when it is back, and
    `millrace data forgotten` shows when it did. Running it again asks for the same request.

    Examples:

      millrace data forget pump-17 --project sensors --reason "asked by its owner"

      millrace data forget jane@example.org -p shop --field customer --reason "erasure request 311" --wait 300
    """
    from millrace.cli.output import as_dict, emit_json
    from millrace.wire.ingestion.v1 import forgetting_pb2 as wire

    with _desk(home) as desk:
        asked = wire.ForgetRequest(project=project, entity=entity, fields=fields or [], reason=reason, actor=actor)
        status = desk.Forget(asked)
        status = _until_done(desk, status, wait, quiet=as_json)
    if as_json:
        emit_json(as_dict(status))
    else:
        _show(status)
    if not status.done_us:
        raise typer.Exit(1)


@app.command()
def forgotten(
    request: Annotated[str, typer.Argument(help="Id of a request; empty: all.")] = "",
    project: Annotated[str, typer.Option("--project", "-p", help="Of this project only.")] = "",
    entity: Annotated[str, typer.Option("--entity", help="Was this one forgotten? (with --project)")] = "",
    home: Home = DEFAULT_HOME,
    as_json: AsJson = False,
) -> None:
    """Show requests to forget: how far they are, what was deleted where, when the last byte is gone, and the proof.

    Exit status 1 when a request is not done, or its kept record does not give its proof any more.

    Examples:

      millrace data forgotten

      millrace data forgotten 019e1c8a-7d2f-7c40-9a53-1f0e5b6c7d8e

      millrace data forgotten --project shop --entity jane@example.org
    """
    from millrace.cli.output import as_dict, emit_json, show_table, when
    from millrace.wire.ingestion.v1 import forgetting_pb2 as wire

    if entity and not project:
        raise CliError("--entity needs --project: keys are told apart by project")
    with _desk(home) as desk:
        found = desk.Forgotten(wire.ForgottenRequest(id=request, project=project, entity=entity)).requests
    if as_json:
        emit_json([as_dict(one) for one in found])
    elif request:
        _show(found[0])
    else:
        rows = [
            (one.id, one.project, one.entity_digest[:12], when(one.asked_us), _state(one), _gone(one), one.reason)
            for one in found
        ]
        columns = ("request", "project", "entity (digest)", "asked", "state", "bytes gone by", "reason")
        show_table(columns, rows, empty="nothing was asked to be forgotten")
    if any(not one.done_us or not one.is_intact for one in found):
        raise typer.Exit(1)


@app.command()
def reveal(
    project: Project,
    source: Annotated[str, typer.Argument(help="Source of the event.", show_default=False)],
    entity: Annotated[str, typer.Argument(help="The event's key, as stored.", show_default=False)],
    values: Annotated[list[str], typer.Argument(help="Encrypted values, each field=enc:1:...", show_default=False)],
    reason: Reason,
    home: Home = DEFAULT_HOME,
    actor: Actor = "",
    as_json: AsJson = False,
) -> None:
    """Show encrypted values in the clear. Role admin; who asked, for what and why is kept (`millrace data revealed`).

    Examples:

      millrace data reveal shop orders o-17 'phone=enc:1:5kT0...' --reason "support case 42"
    """
    from millrace.cli.output import emit_json
    from millrace.wire.ingestion.v1 import forgetting_pb2 as wire

    fields = {}
    for text in values:
        name, equals, value = text.partition("=")
        if not name or not equals:
            raise CliError(f"{text}: it is field=value")
        fields[name] = value
    with _desk(home) as desk:
        shown = desk.Reveal(
            wire.RevealRequest(project=project, source=source, entity=entity, fields=fields, reason=reason, actor=actor)
        ).fields
    if as_json:
        emit_json(dict(shown))
    else:
        for name in sorted(shown):
            typer.echo(f"{name}: {shown[name]}")


@app.command()
def revealed(
    project: Annotated[str, typer.Option("--project", "-p", help="Of this project only.")] = "",
    home: Home = DEFAULT_HOME,
    as_json: AsJson = False,
) -> None:
    """List who saw which encrypted fields in the clear, newest first.

    Examples:

      millrace data revealed --project shop
    """
    from millrace.cli.output import as_dict, emit_json, show_table, when
    from millrace.wire.ingestion.v1 import forgetting_pb2 as wire

    with _desk(home) as desk:
        found = desk.Revealed(wire.RevealedRequest(project=project)).revelations
    if as_json:
        emit_json([as_dict(one) for one in found])
        return
    rows = [
        (
            when(one.revealed_us),
            one.actor,
            one.project,
            one.source,
            one.entity_digest[:12],
            ", ".join(one.fields),
            one.reason,
        )
        for one in found
    ]
    columns = ("when", "who", "project", "source", "entity (digest)", "fields", "reason")
    show_table(columns, rows, empty="nobody has looked")


@contextmanager
def _desk(home: Path) -> Iterator[Any]:
    import grpc

    from millrace.cli.places import require_room
    from millrace.cli.remote import dial, explain
    from millrace.wire.ingestion.v1 import forgetting_pb2_grpc

    place = require_room(home, "ingestion")
    with dial(place.grpc) as channel:
        try:
            stub: Any = forgetting_pb2_grpc.ForgettingStub(channel)  # type: ignore[no-untyped-call]
            yield stub
        except grpc.RpcError as error:
            raise explain(error, "ingestion", place.grpc) from error


def _until_done(desk: Any, status: Any, wait_s: float, *, quiet: bool) -> Any:
    """The request as it stands when it is done, or when the time is over."""
    from rich.progress import Progress

    from millrace.cli.output import console
    from millrace.wire.ingestion.v1 import forgetting_pb2 as wire

    screen = console(err=True)
    deadline_s = time.monotonic() + wait_s
    with Progress(console=screen, transient=True, disable=quiet or not screen.is_terminal) as progress:
        task = progress.add_task("forgetting", total=None)
        while not status.done_us and time.monotonic() < deadline_s:
            progress.update(task, description=_state(status))
            threading.Event().wait(LOOK_AGAIN_S)
            status = desk.Forgotten(wire.ForgottenRequest(id=status.id)).requests[0]
    return status


def _show(status: Any) -> None:
    from millrace.cli.output import console, table, when

    rows = [
        ("request", status.id),
        ("project", status.project),
        ("entity (digest)", status.entity_digest),
        ("fields", ", ".join(status.fields)),
        ("asked", f"{when(status.asked_us)} by {status.actor}: {status.reason}"),
        ("state", _state(status)),
        ("bytes gone by", _gone(status)),
    ]
    if status.proof:
        rows.append(("proof", status.proof + ("" if status.is_intact else " — THE KEPT RECORD DOES NOT GIVE IT")))
    console().print(table(("", ""), rows))
    console().print(table(("store", "deleted", "bytes gone by", "how"), list(_stores(status))))
    snapshots = {one.digest: one.by for receipt in status.receipts for one in receipt.snapshots}
    if snapshots:
        console().print(
            table(("snapshot", "superseded by"), [(old, new or "nothing") for old, new in snapshots.items()])
        )


def _stores(status: Any) -> Iterator[tuple[str, ...]]:
    """One row per store: what both rounds deleted, and the later of their times."""
    from millrace.cli.output import when

    found: dict[str, Any] = {}
    deleted: dict[str, int] = {}
    for receipt in status.receipts:
        for store in receipt.stores:
            name = f"{store.store} ({receipt.replica})" if receipt.replica != receipt.room else store.store
            deleted[name] = deleted.get(name, 0) + store.deleted
            if name not in found or store.deleted or store.gone_by_us > found[name].gone_by_us:
                found[name] = store
    for name, store in found.items():
        yield name, str(deleted[name]), when(store.gone_by_us), store.how


def _state(status: Any) -> str:
    from millrace.wire.ingestion.v1 import forgetting_pb2 as wire

    if status.done_us:
        return "done: every room has answered"
    name = {wire.Forget.ASKED: "deleting", wire.Forget.SWEPT: "deleting what was on its way"}.get(status.phase, "")
    return f"{name}: waiting for {', '.join(status.missing)}"


def _gone(status: Any) -> str:
    from millrace.cli.output import when

    return when(status.gone_by_us) if status.done_us else "not known yet"
