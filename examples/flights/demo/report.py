"""From the story to `report.json` and the HTML page."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import onnxruntime
from google.protobuf.json_format import MessageToDict
from millrace.wire.inference.v1 import events_pb2 as inference

from examples.flights.demo import evidence, links, pictures
from examples.flights.demo.bars import Step
from examples.flights.demo.platform import Platform
from examples.flights.demo.story import Happened, Story
from examples.flights.demo.table import chain, facts
from examples.flights.demo.trouble import Trouble
from examples.flights.demo.witness import Seen, Witness

Report = dict[str, Any]
T = TypeVar("T")
ARRIVAL_DEADLINE_S = 30.0
MOST_FAILURES = 20  # told one by one; all are counted


async def gather(story: Story, witness: Witness, step: Step) -> Report:
    """Everything that `.millrace/demo/report.json` carries, and the links that were not seen.

    What the platform does not answer any more is left empty and told under `troubles`.
    """
    happened, bulk = story.happened, story.happened.bulk
    rollback_s = happened.rollback_wall_s - happened.bad_release_wall_s
    rollback = evidence.rollback_facts(witness, happened.bad_version, rollback_s)
    asked = _Questions(story.platform, happened.troubles)
    in_clickhouse = await asked.rows_in_clickhouse(story.project.name, len(bulk.predictions), step)
    why = await asked.why(rollback["event_id"]) if rollback else None
    frozen = await asked.first_model(witness)
    step.at(0, None, "AUC by week")
    alerts = [_alert(s) for s in links.firing(witness)]
    report: Report = {
        "events": _events(story, witness),
        "releases": evidence.releases(witness),
        "predictions": _predictions(happened, in_clickhouse),
        **_requests(happened),
        "alerts": alerts,
        "drift": [alert for alert in alerts if alert["rule"] in links.DRIFT_RULES],
        "quarantined": dict(bulk.quarantined),
        "bad_version": happened.bad_version,
        "rollback": rollback,
        "retrain": evidence.verdicts(witness),
        "auc_by_week": evidence.auc_by_week(bulk, frozen) if frozen else [],
        "chain": [MessageToDict(link, preserving_proto_field_name=True) for link in why.links] if why else [],
        "chain_complete": bool(why and why.complete),
        "durations_s": happened.durations_s,
        "timeline": evidence.marks(witness, happened.faults),
        "troubles": [asdict(trouble) for trouble in happened.troubles],
    }
    report["missing_links"] = links.missing_links(witness, bulk, report, happened.faults)
    return report


def exit_status(report: Report) -> int:
    """0 only when every link of the loop was seen and nothing ended early."""
    return 1 if report["missing_links"] or report["troubles"] else 0


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


class _Questions:
    """What is asked of the platform itself; one that is not answered is noted in `troubles`."""

    def __init__(self, platform: Platform, troubles: list[Trouble]) -> None:
        self._platform = platform
        self._troubles = troubles

    async def rows_in_clickhouse(self, project: str, wanted: int, step: Step) -> int:
        """Rows of the monitor's log, when the `wanted` ones have arrived there or the deadline has passed."""

        async def counted() -> int:
            deadline = time.monotonic() + ARRIVAL_DEADLINE_S
            while True:
                found = await asyncio.to_thread(self._platform.count_predictions, project)
                step.at(found, max(wanted, 1), "predictions in ClickHouse")
                if found >= wanted or time.monotonic() > deadline:
                    return found
                await asyncio.sleep(0.2)

        return await self._answer("counting predictions in ClickHouse", counted(), 0)

    async def why(self, event_id: str) -> Any:
        """The causal chain of an event; None where nobody answers."""
        return await self._answer("asking why the rollback happened", self._platform.why(event_id), None)

    async def first_model(self, witness: Witness) -> evidence.Score | None:
        """Scores logged inputs with the first champion; None where there was none, or it cannot be had."""
        champion = evidence.first_champion(witness)
        if champion is None:
            return None

        async def fetched() -> evidence.Score:
            return scorer(await self._platform.artifact(champion.model_digest))

        return await self._answer("fetching the first model", fetched(), None)

    async def _answer(self, what: str, answer: Awaitable[T], otherwise: T) -> T:
        try:
            return await answer
        except Exception as error:
            self._troubles.append(Trouble.of(what, error))
            return otherwise


def scorer(model: bytes) -> Callable[[Any], np.ndarray]:
    """Scores rows of raw columns (None: missing) with an ONNX model."""
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])

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


def _events(story: Story, witness: Witness) -> dict[str, int]:
    """Records per topic; the project's data topics also where they hold none."""
    counts = story.happened.bulk.counts
    data = {f"data.{story.project.name}.{source.name}" for source in story.project.sources}
    return {topic: counts[topic] for topic in sorted({*counts, *data})} | dict(Counter(s.topic for s in witness.seen))


def _requests(happened: Happened) -> Report:
    """What was asked and how that went, as the client saw it and as the log of predictions has it."""
    outcome = happened.outcome
    events = outcome.progress.events if outcome else 0
    failures = outcome.failures if outcome else []
    logged = [p for p in happened.bulk.predictions.values() if p.error]
    replay_s = happened.durations_s.get("replay", 0.0)
    return {
        "input_rows": events,
        "failed_requests": len(failures),
        "retried_requests": outcome.retried if outcome else 0,
        "logged_failures": len(logged),
        "failures": [*failures[:MOST_FAILURES], *(f"{p.key.entity}: {p.error}" for p in logged[:MOST_FAILURES])],
        "throughput": {"events_per_s": round(events / replay_s, 1) if replay_s else 0.0},
        "latency_ms": {
            "single": _latency(happened.single_latencies_s),
            "batch": _latency(outcome.latencies_s if outcome else []),
        },
    }


def _predictions(happened: Happened, in_clickhouse: int) -> dict[str, int]:
    listed: list[inference.Prediction] = list(happened.bulk.predictions.values())
    return {
        "asked": happened.outcome.asked if happened.outcome else 0,
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
