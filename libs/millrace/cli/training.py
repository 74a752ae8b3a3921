"""`millrace training off|on|show`: the kill switches of training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from millrace.cli.errors import CliError
from millrace.cli.options import DEFAULT_HOME, Actor, AsJson, Home

app = typer.Typer(help="Switch training off and on, for a project or for all.", no_args_is_help=True)

EVERY = "*"

Which = Annotated[str, typer.Argument(help="Project; not with --all.")]
All = Annotated[bool, typer.Option("--all", help="Of every project, also of those to come.")]


@app.command()
def off(
    project: Which = "",
    every: All = False,
    reason: Annotated[str, typer.Option("--reason", help="Why; everybody who is held up is told.")] = "",
    home: Home = DEFAULT_HOME,
    actor: Actor = "",
    as_json: AsJson = False,
) -> None:
    """Switch training off: a run under way is stopped and put back, nothing starts, and what asks for a run waits.

    Requests that came meanwhile share one run when training is switched on again, and a run that was stopped goes on
    from its last checkpoint. A person's request is refused meanwhile.

    Examples:

      millrace training off sensors --reason "the upstream is broken"

      millrace training off --all --reason "costs"
    """
    _switch(home, _which(project, every), off=True, reason=reason, actor=actor, as_json=as_json)


@app.command()
def on(
    project: Which = "",
    every: All = False,
    reason: Annotated[str, typer.Option("--reason", help="Why.")] = "",
    home: Home = DEFAULT_HOME,
    actor: Actor = "",
    as_json: AsJson = False,
) -> None:
    """Switch training on again. A project stays off while all training is.

    Examples:

      millrace training on sensors
    """
    _switch(home, _which(project, every), off=False, reason=reason, actor=actor, as_json=as_json)


@app.command()
def show(home: Home = DEFAULT_HOME, as_json: AsJson = False) -> None:
    """Show what is switched off, by whom and why, and which requests wait for a run, and for what.

    Examples:

      millrace training show
    """
    from millrace.cli.output import as_dict, emit_json, show_table, when
    from millrace.cli.remote import stub
    from millrace.wire.trainer.v1 import service_pb2 as wire

    with stub(home, "trainer") as trainer:
        found = trainer.ListSwitches(wire.ListSwitchesRequest()).switches
        held = trainer.ListWaiting(wire.ListWaitingRequest())
    if as_json:
        waiting = [as_dict(request) for request in held.waiting]
        emit_json({"off": [as_dict(switch) for switch in found], "waiting": waiting, "waiting_total": held.total})
        return
    rows = [(_named(s.project), when(s.switched_us), s.actor, s.reason) for s in found]
    show_table(("off", "since", "by", "reason"), rows, empty="nothing is switched off")
    asked = [(w.project, w.trigger, when(w.asked_us), w.reason, w.waits_for) for w in held.waiting]
    show_table(("project", "asked by", "at", "reason", "waits for"), asked, empty="no request waits")
    if held.total > len(asked):
        typer.echo(f"{held.total:,} requests wait; the newest of each project are shown")


def _switch(home: Path, project: str, *, off: bool, reason: str, actor: str, as_json: bool) -> None:
    from millrace.cli.output import as_dict, emit_json
    from millrace.cli.remote import stub
    from millrace.wire.trainer.v1 import events_pb2, service_pb2

    wanted = events_pb2.TrainingSwitch(project=project, off=off, reason=reason, actor=actor)
    with stub(home, "trainer") as trainer:
        done = trainer.SwitchTraining(wanted)
        left = trainer.ListSwitches(service_pb2.ListSwitchesRequest()).switches
    if as_json:
        emit_json(as_dict(done))
        return
    typer.echo(f"training of {_named(done.project)} is {'off' if done.off else 'switched on'}")
    for still in left:
        if not off and still.project != done.project and EVERY in (still.project, done.project):
            typer.echo(f"still off: {_named(still.project)} ({still.reason})")


def _which(project: str, every: bool) -> str:
    if bool(project) == every:
        raise CliError("name a project, or say --all for every one")
    return EVERY if every else project


def _named(project: str) -> str:
    return "all projects" if project == EVERY else project
