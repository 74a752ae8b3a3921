"""`millrace shadow`: the room's code of today over a range of the log, beside what is live."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from millrace.cli import places, repository
from millrace.cli.errors import CliError
from millrace.cli.options import DEFAULT_HOME, AsJson, Home, Project, time_of

if TYPE_CHECKING:
    from millrace.bus.shadow import ShadowPlan
    from millrace.definitions.model import Project as DeclaredProject
    from millrace.runtime.definitions import Definition

app = typer.Typer()

ROOM = "feature_store"
LOOK_AGAIN_S = 0.2
STOP_GRACE_S = 60.0
READ_DEADLINE_S = 30.0
DROP_S = 600.0


@app.command()
def shadow(
    project: Project,
    source: Annotated[list[str] | None, typer.Option("--source", help="Only this source; may be repeated.")] = None,
    start: Annotated[str, typer.Option("--from", help="First offset, or visible time (ISO 8601, UTC).")] = "",
    end: Annotated[str, typer.Option("--to", help="Offset or visible time before which to end; empty: now.")] = "",
    name: Annotated[
        str, typer.Option("--name", help="What the shadow is called.", show_default="made of the time")
    ] = "",
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave the shadow's keys, tables and topics to look at.")
    ] = False,
    home: Home = DEFAULT_HOME,
    as_json: AsJson = False,
) -> None:
    """Replay a range of a project's events into a shadow of the feature store, and compare it with what is live.

    The feature store as it is installed here reads the range again, in a group of its own, into online rows and history
    tables of its own; the live room goes on. History is compared by event in the range. Online rows hold all that went
    before, so they are compared only when the range begins with the log; without --to the shadow follows the live room
    until both stand at one offset. What was kept goes when a shadow of that name is run without --keep. Exit status 1
    when something differs.

    Examples:

      millrace shadow stations

      millrace shadow stations --source readings --from 2010-05-01 --to 2010-05-08 --json

      millrace shadow stations --from 100 --to 200 --keep
    """
    from millrace.cli.output import emit_json

    plan = _plan(home, project, source or [], _bound(start, "--from"), _bound(end, "--to"), name, keep)
    if not plan.records:
        raise CliError(f"the range holds no record of {project}", details=[f"topics: {', '.join(sorted(plan.topics))}"])
    folder = home.resolve() / "shadow" / plan.name
    try:
        found = _run(home, folder, plan)
    finally:
        if not keep:
            _remove_topics(home, plan)
    if found.get("error"):
        raise CliError(found["error"])
    if not keep:
        shutil.rmtree(folder, ignore_errors=True)
    found["name"] = plan.name
    if as_json:
        emit_json(found)
    else:
        _show(found, plan, keep)
    if not found["same"]:
        raise typer.Exit(1)


def _bound(text: str, option: str) -> tuple[str, int]:
    if not text:
        return ("all", 0)
    return ("offset", int(text)) if text.isdigit() else ("time", time_of(text, option))


def _plan(
    home: Path,
    project: str,
    sources: list[str],
    start: tuple[str, int],
    end: tuple[str, int],
    name: str,
    keep: bool,
) -> ShadowPlan:
    """What is replayed. CliError: no such project or source, a name that will not do."""
    from millrace.bus.ranges import choose_ranges
    from millrace.bus.shadow import ShadowPlan, checked_name
    from millrace.bus.topics import data_topic
    from millrace.cli.topic_commands import ask
    from millrace.runtime.errors import ConfigurationError

    running = _definition(home, project)
    fed = [one.name for one in running.sources if running.views_of(one.name)]
    unknown = [one for one in sources if one not in fed]
    if unknown:
        raise CliError(f"{project} has no source {unknown[0]} that feeds a view (there are: {', '.join(fed)})")
    topics = [data_topic(project, one) for one in sources or fed]
    states = ask(home, lambda inspection: inspection.topics())
    missing = [topic for topic in topics if topic not in states]
    if missing:
        raise CliError(f"there is no topic {missing[0]} yet: nothing was published to it")
    client = places.kafka_client(home)
    counts = {topic: states[topic].partitions for topic in topics}
    ranges = ask(home, lambda inspection: choose_ranges(client, counts, start, end))
    try:
        chosen = checked_name(name or f"s{time.time_ns() // 1_000_000}")
    except ConfigurationError as error:
        raise CliError(str(error)) from error
    return ShadowPlan(chosen, project, ranges, follows=end[0] == "all", keeps=keep)


def _definition(home: Path, project: str) -> DeclaredProject:
    """As last published: the shadow's room reads it in the same place. CliError when there is none."""
    from millrace.bus.errors import BusUnavailable, NotReady
    from millrace.bus.kafka import KafkaBus
    from millrace.cli.topics import quiet
    from millrace.runtime.definitions import DefinitionBook

    quiet()
    bootstrap, security = places.require_kafka(home), places.kafka_security()

    async def read() -> dict[str, Definition]:
        bus = KafkaBus(bootstrap, "millrace-cli", security)
        book = DefinitionBook(bus)
        following = asyncio.ensure_future(book.run())
        try:
            await book.wait_ready(READ_DEADLINE_S)
            return dict(book.projects)
        finally:
            following.cancel()
            await asyncio.wait([following])
            await bus.stop()

    try:
        known = asyncio.run(read())
    except (BusUnavailable, NotReady) as error:
        raise CliError(f"Kafka at {bootstrap} did not give the definitions: {error}") from error
    if project not in known:
        raise CliError(f"no project {project} (there are: {', '.join(sorted(known)) or 'none'})")
    return known[project].project


def _run(home: Path, folder: Path, plan: ShadowPlan) -> dict[str, Any]:
    """What the shadow found. CliError when it did not come so far."""
    if not repository.on_path():
        raise CliError(f"the {ROOM} is not installed here: run in the repository, or install millrace-platform")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "shadow.json").unlink(missing_ok=True)
    (folder / "plan.json").write_text(plan.to_json(), encoding="utf-8")
    log = folder / f"{ROOM}.log"
    with log.open("wb") as output:
        child = subprocess.Popen(
            [sys.executable, "-m", f"services.{ROOM}"],
            env=_environment(home, folder),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # a Ctrl-C is ours to hand on, once
        )
    try:
        found = _follow(child, folder, plan)
    finally:
        if child.poll() is None:
            child.send_signal(signal.SIGTERM)
        try:
            child.wait(STOP_GRACE_S + DROP_S)
        except subprocess.TimeoutExpired:
            child.kill()
    if not found.get("done"):
        last = log.read_text(errors="replace").strip().splitlines()[-1:]
        raise CliError(f"the shadow ended with status {child.returncode}; see {log}", details=last)
    return found


def _environment(home: Path, folder: Path) -> dict[str, str]:
    """The live room's neighbours, with a home, ports and a plan of its own."""
    known = {
        places.PART_SETTINGS[part]: places.part(home, part)[0] for part in places.PARTS if places.part(home, part)[0]
    }
    # Only training sets ask labeling, and a shadow makes none.
    labeling = places.room(home, "labeling").grpc or "127.0.0.1:1"
    paths = [os.environ.get("PYTHONPATH", ""), *(entry for entry in sys.path if entry)]
    return {
        **os.environ,
        **known,
        "MILLRACE_LABELING_ADDRESS": labeling,
        "MILLRACE_HOME": str(folder),
        "MILLRACE_GRPC_BIND": "127.0.0.1:0",
        "MILLRACE_HTTP_BIND": "127.0.0.1:0",
        "MILLRACE_DRAIN_S": str(DROP_S),
        "MILLRACE_FEATURE_STORE_SHADOW_FILE": str(folder / "plan.json"),
        "PYTHONPATH": os.pathsep.join(dict.fromkeys(path for path in paths if path)),
    }


def _follow(child: subprocess.Popen[bytes], folder: Path, plan: ShadowPlan) -> dict[str, Any]:
    """Shows how far it is, until it has said its last word or ended."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from millrace.cli.output import console

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console(err=True)) as progress:
        task = progress.add_task("starting", total=plan.records)
        while True:
            ended = child.poll() is not None
            said = _read(folder / "shadow.json")
            if said.get("done") or ended:
                return said
            if said:
                total = said["of"] or None
                progress.update(task, description=said["phase"], completed=said["records"], total=total)
            threading.Event().wait(LOOK_AGAIN_S)


def _read(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content


def _remove_topics(home: Path, plan: ShadowPlan) -> None:
    """What the shadow published: late events, dead letters. The counts are in its report."""
    from millrace.cli.topic_commands import ask

    prefix = plan.topic("")
    names = [name for name in ask(home, lambda inspection: inspection.topics()) if name.startswith(prefix)]
    if names:
        ask(home, lambda inspection: inspection.remove(names))


def _show(found: Mapping[str, Any], plan: ShadowPlan, keep: bool) -> None:
    from rich.text import Text

    from millrace.cli.output import console, table

    good, bad = Text("same", style="green"), Text("differs", style="bold red")
    rows = []
    examples: list[str] = []
    for kind in ("history", "online"):
        for one in found[kind]:
            same = not (one["differing"] or one["missing"] or one["extra"])
            word = (good if one["equal"] or not one["why"] else Text("not compared", style="yellow")) if same else bad
            counts = (one["equal"], one["differing"], one["missing"], one["extra"], one["not_compared"])
            rows.append((word, kind, one["what"], *counts, one["why"]))
            examples += one["examples"]
    columns = ("", "kind", "what", "equal", "differing", "missing", "extra", "not compared", "why")
    console().print(table(columns, rows))
    for example in examples[:10]:
        typer.echo(f"  {example}")
    letters = f", {found['dead_letters']:,} dead letters" if found["dead_letters"] else ""
    typer.echo(f"{plan.records:,} records replayed{letters}" + (f"; kept as {plan.name}" if keep else ""))
