"""From what was seen to what is claimed: the links of the loop, AUC by week, the facts of the report. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from millrace.statistics import auc
from millrace.wire.inference.v1 import events_pb2 as inference
from millrace.wire.labeling.v1 import events_pb2 as labeling
from millrace.wire.monitor.v1 import events_pb2 as monitor
from millrace.wire.registry.v1 import events_pb2 as registry
from millrace.wire.trainer.v1 import events_pb2 as trainer

from examples.flights.demo.witness import Bulk, Seen, Witness

WEEK_US = 7 * 86_400_000_000
MIN_ROWS_PER_WEEK = 200
VERDICTS = (trainer.RunEvent.PASSED, trainer.RunEvent.REFUSED)
Score = Callable[[Sequence[Mapping[str, Any]]], np.ndarray]


def missing_links(witness: Witness, bulk: Bulk, facts: Mapping[str, Any]) -> list[str]:
    """Names of the links of the loop that were not seen on the topics; empty when the loop closed."""
    runs, events = witness.of("training.runs"), witness.of("models.events")
    alerts = [s for s in witness.of("monitor.alerts") if s.payload.state == "firing"]
    kinds = {s.payload.kind for s in events}
    rules = {s.payload.rule for s in alerts if s.payload.rule != "release"}
    bad = f"/v{facts['bad_version']}"
    drift_requests = {
        s.event_id for s in witness.of("training.requests") if s.payload.trigger == trainer.TrainingRequest.DRIFT
    }
    answered_drift = [r for r in runs if r.payload.state in VERDICTS and drift_requests & set(r.payload.request_ids)]
    links = {
        "events accepted (data topics)": facts["input_rows"] > 0 and all(facts["events"].values()),
        "labels matured (labels)": any(x.outcome == labeling.Label.OBSERVED for x in bulk.labels.values()),
        "a run passed its gate (training.runs)": any(r.payload.state == trainer.RunEvent.PASSED for r in runs),
        "a first release (models.releases)": bool(witness.of("models.releases")),
        "the release became ready (serving.status)": any(
            v.state == "ready" for s in witness.of("serving.status") for v in s.payload.variants
        ),
        "predictions answered (predictions)": any(p.answered for p in bulk.predictions.values()),
        "every prediction is in ClickHouse": facts["predictions"]["in_clickhouse"] == len(bulk.predictions) > 0,
        "a forced release (models.events)": "forced" in kinds,
        "an alert on that release (monitor.alerts)": any(
            s.payload.rule == "release" and s.payload.subject.endswith(bad) for s in alerts
        ),
        "its rollback (models.events)": bool(facts["rollback"]),
        "refused rows of the broken upstream (quarantine)": bulk.counts["quarantine"] > 0,
        "an alert on data quality (monitor.alerts)": "data_quality" in rules,
        "drift of the world (monitor.alerts)": bool(rules & {"drift", "label_drift", "prediction_drift"}),
        "retraining asked for by drift (training.requests)": bool(drift_requests),
        "a verdict on that retraining (training.runs)": bool(answered_drift),
        "the causal chain reaches the data snapshot (Why)": facts["chain_complete"],
        "no failed request": facts["failed_requests"] == 0,
    }
    return [name for name, was_seen in links.items() if not was_seen]


def auc_by_week(bulk: Bulk, frozen: Score) -> list[dict[str, Any]]:
    """Per week of the prediction moment: AUC of the answers, and of the frozen first model on the same logged inputs.

    Only weeks with at least `MIN_ROWS_PER_WEEK` labelled answers; of several answers to one example the last counts.
    """
    weeks: dict[int, dict[tuple[str, int], inference.Prediction]] = defaultdict(dict)
    for prediction in sorted(bulk.predictions.values(), key=lambda p: p.answered_us):
        key = (prediction.key.entity, prediction.key.moment_us)
        label = bulk.labels.get(key)
        if prediction.answered and not prediction.error and label and label.outcome == labeling.Label.OBSERVED:
            weeks[key[1] // WEEK_US][key] = prediction
    return [
        _week(start * WEEK_US, rows, bulk, frozen)
        for start, rows in sorted(weeks.items())
        if len(rows) >= MIN_ROWS_PER_WEEK
    ]


def _week(
    start_us: int, rows: Mapping[tuple[str, int], inference.Prediction], bulk: Bulk, frozen: Score
) -> dict[str, Any]:
    truth = np.array([bulk.labels[key].value for key in rows])
    answered = np.array([p.outputs[0] for p in rows.values()])
    first = frozen([{name: plain(value) for name, value in p.inputs.items()} for p in rows.values()])
    return {
        "start_us": start_us,
        "rows": len(rows),
        "late_rate": float(truth.mean()),
        "frozen": float(auc(truth, first)),
        "continuous": float(auc(truth, answered)),
        "versions": sorted({p.version for p in rows.values()}),
    }


def plain(value: Any) -> Any:
    """The Python value of a wire Value; None for null."""
    kind = value.WhichOneof("kind")
    return getattr(value, kind) if kind else None


def releases(witness: Witness) -> list[dict[str, Any]]:
    """Every serving plan seen, in order of epochs."""
    return [
        {
            "epoch": s.payload.epoch,
            "cause": s.payload.cause,
            "event_id": s.event_id,
            "variants": [
                {"version": v.version, "role": inference_role(v.role), "weight": round(v.weight, 3)}
                for v in s.payload.variants
            ],
        }
        for s in witness.of("models.releases")
    ]


def inference_role(role: int) -> str:
    """Lower-case name of a variant's role."""
    return str(registry.Variant.Role.Name(role)).lower()


def verdicts(witness: Witness) -> list[dict[str, Any]]:
    """Every run that reached its gate: what asked for it, what the gate said, and on which snapshot."""
    triggers = {
        s.event_id: trainer.TrainingRequest.Trigger.Name(s.payload.trigger).lower()
        for s in witness.of("training.requests")
    }
    return [
        {
            "run_id": run.run_id,
            "state": trainer.RunEvent.State.Name(run.state).lower(),
            "reason": run.reason,
            "clock_us": run.clock_us,
            "triggers": sorted({triggers.get(request, "unknown") for request in run.request_ids}),
            "metrics": dict(run.candidate.metrics),
            "champion_version": run.candidate.champion_version,
            "snapshot": run.candidate.snapshot_digest,
        }
        for run in (s.payload for s in witness.of("training.runs"))
        if run.state in VERDICTS
    ]


def rollback_facts(witness: Witness, bad_version: int, wall_s: float) -> dict[str, Any]:
    """The rollback of the bad release; empty when there was none. `wall_s`: from its release to its rollback."""
    for seen in witness.of("models.events"):
        if seen.payload.kind == "rolled_back" and seen.payload.version == bad_version:
            return {
                "event_id": seen.event_id,
                "from": seen.payload.version,
                "to": seen.payload.other_version,
                "reason": seen.payload.reason,
                "clock_us": seen.payload.clock_us,
                "seconds_from_bad_release": round(wall_s, 2),
            }
    return {}


def marks(witness: Witness, faults: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What the timeline shows: releases, rollbacks, alerts that fired, verdicts, and the faults put in on purpose."""
    found: list[dict[str, Any]] = [{"kind": "fault", **fault} for fault in faults]
    for seen in witness.seen:
        if mark := _mark(seen):
            found.append(mark)
    return found


def _mark(seen: Seen) -> dict[str, Any] | None:
    payload = seen.payload
    if seen.topic == "models.events" and payload.kind in {"released", "promoted", "forced"}:
        return {"kind": "release", "clock_us": payload.clock_us, "label": f"v{payload.version} {payload.kind}"}
    if seen.topic == "models.events" and payload.kind == "rolled_back":
        return {
            "kind": "rollback",
            "clock_us": payload.clock_us,
            "label": f"v{payload.version} → v{payload.other_version}",
        }
    if isinstance(payload, monitor.AlertEvent) and payload.state == "firing":
        return {"kind": "alert", "clock_us": payload.clock_us, "label": payload.rule}
    if seen.topic == "training.runs" and payload.state in VERDICTS:
        return {
            "kind": "retrain",
            "clock_us": payload.clock_us,
            "label": trainer.RunEvent.State.Name(payload.state).lower(),
        }
    return None
