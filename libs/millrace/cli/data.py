"""`millrace publish` and `predict`."""

from __future__ import annotations

import csv
import itertools
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Annotated, Any

import typer

from millrace.cli.errors import CliError
from millrace.cli.options import DEFAULT_HOME, AsJson, Home, Project, time_of

app = typer.Typer()

BATCH_EVENTS = 500
"""One unary request: large enough to be fast, small enough that its verdicts stay one reply."""
MAX_SHOWN = 10
MAX_BUSY_RETRIES = 100


@app.command()
def publish(
    project: Project,
    source: Annotated[str, typer.Argument(help="Name of the source.", show_default=False)],
    file: Annotated[str, typer.Argument(help="NDJSON or CSV file; - reads standard input.", show_default=False)],
    home: Home = DEFAULT_HOME,
    form: Annotated[str, typer.Option("--format", help="ndjson or csv; by the file's ending when not given.")] = "",
    allow_quarantine: Annotated[
        bool, typer.Option("--allow-quarantine", help="Exit 0 also when events were quarantined.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Publish data events: each is judged by the source's contract; a bad one never holds back a good one.

    Sending the same file twice is harmless: repeated events are recognised.

    Examples:

      millrace publish sensors readings readings.ndjson

      zcat events.csv.gz | millrace publish sensors readings - --format csv
    """
    totals, refused = _publish(home, project, source, file, _format_of(file, form))
    if as_json:
        from millrace.cli.output import emit_json

        emit_json({**totals, "verdicts": refused})
    else:
        for verdict in refused:
            typer.echo(f"quarantined {verdict['id']}: {verdict['field']}: {verdict['reason']}", err=True)
        typer.echo(", ".join(f"{count} {name}" for name, count in totals.items()))
    if totals["quarantined"] and not allow_quarantine:
        raise typer.Exit(1)


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


def _publish(
    home: Path, project: str, source: str, file: str, form: str
) -> tuple[dict[str, int], list[dict[str, str]]]:
    from rich.progress import Progress

    from millrace.cli.output import console
    from millrace.cli.remote import stub

    totals = {"accepted": 0, "duplicates": 0, "quarantined": 0}
    refused: list[dict[str, str]] = []
    events = _events(home, project, source, file, form)
    screen = console(err=True)
    progress = Progress(console=screen, transient=True, disable=not screen.is_terminal)
    with stub(home, "ingestion") as ingestion, progress:
        task = progress.add_task(f"{project}.{source}", total=None)
        for batch in _batches(events):
            reply = _send(ingestion, project, source, batch)
            for name in totals:
                totals[name] += getattr(reply, name)
            refused += [_verdict(v) for v in reply.verdicts if _outcome(v) == "QUARANTINED"]
            del refused[MAX_SHOWN:]
            progress.update(task, description=f"{project}.{source}: {sum(totals.values()):,} events")
    return totals, refused


def _send(ingestion: Any, project: str, source: str, batch: list[bytes]) -> Any:
    """One request; repeated while the room says that it is full, as it asks."""
    import threading

    import grpc

    from millrace.wire.ingestion.v1 import service_pb2 as wire

    request = wire.PublishRequest(
        project=project, source=source, events=[wire.DataEvent(json=content) for content in batch]
    )
    for attempt in itertools.count(1):
        try:
            return ingestion.Publish(request)
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED or attempt > MAX_BUSY_RETRIES:
                raise
            trailing: Any = error.trailing_metadata() or ()
            said = dict(trailing)
            threading.Event().wait(float(said.get("retry-after-ms", 100)) / 1000)
    raise AssertionError("unreachable")


def _events(home: Path, project: str, source: str, file: str, form: str) -> Iterator[bytes]:
    """One JSON object per event. CliError names the line that is none."""
    if file != "-" and not Path(file).is_file():
        raise CliError(f"no file {file}")
    if form == "csv":
        yield from _csv_events(file, _number_fields(home, project, source))
        return
    with _open(file) as lines:
        for line in lines:
            if line.strip():
                yield line.strip().encode()


def _csv_events(file: str, kinds: dict[str, str]) -> Iterator[bytes]:
    with _open(file) as lines:
        for number, row in enumerate(csv.DictReader(lines), start=2):
            if None in row or None in row.values():
                raise CliError(f"{file}: line {number} has another number of cells than the head")
            yield json.dumps({name: _cell(text, kinds.get(name, "string")) for name, text in row.items()}).encode()


def _cell(text: str, kind: str) -> Any:
    """A CSV cell by its declared type; empty is null. What does not fit stays text: the contract then says so."""
    if text == "":
        return None
    try:
        if kind in ("number", "integer"):
            return int(text) if kind == "integer" else float(text)
    except ValueError:
        return text
    if kind == "boolean" and text.lower() in ("true", "false"):
        return text.lower() == "true"
    return int(text) if kind == "timestamp" and text.lstrip("-").isdigit() else text


def _number_fields(home: Path, project: str, source: str) -> dict[str, str]:
    """Field name to declared type, from the running definition."""
    from millrace.cli.remote import stub
    from millrace.definitions.canonical import from_canonical_json
    from millrace.wire.registry.v1 import service_pb2 as wire

    with stub(home, "registry") as registry:
        published = registry.GetDefinition(wire.GetDefinitionRequest(project=project))
    declared = from_canonical_json(published.canonical_json)
    try:
        return {field.name: str(field.type) for field in declared.source(source).fields}
    except KeyError as error:
        names = ", ".join(item.name for item in declared.sources)
        raise CliError(f"{project} has no source {source} (sources: {names})") from error


def _format_of(file: str, form: str) -> str:
    chosen = form or ("csv" if file.endswith(".csv") else "ndjson")
    if chosen not in ("csv", "ndjson"):
        raise CliError(f"--format {chosen}: it is ndjson or csv")
    return chosen


def _open(file: str) -> IO[str]:
    return sys.stdin if file == "-" else Path(file).open(encoding="utf-8", newline="")


def _batches(events: Iterable[bytes]) -> Iterator[list[bytes]]:
    remaining = iter(events)
    while batch := list(itertools.islice(remaining, BATCH_EVENTS)):
        yield batch


def _outcome(verdict: Any) -> str:
    from millrace.wire.ingestion.v1 import service_pb2 as wire

    return str(wire.Verdict.Outcome.Name(verdict.outcome))


def _verdict(verdict: Any) -> dict[str, str]:
    return {"id": verdict.id, "field": verdict.field, "reason": verdict.reason}


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
