"""`millrace predict`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from millrace.cli.errors import CliError
from millrace.cli.options import DEFAULT_HOME, AsJson, Home, Project, time_of

app = typer.Typer()


@app.command()
def predict(
    project: Project,
    entities: Annotated[list[str], typer.Argument(help="Entity keys.", show_default=False)],
    home: Home = DEFAULT_HOME,
    moment: Annotated[str, typer.Option("--moment", help="Prediction moment, ISO 8601 in UTC; empty: now.")] = "",
    column: Annotated[
        list[str] | None, typer.Option("--set", help="Request-time column, name=value (may be repeated).")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Ask for predictions by entity key. Exit status 1 when one of them has no answer.

    Examples:

      millrace predict sensors pump-17

      millrace predict sensors pump-17 pump-18 --moment 2026-07-01T05:00:00 --json
    """
    from millrace.cli.output import as_dict, emit_json, show_table
    from millrace.cli.remote import stub
    from millrace.wire.common.v1 import common_pb2
    from millrace.wire.inference.v1 import service_pb2 as wire

    row = common_pb2.Row(columns=dict(_column(text) for text in column or []))
    items = [wire.PredictItem(entity=entity, moment_us=time_of(moment, "--moment"), request=row) for entity in entities]
    with stub(home, "inference") as inference:
        reply = inference.Predict(wire.PredictRequest(project=project, items=items))
    if as_json:
        emit_json(as_dict(reply))
    else:
        rows = [(a.entity, a.error or f"{a.value:.6g}", a.model, a.version, a.variant) for a in reply.answers]
        show_table(("entity", "prediction", "model", "version", "variant"), rows, empty="no answers")
    if any(answer.error for answer in reply.answers):
        raise typer.Exit(1)


def _column(text: str) -> tuple[str, Any]:
    from millrace.wire.common.v1 import common_pb2

    name, equals, value = text.partition("=")
    if not equals or not name:
        raise CliError(f"--set {text}: it is name=value")
    if value == "":
        return name, common_pb2.Value()
    try:
        return name, common_pb2.Value(number=float(value))
    except ValueError:
        return name, common_pb2.Value(text=value)
