"""From what was seen to what is claimed: AUC by week and the facts of the report. Pure."""

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

from examples.flights.demo.faults import Fault
from examples.flights.demo.links import VERDICTS
from examples.flights.demo.witness import Bulk, Seen, Witness

WEEK_US = 7 * 86_400_000_000
MIN_ROWS_PER_WEEK = 200
Score = Callable[[Sequence[Mapping[str, Any]]], np.ndarray]


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


def first_champion(witness: Witness) -> registry.Variant | None:
    """The champion of the first serving plan: what would answer had nothing been learned since. None: no release."""
    plans = sorted((s.payload for s in witness.of("models.releases")), key=lambda plan: plan.epoch)
    champions = (v for plan in plans for v in plan.variants if v.role == registry.Variant.CHAMPION)
    return next(champions, None)


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
    """The rollback of the bad release; empty when there was none.

    `wall_s`, told as `seconds_from_bad_release`: wall time from when the registry's event of the forced release was
    heard to when its event of the rollback was. What the command that pushed it took is not in it.
    """
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


def marks(witness: Witness, faults: Sequence[Fault]) -> list[dict[str, Any]]:
    """What the timeline shows: releases, rollbacks, alerts that fired, verdicts, and the faults put in on purpose."""
    found: list[dict[str, Any]] = [
        {"kind": "fault", "clock_us": fault.from_us, "until_us": fault.until_us, "label": fault.label}
        for fault in faults
    ]
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
