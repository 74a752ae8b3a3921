"""`millrace data profile`: a source's fields, its days, and what broke."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from millrace.cli.errors import CliError
from millrace.cli.options import DEFAULT_HOME, AsJson, Home, Project, time_of

if TYPE_CHECKING:
    from millrace.wire.ingestion.v1 import service_pb2 as wire

app = typer.Typer(help="Data: what came in, and whether it is what was expected.", no_args_is_help=True)

QUANTILES = ("1 %", "25 %", "50 %", "75 %", "99 %")


@app.command()
def profile(
    project: Project,
    source: Annotated[str, typer.Argument(help="Name of the source.", show_default=False)],
    home: Home = DEFAULT_HOME,
    day: Annotated[str, typer.Option("--day", help="Day of the project's clock, as 2026-07-01; default: newest.")] = "",
    days: Annotated[int, typer.Option("--days", min=1, max=400, help="Days before it that are listed.")] = 7,
    as_json: AsJson = False,
) -> None:
    """Show a source's day: volume, refusals by rule, a profile of each field, and the rules of windows that broke.

    Counts are exact; the number of distinct values is within a few percent, quantiles are within 2 %.

    Examples:

      millrace data profile sensors readings

      millrace data profile sensors readings --day 2026-07-01 --json
    """
    from millrace.cli.output import as_dict, emit_json
    from millrace.cli.remote import stub
    from millrace.wire.ingestion.v1 import service_pb2 as wire

    if day and (len(day) != 10 or day.isdigit()):
        raise CliError(f"--day {day}: write it as 2026-07-01")
    request = wire.ProfileRequest(project=project, source=source, day_us=time_of(day, "--day"), days=days)
    with stub(home, "ingestion") as ingestion:
        reply = ingestion.GetProfile(request)
    if as_json:
        emit_json(as_dict(reply))
        return
    _show(reply, day)


def _show(reply: wire.ProfileReply, asked: str) -> None:
    from millrace.cli.output import console, show_table, table, when

    if not reply.HasField("day"):
        typer.echo(f"nothing came from {reply.project}/{reply.source}" + (f" on {asked}" if asked else " yet"))
    else:
        total = reply.day.summary
        typer.echo(
            f"{reply.project}/{reply.source} on {when(total.start_us)[:10]}: {total.events:,} events,"
            f" {total.quarantined:,} refused, {total.null_share:.1%} of all values null"
        )
        portraits = {portrait.field: portrait for portrait in reply.day.fields}
        columns = ("field", "type", "null", "distinct", "mean", "std", "min", *QUANTILES, "max", "most frequent")
        rows = [_field(doc, portraits.get(doc.field)) for doc in reply.fields]
        console().print(table(columns, rows))
        broken = [(v.field, v.rule, f"{v.events:,}", v.example) for v in reply.day.violations]
        broken += [(b.finding.field, b.finding.rule, told(b.finding), b.finding.example) for b in reply.day.findings]
        show_table(("field", "rule", "broken", "example"), broken, empty="no rule was broken")
    lines = [
        (when(d.start_us)[:10], d.events, d.quarantined, f"{d.null_share:.1%}", d.broken) for d in reversed(reply.days)
    ]
    show_table(("day", "events", "refused", "null", "rules of windows broken"), lines, empty="no day was kept yet")


def told(finding: Any) -> str:
    """What a rule of windows measured, in words."""
    if finding.rule == "freshness":
        return f"{finding.measured:,.0f} s of silence (allowed {finding.allowed:,.0f} s)"
    if finding.rule == "null_share":
        return f"{finding.measured:.1%} of {finding.events:,} (allowed {finding.allowed:.1%})"
    return f"{finding.measured:,.0f} of {finding.events:,}"


def _field(doc: wire.FieldDoc, portrait: wire.FieldPortrait | None) -> list[Any]:
    from millrace.cli.output import when

    if portrait is None:
        return [doc.field, doc.type, *[""] * (len(QUANTILES) + 7)]
    null = f"{portrait.nulls / portrait.events:.1%}" if portrait.events else ""
    if doc.type == "timestamp" and portrait.HasField("min"):
        span = [when(int(portrait.min)), *[""] * len(QUANTILES), when(int(portrait.max))]
        return [doc.field, doc.type, null, f"{portrait.distinct:,}", "", "", *span, ""]
    numbers = [_number(portrait, name) for name in ("mean", "std", "min")]
    quantiles = [f"{value:.4g}" for value in portrait.quantiles] or [""] * len(QUANTILES)
    common = ", ".join(f"{f.text} ({f.events:,})" for f in portrait.common[:4])
    return [
        doc.field,
        doc.type,
        null,
        f"{portrait.distinct:,}",
        *numbers,
        *quantiles,
        _number(portrait, "max"),
        common,
    ]


def _number(portrait: wire.FieldPortrait, name: str) -> str:
    return f"{getattr(portrait, name):.4g}" if portrait.HasField(name) else ""
