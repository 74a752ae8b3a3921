"""From the story to `report.json`, the HTML page and the table on the terminal."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from google.protobuf.json_format import MessageToDict
from millrace.wire.inference.v1 import events_pb2 as inference
from rich.console import Console
from rich.table import Table

from examples.flights.demo import evidence, pictures
from examples.flights.demo.platform import Platform
from examples.flights.demo.story import Story
from examples.flights.demo.witness import Seen, Witness

Report = dict[str, Any]
ARRIVAL_DEADLINE_S = 30.0


async def gather(story: Story, witness: Witness) -> Report:
    """Everything that `.millrace/demo/report.json` carries, and the links that were not seen."""
    happened, platform = story.happened, story.platform
    outcome, bulk = happened.outcome, happened.bulk
    assert outcome is not None
    prefix = f"data.{story.project.name}."
    seconds = happened.rollback_wall_s - happened.bad_release_wall_s
    rollback = evidence.rollback_facts(witness, happened.bad_version, seconds)
    why = await platform.why(rollback["event_id"]) if rollback else None
    report: Report = {
        "input_rows": outcome.progress.events,
        "events": {t: bulk.counts[t] for t in sorted({*bulk.counts, *(prefix + s.name for s in story.project.sources)})}
        | dict(Counter(s.topic for s in witness.seen)),
        "releases": evidence.releases(witness),
        "predictions": _predictions(list(bulk.predictions.values()), outcome.asked, await _in_clickhouse(story)),
        "failed_requests": len(outcome.failures),
        "failures": outcome.failures[:20],
        "drift": [_alert(s) for s in witness.of("monitor.alerts") if s.payload.state == "firing"],
        "quarantined": dict(bulk.quarantined),
        "bad_version": happened.bad_version,
        "rollback": rollback,
        "retrain": evidence.verdicts(witness),
        "auc_by_week": evidence.auc_by_week(bulk, await _first_model(story)),
        "chain": [MessageToDict(link, preserving_proto_field_name=True) for link in why.links] if why else [],
        "chain_complete": bool(why and why.complete),
        "throughput": {"events_per_s": round(outcome.progress.events / happened.durations_s["replay"], 1)},
        "latency_ms": {"single": _latency(happened.single_latencies_s), "batch": _latency(outcome.latencies_s)},
        "durations_s": happened.durations_s,
        "timeline": evidence.marks(witness, happened.faults),
    }
    report["missing_links"] = evidence.missing_links(witness, bulk, report)
    return report


def write(report: Report, home: Path) -> Path:
    """Writes report.json and report.html below `home`; returns the page."""
    (home / "report.json").write_text(json.dumps(report, indent=2, default=str))
    figures = [
        ("AUC by week", pictures.auc_by_week(report["auc_by_week"])),
        ("What happened when", pictures.timeline(report["timeline"])),
    ]
    page = home / "report.html"
    page.write_text(pictures.page("Millrace: New York's flights of 2013", figures, facts(report), chain(report)))
    return page


def facts(report: Report) -> list[tuple[str, str]]:
    """The rows of the table, as text."""
    single, batch, predictions = report["latency_ms"]["single"], report["latency_ms"]["batch"], report["predictions"]
    rates = report["throughput"]
    return [
        ("events published", f"{report['input_rows']:,}; {rates['events_per_s']:,} per second, predictions included"),
        ("refused, in quarantine", f"{sum(report['quarantined'].values()):,}"),
        ("predictions answered", f"{predictions['answered']:,}, and {predictions['shadow']:,} shadow scores"),
        ("failed requests", f"{report['failed_requests']}"),
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
        ("alerts fired", ", ".join(f"{n}× {rule}" for rule, n in Counter(a["rule"] for a in report["drift"]).items())),
        ("rollback", _rollback(report["rollback"])),
        *_overall(report["auc_by_week"]),
        ("seconds", ", ".join(f"{name} {value}" for name, value in report["durations_s"].items())),
    ]


def _rollback(seen: Report) -> str:
    if not seen:
        return "none seen"
    return f"version {seen['from']} → {seen['to']}, {seen['seconds_from_bad_release']} s after the bad release"


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
    """The one table, the weeks, and the chain."""
    table = Table("", "", show_header=False, box=None, padding=(0, 2, 0, 0))
    for name, value in facts(report):
        table.add_row(f"[bold]{name}[/]", value)
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
    console.print(weeks)
    console.print("[bold]Why the rollback happened[/]")
    for depth, link in enumerate(chain(report)):
        console.print(f"{'  ' * depth}← {link['event_type']}: {link['summary']}", markup=False)
    console.print(f"report: {page}")


async def _in_clickhouse(story: Story) -> int:
    """Rows of the monitor's log, when all that is on the topic has arrived there or the deadline has passed."""
    wanted = len(story.happened.bulk.predictions)
    deadline = time.monotonic() + ARRIVAL_DEADLINE_S
    while True:
        found = await asyncio.to_thread(story.platform.count_predictions, story.project.name)
        if found >= wanted or time.monotonic() > deadline:
            return found
        await asyncio.sleep(0.2)


def _predictions(listed: list[inference.Prediction], asked: int, in_clickhouse: int) -> dict[str, int]:
    return {
        "asked": asked,
        "answered": sum(p.answered for p in listed),
        "shadow": sum(p.role == "shadow" for p in listed),
        "logged": len(listed),
        "in_clickhouse": in_clickhouse,
    }


def _alert(seen: Seen) -> Report:
    names = ("rule", "subject", "reason", "statistic", "threshold", "observations", "clock_us", "action")
    return {name: getattr(seen.payload, name) for name in names} | {"event_id": seen.event_id}


def _latency(latencies_s: list[float]) -> dict[str, float]:
    if not latencies_s:
        return {"p50": 0.0, "p99": 0.0, "requests": 0}
    p50, p99 = np.percentile(np.array(latencies_s) * 1000, [50, 99])
    return {"p50": round(float(p50), 2), "p99": round(float(p99), 2), "requests": len(latencies_s)}


async def _first_model(story: Story) -> evidence.Score:
    """Scores logged inputs with version 1, fetched from the registry by digest."""
    platform: Platform = story.platform
    first = await platform.version(story.project.name, story.project.model.name, 1)
    session = onnxruntime.InferenceSession(
        await platform.artifact(first.model_digest), providers=["CPUExecutionProvider"]
    )

    def score(rows: Any) -> np.ndarray:
        feeds = {}
        for wanted in session.get_inputs():
            cells = [row.get(wanted.name) for row in rows]
            if "string" in wanted.type:
                feeds[wanted.name] = np.array(["" if c is None else str(c) for c in cells], dtype=object)
            else:
                feeds[wanted.name] = np.array([np.nan if c is None else float(c) for c in cells], dtype=np.float32)
        return np.asarray(session.run(None, feeds)[0]).reshape(-1)

    return score
