"""The report as a table on the terminal."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from examples.flights.demo import pictures

Report = dict[str, Any]


def facts(report: Report) -> list[tuple[str, str]]:
    """The rows of the table, as text."""
    single, batch, predictions = report["latency_ms"]["single"], report["latency_ms"]["batch"], report["predictions"]
    rates = report["throughput"]
    return [
        ("events published", f"{report['input_rows']:,}; {rates['events_per_s']:,} per second, predictions included"),
        ("refused, in quarantine", f"{sum(report['quarantined'].values()):,}"),
        ("predictions answered", f"{predictions['answered']:,}, and {predictions['shadow']:,} shadow scores"),
        ("failed requests", f"{report['failed_requests']}, and {report['logged_failures']} in the log of predictions"),
        ("retried requests", f"{report['retried_requests']}: attempts that failed and were made again"),
        ("rows in ClickHouse", f"{predictions['in_clickhouse']:,}"),
        (
            "latency, one flight alone",
            f"p50 {single['p50']} ms, p99 {single['p99']} ms over {single['requests']:,} requests",
        ),
        (
            "latency, up to 16 flights",
            f"p50 {batch['p50']} ms, p99 {batch['p99']} ms over {batch['requests']:,} requests",
        ),
        ("serving plans", ", ".join(f"{r['epoch']} {r['cause']}" for r in report["releases"])),
        ("gate verdicts", "; ".join(f"{r['state']} ({', '.join(r['triggers'])})" for r in report["retrain"])),
        ("alerts fired", ", ".join(f"{n}× {rule}" for rule, n in Counter(a["rule"] for a in report["alerts"]).items())),
        ("rollback", _rollback(report["rollback"])),
        *_overall(report["auc_by_week"]),
        ("seconds", ", ".join(f"{name} {value}" for name, value in report["durations_s"].items())),
    ]


def _rollback(seen: Report) -> str:
    if not seen:
        return "none seen"
    return (
        f"version {seen['from']} → {seen['to']}, {seen['seconds_from_bad_release']} s after the news of the bad release"
    )


def _overall(weeks: list[Report]) -> list[tuple[str, str]]:
    if not weeks:
        return []
    rows = [week["rows"] for week in weeks]
    frozen, live = (float(np.average([week[k] for week in weeks], weights=rows)) for k in ("frozen", "continuous"))
    return [("AUC, mean of the weeks", f"{live:.3f} as answered, {frozen:.3f} for the frozen first model")]


def chain(report: Report) -> list[dict[str, str]]:
    """The causal chain with every text present."""
    return [{k: str(link.get(k, "")) for k in ("event_id", "event_type", "summary")} for link in report["chain"]]


def show(report: Report, page: Path, console: Console) -> None:
    """The one table, the weeks, the chain; then what went wrong and what was not seen, a line each."""
    table = Table("", "", show_header=False, box=None, padding=(0, 2, 0, 0))
    for name, value in facts(report):
        table.add_row(f"[bold]{name}[/]", escape(value))
    console.print(table)
    weeks = Table(
        "week of", "labelled answers", "late", "AUC as answered", "AUC of the first model", "versions", box=None
    )
    for week in report["auc_by_week"]:
        weeks.add_row(
            f"{pictures.day(week['start_us']):%d %b}",
            f"{week['rows']:,}",
            f"{week['late_rate']:.0%}",
            f"{week['continuous']:.3f}",
            f"{week['frozen']:.3f}",
            ", ".join(map(str, week["versions"])),
        )
    if report["auc_by_week"]:
        console.print(weeks)
    if report["chain"]:
        console.print("[bold]Why the rollback happened[/]")
    for depth, link in enumerate(chain(report)):
        console.print(f"{'  ' * depth}← {link['event_type']}: {link['summary']}", markup=False)
    console.print(f"report: {page}")
    for trouble in report["troubles"]:
        console.print(f"[bold red]failed:[/] {escape(trouble['during'])}: {escape(trouble['reason'])}", soft_wrap=True)
    for link in report["missing_links"]:
        console.print(f"[bold red]missing link:[/] {escape(link)}", soft_wrap=True)
