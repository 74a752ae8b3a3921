"""`millrace runs list|show|compare|rerun`: what training came to, and why."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from millrace.cli.errors import CliError
from millrace.cli.options import DEFAULT_HOME, AsJson, Home, Limit

if TYPE_CHECKING:
    from millrace.wire.trainer.v1 import service_pb2

app = typer.Typer(help="Training runs: list, one with all that was found out, two beside each other.")

RunId = Annotated[str, typer.Argument(help="Run, as `millrace runs list` names it.", show_default=False)]
MODELS = ("candidate", "champion", "tried")  # first of the columns, where there are such


@app.command("list")
def list_runs(
    project: Annotated[str, typer.Argument(help="Project; empty: all.")] = "",
    home: Home = DEFAULT_HOME,
    limit: Limit = 20,
    as_json: AsJson = False,
) -> None:
    """List training runs, newest first.

    Examples:

      millrace runs list sensors --json
    """
    from millrace.cli.output import emit_json, show_table, when
    from millrace.cli.remote import stub
    from millrace.wire.trainer.v1 import service_pb2 as wire

    with stub(home, "trainer") as trainer:
        found = trainer.ListRuns(wire.ListRunsRequest(project=project, limit=limit)).runs
    if as_json:
        emit_json([run_dict(run) for run in found])
        return
    rows = [
        (run.run_id, run.project, state_of(run), f"{run.progress:.0%}", when(run.started_us), _metrics(run), run.reason)
        for run in found
    ]
    show_table(("run", "project", "state", "done", "started", "metrics", "reason"), rows, empty="no runs yet")


@app.command()
def show(run_id: RunId, home: Home = DEFAULT_HOME, as_json: AsJson = False) -> None:
    """Show a run: what it was made of, which rows it left out and why, what the gate asked and how it answered.

    Examples:

      millrace runs show 5e1c9a52-6f8e-5b0e-9d3a-2f6f3b1c7a10
    """
    from millrace.cli.output import console, emit_json, table, when

    run = read_run(home, run_id)
    report = read_report(run)
    if as_json:
        emit_json({**run_dict(run), "gate_report": report})
        return
    screen = console()
    typer.echo(f"{run.project}: {state_of(run)}\n{run.reason}\n")
    facts = [(name, value) for name, value in _facts(run, report) if value not in ("", 0)]
    screen.print(table(("what it was made of", ""), [(name, str(value)) for name, value in facts]))
    data = report.get("data", {})
    if data:
        against = f" held against run {data['reference']}" if data["reference"] else ", the first to be looked at"
        accepted = "; accepted as they are by a person" if data["accepted"] else ""
        more = f"; {data['stay_out']:,} older ones stay left out" if data["stay_out"] else ""
        typer.echo(f"{data['new_rows']:,} new rows{against}: {data['left_out']:,} left out{more}{accepted}\n")
        found = [
            (f["column"], f["rule"], when(f["from_us"]), when(f["to_us"]), f["rows"], f["words"])
            for f in (*data["findings"], *data["carried"])
        ]
        if found:
            screen.print(table(("column", "rule", "from", "to", "rows left out", "why"), found))
        if data["drifted"]:
            drifted = [(d["column"], d["psi"]) for d in data["drifted"]]
            screen.print(table(("drifted, and learned from", "stability index"), drifted))
    if report.get("checks"):
        asked = [("yes" if c["passed"] else "NO", c["name"], c["reason"]) for c in report["checks"]]
        screen.print(table(("passed", "the gate asked", "and found"), asked))
    if report.get("metrics"):
        screen.print(_metric_table(report["metrics"]))


@app.command()
def compare(run_id: RunId, other: RunId, home: Home = DEFAULT_HOME, as_json: AsJson = False) -> None:
    """Show where two runs differ: data, code, settings, environment, and each metric of their models.

    Examples:

      millrace runs compare 5e1c9a52-6f8e-5b0e-9d3a-2f6f3b1c7a10 0b7d4c1e-33c1-5a7b-8e34-1d0c55b0a9f2
    """
    from millrace.cli.output import emit_json, show_table

    runs = [read_run(home, run_id), read_run(home, other)]
    mine, its = (dict(_compared(run, read_report(run))) for run in runs)
    differing = {name: [mine.get(name, ""), its.get(name, "")] for name in {**mine, **its}}
    differing = {name: pair for name, pair in differing.items() if pair[0] != pair[1]}
    if as_json:
        emit_json({"runs": [run_id, other], "differ": differing})
        return
    rows = [(name, *(_short(value) for value in pair)) for name, pair in differing.items()]
    show_table(("differs", run_id, other), rows, empty="nothing that was kept of these runs differs")


@app.command()
def rerun(run_id: RunId, home: Home = DEFAULT_HOME, as_json: AsJson = False) -> None:
    """Make a run once more from its record alone, and hold what comes out against it: rows, verdict, model, metrics.

    Nothing is registered. Exit status 1 where something differs.

    Examples:

      millrace runs rerun 5e1c9a52-6f8e-5b0e-9d3a-2f6f3b1c7a10
    """
    from millrace.cli.output import as_dict, console, emit_json, table

    reply = _rerun(home, run_id)
    if as_json:
        emit_json(as_dict(reply))
    else:
        rows = [
            ("yes" if one.same else "NO" if one.decides else "no", one.what, one.before, "" if one.same else one.now)
            for one in reply.lines
        ]
        console().print(table(("same", "", "as recorded", "now, where it differs"), rows))
        if reply.note:
            typer.echo(reply.note)
        typer.echo("the run came out as recorded" if reply.same else "the run did NOT come out as recorded")
    if not reply.same:
        raise typer.Exit(1)


def _rerun(home: Path, run_id: str) -> service_pb2.RerunReply:
    from rich.progress import Progress

    from millrace.cli.output import console
    from millrace.cli.remote import stub
    from millrace.wire.trainer.v1 import service_pb2 as wire

    screen = console(err=True)
    progress = Progress(console=screen, transient=True, disable=not screen.is_terminal)
    reply = wire.RerunReply()
    with stub(home, "trainer") as trainer, progress:
        work = progress.add_task("asking", total=1.0)
        for told in trainer.Rerun(wire.RerunRequest(run_id=run_id)):
            progress.update(work, description=told.step, completed=told.share)
            reply = told.reply
    return reply


def state_of(run: service_pb2.Run) -> str:
    """The name of a run's state."""
    from millrace.wire.trainer.v1 import events_pb2

    return str(events_pb2.RunEvent.State.Name(run.state))


def run_dict(run: service_pb2.Run) -> dict[str, Any]:
    """A run as plain values."""
    from millrace.cli.output import as_dict

    return as_dict(run)


def read_run(home: Path, run_id: str) -> service_pb2.Run:
    """One run with all that is known of it."""
    from millrace.cli.remote import stub
    from millrace.wire.trainer.v1 import service_pb2 as wire

    with stub(home, "trainer") as trainer:
        found: wire.Run = trainer.GetRun(wire.GetRunRequest(run_id=run_id))
    return found


def read_report(run: service_pb2.Run) -> dict[str, Any]:
    """The gate report; empty before there is one. CliError when it cannot be read."""
    try:
        return dict(json.loads(run.gate_report_json or "{}"))
    except ValueError as error:
        raise CliError(f"the report of run {run.run_id} is not JSON: {error}") from error


def _facts(run: service_pb2.Run, report: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    from millrace.cli.output import when

    made = run.candidate
    yield "asked by", f"{', '.join(sorted(set(run.triggers)))} ({run.requests:,} requests)" if run.requests else ""
    yield "asked at (project's clock)", when(run.asked_us)
    yield "started", when(run.started_us)
    yield "finished", when(run.finished_us)
    yield "data snapshot", run.snapshot_digest
    yield "definition", run.definition_version
    yield "rows", ", ".join(f"{name} {rows:,}" for name, rows in report.get("rows", {}).items())
    yield "template", made.template
    yield "epochs", max((point.epoch for point in run.curve), default=0)
    yield "seed", made.seed
    yield "code", made.code_version
    yield "environment", report.get("environment", {}).get("digest", "")
    yield "model", made.model_digest
    yield "champion then", made.champion_version


def _compared(run: service_pb2.Run, report: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    yield "project", run.project
    yield "state", state_of(run)
    yield from _facts(run, report)
    for name, value in sorted(run.candidate.metrics.items()):
        yield f"metric {name}", value
    for name, value in sorted(report.get("environment", {}).items()):
        yield f"environment: {name}", json.dumps(value, sort_keys=True) if isinstance(value, dict | list) else value
    data = report.get("data", {})
    yield "rows left out", data["left_out"] + data["stay_out"] if data else ""
    yield "data accepted by a person", data.get("accepted", "")
    yield "data held against run", data.get("reference", "")
    for column in data.get("profile", {}).get("columns", []):
        yield f"data: {column['name']}", _in_short(column)


def _in_short(column: Mapping[str, Any]) -> str:
    """A column's profile in a few words."""
    missing = f"{column['missing']:.1%} missing"
    if not column["is_text"] and column["quantiles"]:
        low, *_, high = column["quantiles"]
        middle = column["quantiles"][len(column["quantiles"]) // 2]
        return f"{low:.4g} to {high:.4g}, median {middle:.4g}, {missing}"
    return ", ".join([*(f"{value} {share:.0%}" for value, share in column["top"][:3]), missing])


def models_of(metrics: Mapping[str, Any]) -> list[str]:
    """The models that were measured: the candidate and whom it would replace first."""
    return [*(name for name in MODELS if name in metrics), *sorted(name for name in metrics if name not in MODELS)]


def _metric_table(metrics: Mapping[str, Mapping[str, float]]) -> Any:
    from millrace.cli.output import table

    models = models_of(metrics)
    names = sorted({name for values in metrics.values() for name in values})
    rows = [(name, *(f"{metrics[m][name]:.4g}" if name in metrics[m] else "" for m in models)) for name in names]
    return table(("metric on the holdout", *models), rows)


def _metrics(run: service_pb2.Run) -> str:
    return " ".join(f"{name}={value:.4g}" for name, value in sorted(run.candidate.metrics.items()))


def _short(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
