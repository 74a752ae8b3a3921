"""Which links of the loop were seen on the topics, and which are missing. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from millrace.wire.labeling.v1 import events_pb2 as labeling
from millrace.wire.monitor.v1 import events_pb2 as monitor
from millrace.wire.trainer.v1 import events_pb2 as trainer

from examples.flights.demo.faults import Fault
from examples.flights.demo.witness import Bulk, Seen, Witness

VERDICTS = (trainer.RunEvent.PASSED, trainer.RunEvent.REFUSED)
DRIFT_RULES = ("drift", "label_drift", "prediction_drift")
WORLD_RULES = ("drift", "label_drift")  # what the model was given, and what came true; its own answers are no world
# How the monitor names the window of a drift alert in `evidence_query`, of predictions and of labels.
WINDOW = re.compile(r"moment_us (?:>= (\d+) AND moment_us < (\d+)|in \[(\d+), (\d+)\))")


def missing_links(witness: Witness, bulk: Bulk, facts: Mapping[str, Any], faults: Sequence[Fault] = ()) -> list[str]:
    """Names of the links of the loop that were not seen on the topics; empty when the loop closed.

    `facts` are those of the report that need more than the topics; `faults` are what was put in on purpose: drift that
    they explain is no drift of the world.
    """
    links = _basic(witness, bulk, facts) | _rollback(witness, facts) | _quality(witness, bulk)
    links |= _retraining(witness, faults)
    links |= {
        "no failed request": facts["failed_requests"] == 0,
        "no failure in the prediction log (predictions)": facts["logged_failures"] == 0,
    }
    return [name for name, was_seen in links.items() if not was_seen]


def _basic(witness: Witness, bulk: Bulk, facts: Mapping[str, Any]) -> dict[str, bool]:
    in_log = facts["predictions"]["in_clickhouse"]
    return {
        "events accepted (data topics)": facts["input_rows"] > 0 and all(facts["events"].values()),
        "labels matured (labels)": any(x.outcome == labeling.Label.OBSERVED for x in bulk.labels.values()),
        "a run passed its gate (training.runs)": any(
            r.payload.state == trainer.RunEvent.PASSED for r in witness.of("training.runs")
        ),
        "a first release (models.releases)": bool(witness.of("models.releases")),
        "the release became ready (serving.status)": any(
            v.state == "ready" for s in witness.of("serving.status") for v in s.payload.variants
        ),
        "predictions answered (predictions)": any(p.answered for p in bulk.predictions.values()),
        "every prediction is in ClickHouse": in_log == len(bulk.predictions) > 0,
    }


def _rollback(witness: Witness, facts: Mapping[str, Any]) -> dict[str, bool]:
    bad = f"/v{facts['bad_version']}"
    return {
        "a forced release (models.events)": any(s.payload.kind == "forced" for s in witness.of("models.events")),
        "an alert on that release (monitor.alerts)": any(
            s.payload.rule == "release" and s.payload.subject.endswith(bad) for s in firing(witness)
        ),
        "its rollback (models.events)": bool(facts["rollback"]),
        "the causal chain reaches the data snapshot (Why)": facts["chain_complete"],
    }


def _quality(witness: Witness, bulk: Bulk) -> dict[str, bool]:
    return {
        "refused rows of the broken upstream (quarantine)": bulk.counts["quarantine"] > 0,
        "an alert on data quality (monitor.alerts)": any(s.payload.rule == "data_quality" for s in firing(witness)),
    }


def _retraining(witness: Witness, faults: Sequence[Fault]) -> dict[str, bool]:
    """Retraining where the world really changed: the request is caused by drift that no fault of ours explains."""
    of_the_world = {s.event_id for s in firing(witness) if is_of_the_world(s, witness, faults)}
    asked = {
        s.event_id
        for s in witness.of("training.requests")
        if s.payload.trigger == trainer.TrainingRequest.DRIFT and s.causation_id in of_the_world
    }
    answered = [
        r for r in witness.of("training.runs") if r.payload.state in VERDICTS and asked & set(r.payload.request_ids)
    ]
    return {
        "drift of the world, outside the faults (monitor.alerts)": bool(of_the_world),
        "retraining asked for by that drift (training.requests)": bool(asked),
        "a verdict on that retraining (training.runs)": bool(answered),
    }


def firing(witness: Witness) -> list[Seen]:
    """Every alert that fired, in order."""
    return [s for s in witness.of("monitor.alerts") if s.payload.state == "firing"]


def is_of_the_world(fired: Seen, witness: Witness, faults: Sequence[Fault]) -> bool:
    """Whether `fired` is drift of inputs or labels whose windows, from the first reading on, saw no fault of ours."""
    if fired.payload.rule not in WORLD_RULES:
        return False
    readings = [
        s.payload
        for s in witness.of("monitor.alerts")
        if s.payload.alert_id == fired.payload.alert_id and s.payload.clock_us <= fired.payload.clock_us
    ]
    windows = [window_of(reading) for reading in readings]
    return all(w is not None and not any(fault.touches(*w) for fault in faults) for w in windows)


def window_of(alert: monitor.AlertEvent) -> tuple[int, int] | None:
    """[start, end) of the predictions or labels that the alert is about, as it states them; None where it does not."""
    found = WINDOW.search(alert.evidence_query)
    if found is None:
        return None
    start, end = (int(bound) for bound in found.groups() if bound is not None)
    return start, end
