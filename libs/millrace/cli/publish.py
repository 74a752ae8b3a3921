"""`millrace publish`: files of events, with progress, taken up again where a run was stopped."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from millrace.cli.errors import CliError
from millrace.cli.options import DEFAULT_HOME, AsJson, Home, Project

if TYPE_CHECKING:
    from millrace.client.files import EventFile
    from millrace.client.journal import Journal
    from millrace.client.upload import Uploaded

app = typer.Typer()

FOLDER = "publish"
"""Below the home: how far each file has been published. It goes when the platform's own data goes."""
LINE_EVERY_S = 10.0
INTERRUPTED = 130
Counts = dict[str, Any]


@app.command()
def publish(
    project: Project,
    source: Annotated[str, typer.Argument(help="Name of the source.", show_default=False)],
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE...",
            help="NDJSON, CSV or Parquet; .gz is unpacked; - reads standard input.",
            show_default=False,
        ),
    ],
    home: Home = DEFAULT_HOME,
    form: Annotated[
        str, typer.Option("--format", help="ndjson, csv or parquet; by the file's ending when not given.")
    ] = "",
    rejects: Annotated[
        Path | None, typer.Option("--rejects", help="Write each refused row here, with its reason (NDJSON).")
    ] = None,
    restart: Annotated[
        bool, typer.Option("--restart", help="From the first row, whatever was published before.")
    ] = False,
    allow_quarantine: Annotated[
        bool, typer.Option("--allow-quarantine", help="Exit 0 also when events were quarantined.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Publish data events: each is judged by the source's contract; a bad one never holds back a good one.

    A run that was stopped, or killed, goes on behind the last row that was answered for; so does a file that has grown.
    What was sent and not answered is sent again, and recognised. A file that has changed otherwise is not published
    without --restart. Standard input is always published whole.

    Examples:

      millrace publish sensors readings readings.ndjson --rejects refused.ndjson

      zcat events.csv.gz | millrace publish sensors readings - --format csv
    """
    import asyncio

    from millrace.cli.output import emit_json
    from millrace.client.errors import ClientError

    told = []
    for file in files:
        wanted = _Wanted(home, project, source, file, form, _rejects(rejects, file, files), restart)
        try:
            told.append(asyncio.run(_publish(wanted)))
        except ClientError as error:
            raise CliError(str(error)) from error
        except KeyboardInterrupt:
            raise CliError(
                f"{file}: stopped; the same command goes on behind the last row that was answered for",
                status=INTERRUPTED,
            ) from None
        if not as_json:
            _tell(file if len(files) > 1 else "", told[-1], rejects)
    if as_json:
        emit_json(told[0] if len(told) == 1 else told)
    if any(counts["quarantined"] for counts in told) and not allow_quarantine:
        raise typer.Exit(1)


@dataclass(frozen=True)
class _Wanted:
    """One file and what to do with it."""

    home: Path
    project: str
    source: str
    file: str
    form: str
    rejects: Path | None
    restart: bool


async def _publish(wanted: _Wanted) -> Counts:
    from millrace.client.files import STDIN, EventFile, format_of
    from millrace.client.journal import Journal

    form = format_of(wanted.file, wanted.form)
    kinds = _kinds(wanted.home, wanted.project, wanted.source) if form == "csv" else {}
    folder = wanted.home / FOLDER if wanted.file != STDIN else None
    with (
        EventFile(wanted.file, form, kinds) as events,
        Journal(folder, wanted.file, wanted.project, wanted.source) as journal,
    ):
        if wanted.restart:
            journal.restart()
        began = time.monotonic()
        done = await _upload(wanted, journal, events)
    return _counts(done, time.monotonic() - began)


async def _upload(wanted: _Wanted, journal: Journal, events: EventFile) -> Uploaded:
    from millrace.cli.places import require_room
    from millrace.client.upload import Rejects, Upload
    from millrace.runtime.channels import open_channel, outgoing_metadata
    from millrace.wire.ingestion.v1 import service_pb2_grpc

    authority, token = os.environ.get("MILLRACE_TLS_CA", ""), os.environ.get("MILLRACE_TOKEN", "")
    channel = open_channel(
        require_room(wanted.home, "ingestion").grpc,
        root_certificates=_read(authority) if authority else None,
        secure=bool(authority),
        is_bare=True,
    )
    stub: Any = service_pb2_grpc.IngestionStub(channel)  # type: ignore[no-untyped-call]
    refused = Rejects(wanted.rejects, journal.place) if wanted.rejects is not None else None
    try:
        with _Shown(events) as shown:
            upload = Upload(
                lambda: stub.PublishStream(metadata=outgoing_metadata(token)),
                events,
                journal.place,
                save=journal.save,
                rejects=refused,
                on_progress=shown.show,
            )
            return await upload.run()
    finally:
        if refused is not None:
            refused.close()
        await channel.close(None)


def _read(path: str) -> bytes:
    return Path(path).read_bytes()


class _Shown:
    """A bar on a terminal; elsewhere a line every few seconds, on stderr."""

    def __init__(self, events: EventFile) -> None:
        from millrace.cli.output import console

        self._events = events
        self._screen = console(err=True)
        self._said_s = self._began_s = time.monotonic()
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> _Shown:
        if self._screen.is_terminal:
            from rich.progress import (
                BarColumn,
                DownloadColumn,
                Progress,
                TextColumn,
                TimeRemainingColumn,
                TransferSpeedColumn,
            )

            text = TextColumn("{task.description}")
            columns = (text, BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
            self._bar = Progress(*columns, console=self._screen, transient=True)
            self._task = self._bar.add_task(self._events.name, total=self._events.size_bytes or None)
            self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.stop()

    def show(self, done: Uploaded) -> None:
        """Where the run is."""
        if self._bar is not None:
            self._bar.update(self._task, description=self._rows(done), completed=self._events.position_bytes)
        elif time.monotonic() - self._said_s >= LINE_EVERY_S:
            self._said_s = time.monotonic()
            share = self._events.position_bytes / self._events.size_bytes if self._events.size_bytes else 0.0
            typer.echo(self._rows(done) + (f", {share:.0%} of the file" if share else ""), err=True)

    def _rows(self, done: Uploaded) -> str:
        if not done.rows:
            return f"{self._events.name}: {done.skipped_rows:,} rows published before"
        rate = done.rows / max(time.monotonic() - self._began_s, 0.001)
        retried = f", {done.retries} retries" if done.retries else ""
        return f"{self._events.name}: {done.skipped_rows + done.rows:,} rows, {rate:,.0f}/s{retried}"


def _counts(done: Uploaded, took_s: float) -> Counts:
    """`rows` = `accepted` + `duplicates` + `quarantined`, over all runs of the file."""
    place = done.place
    return {
        "file": place.file,
        "rows": place.rows,
        "accepted": place.accepted,
        "duplicates": place.duplicates,
        "quarantined": place.quarantined,
        "published_before": done.skipped_rows,
        "seconds": round(took_s, 2),
        "verdicts": [{"row": r.row, "id": r.id, "field": r.field, "reason": r.reason} for r in done.refused],
    }


def _tell(file: str, counts: Counts, rejects: Path | None) -> None:
    for verdict in counts["verdicts"]:
        typer.echo(f"quarantined row {verdict['row']} ({verdict['id']}): {_why(verdict)}", err=True)
    more = counts["quarantined"] - len(counts["verdicts"])
    if more > 0 and counts["verdicts"]:
        typer.echo(
            f"and {more:,} more rows; {f'all are in {rejects}' if rejects else '--rejects FILE has them all'}", err=True
        )
    summary = ", ".join(f"{counts[name]:,} {name}" for name in ("accepted", "duplicates", "quarantined"))
    before = f"; {counts['published_before']:,} of them by earlier runs" if counts["published_before"] else ""
    if counts["rows"] and counts["rows"] == counts["published_before"]:
        before = "; all of them by earlier runs, nothing new (--restart publishes it again)"
    typer.echo(f"{file + ': ' if file else ''}{counts['rows']:,} rows: {summary}{before}")


def _why(verdict: Mapping[str, Any]) -> str:
    return f"{verdict['field']}: {verdict['reason']}" if verdict["field"] else str(verdict["reason"])


def _rejects(rejects: Path | None, file: str, files: list[str]) -> Path | None:
    """Each of several files has its own."""
    if rejects is None or len(files) == 1:
        return rejects
    return rejects.with_name(f"{rejects.stem}-{Path(file).name}{rejects.suffix}")


def _kinds(home: Path, project: str, source: str) -> dict[str, str]:
    """Field name to declared type, from the running definition."""
    from millrace.cli.remote import definition

    declared = definition(home, project)
    try:
        return {field.name: str(field.type) for field in declared.source(source).fields}
    except KeyError as error:
        names = ", ".join(item.name for item in declared.sources)
        raise CliError(f"{project} has no source {source} (sources: {names})") from error
