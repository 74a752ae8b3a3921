"""`millrace events tail|why`, `millrace alerts`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Any

import typer

from millrace.cli.options import DEFAULT_HOME, AsJson, Home, Limit

if TYPE_CHECKING:
    from rich.tree import Tree

app = typer.Typer(help="The platform's events: watch them, or ask why one happened.", no_args_is_help=True)
top = typer.Typer()


@app.command()
def tail(
    topic: Annotated[str, typer.Argument(help="Topic; empty: all topics of the platform itself.")] = "",
    home: Home = DEFAULT_HOME,
    count: Annotated[int, typer.Option("--lines", "-n", min=0, max=100_000, help="So many of the past.")] = 10,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with new ones until Ctrl-C.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show events with their payloads decoded.

    Examples:

      millrace events tail models.events -n 20

      millrace events tail --follow --json | jq 'select(.type | contains("alert"))'
    """
    from millrace.bus.topics import load_topics
    from millrace.cli import topics
    from millrace.cli.output import console, emit_json_line
    from millrace.cli.places import kafka_client

    screen = console()

    def show(record: Any) -> None:
        event = topics.record_dict(record)
        if as_json:
            emit_json_line(event)
        else:
            screen.print(_line(event), markup=False, soft_wrap=True)

    names = [topic] if topic else [spec.name for spec in load_topics().static()]
    try:
        asyncio.run(topics.read_last(kafka_client(home), names, count, show, follow=follow))
    except KeyboardInterrupt:
        return


@app.command()
def why(
    event_id: Annotated[str, typer.Argument(help="Id of the event.", show_default=False)],
    home: Home = DEFAULT_HOME,
    as_json: AsJson = False,
) -> None:
    """Show the causal chain of an event, back to the data snapshot.

    Examples:

      millrace events why 2f0c6a52-9f1e-5d55-8d8e-0f6a7c9e1b11
    """
    from millrace.cli.output import as_dict, console, emit_json
    from millrace.cli.remote import stub
    from millrace.wire.monitor.v1 import service_pb2 as wire

    with stub(home, "monitor") as monitor:
        reply = monitor.Why(wire.WhyRequest(event_id=event_id))
    if as_json:
        emit_json(as_dict(reply))
    else:
        console().print(chain_tree(reply))


@top.command()
def alerts(
    project: Annotated[str, typer.Argument(help="Project; empty: all.")] = "",
    home: Home = DEFAULT_HOME,
    everything: Annotated[bool, typer.Option("--all", help="Also those that are over.")] = False,
    limit: Limit = 50,
    as_json: AsJson = False,
) -> None:
    """List alerts; open ones only unless --all.

    Examples:

      millrace alerts sensors --all
    """
    from millrace.cli.output import as_dict, emit_json, show_table, when
    from millrace.cli.remote import stub
    from millrace.wire.monitor.v1 import service_pb2 as wire

    with stub(home, "monitor") as monitor:
        request = wire.ListAlertsRequest(project=project, open_only=not everything, limit=limit)
        found = monitor.ListAlerts(request).alerts
    if as_json:
        emit_json([as_dict(alert) for alert in found])
        return
    rows = [
        (a.project, a.rule, a.subject, a.state, a.severity, when(a.since_us), a.action, a.reason, a.event_id)
        for a in found
    ]
    columns = ("project", "rule", "subject", "state", "severity", "since", "action", "reason", "event")
    show_table(columns, rows, empty="no alerts" if everything else "no open alerts")


def chain_tree(reply: Any) -> Tree:
    """The chain as a tree: each link hangs below the event that it caused."""
    from rich.text import Text
    from rich.tree import Tree

    links = list(reply.links)
    placed: dict[str, Tree] = {}
    root: Tree | None = None
    for link in links:
        label = Text.assemble((link.event_type, "bold"), "  ", (link.event_id, "dim"), "\n", _summary(link))
        parent = next((placed[seen.event_id] for seen in links if _caused(link, seen, placed)), None)
        if parent is None:
            node = root.add(label) if root is not None else Tree(label)
            root = root or node
        else:
            node = parent.add(label)
        placed[link.event_id] = node
    tree = root or Tree("no events")
    if not reply.complete:
        tree.add(Text("an earlier cause is not known here (yet)", style="yellow"))
    return tree


def _caused(cause: Any, effect: Any, placed: dict[str, Tree]) -> bool:
    return effect.event_id in placed and effect.causation_id == cause.event_id


def _summary(link: Any) -> str:
    from millrace.cli.output import when

    parts = [when(link.time_us), link.source or link.topic, link.subject, link.summary]
    return " · ".join([part for part in parts if part] + ([f"by {link.actor}"] if link.actor else []))


def _line(event: dict[str, Any]) -> str:
    import json

    where = f"{event['topic']}[{event['partition']}]@{event['offset']}"
    data = json.dumps(event["data"], default=str)
    return f"{event['time']}  {where}  {event['type'] or 'foreign'}  {event['key']}  {event['id']}\n    {data[:400]}"
