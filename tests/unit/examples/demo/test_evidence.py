"""Figures from what was seen: weeks, the frozen model, releases, verdicts, the rollback, the timeline."""

import numpy as np
import pytest
from millrace.wire.common.v1 import common_pb2
from millrace.wire.labeling.v1 import events_pb2 as labeling
from millrace.wire.registry.v1 import events_pb2 as registry

from examples.flights.demo import evidence
from examples.flights.demo.evidence import MIN_ROWS_PER_WEEK, WEEK_US
from examples.flights.demo.witness import Bulk, Witness
from tests.unit.examples.demo.conftest import BAD, FAULTS, GOOD, T0, Loop, label, moved, plan, prediction

WEEK0 = T0 // WEEK_US * WEEK_US
CHAMPION, CANARY, SHADOW = registry.Variant.CHAMPION, registry.Variant.CANARY, registry.Variant.SHADOW


def answered(week: int, rows: int, *, score: float = 1.0) -> Bulk:
    """One week of answers that rank perfectly for `score` 1, worst for -1; the input `x` ranks the other way round."""
    bulk = Bulk()
    for n in range(rows):
        late = n % 4 == 0
        entity, moment = f"w{week}f{n}", WEEK0 + week * WEEK_US + n
        made = prediction(entity, moment, 0.5 + score * (0.3 if late else -0.3))
        made.inputs["x"].number = 0.1 if late else 0.9
        made.inputs["absent"].CopyFrom(common_pb2.Value())
        bulk.predictions[made.prediction_id] = made
        bulk.labels[entity, moment] = label(float(late))
    return bulk


def of_x(rows: list) -> np.ndarray:
    assert all(row["absent"] is None for row in rows)
    return np.array([row["x"] for row in rows])


def test_a_week_compares_the_answers_with_the_frozen_model() -> None:
    (week,) = evidence.auc_by_week(answered(2, MIN_ROWS_PER_WEEK), of_x)
    assert week == {
        "start_us": WEEK0 + 2 * WEEK_US,
        "rows": MIN_ROWS_PER_WEEK,
        "late_rate": 0.25,
        "frozen": 0.0,
        "continuous": 1.0,
        "versions": [GOOD],
    }


def test_weeks_come_in_order_and_thin_ones_not_at_all() -> None:
    bulk = answered(1, MIN_ROWS_PER_WEEK, score=-1.0)
    for more in (answered(0, MIN_ROWS_PER_WEEK), answered(2, MIN_ROWS_PER_WEEK - 1)):
        bulk.predictions |= more.predictions
        bulk.labels |= more.labels
    weeks = evidence.auc_by_week(bulk, of_x)
    assert [(w["start_us"], w["continuous"]) for w in weeks] == [(WEEK0, 1.0), (WEEK0 + WEEK_US, 0.0)]


@pytest.mark.parametrize("reason", ["unlabelled", "censored", "shadow", "error"])
def test_what_has_no_truth_or_was_no_answer_does_not_count(reason: str) -> None:
    bulk = answered(0, MIN_ROWS_PER_WEEK)
    key, made = ("w0f0", WEEK0), bulk.predictions[f"w0f0@{WEEK0}"]
    if reason == "unlabelled":
        del bulk.labels[key]
    elif reason == "censored":
        bulk.labels[key] = label(0.0, labeling.Label.CENSORED)
    elif reason == "shadow":
        made.answered = False
    else:
        made.error = "the variant failed"
    assert evidence.auc_by_week(bulk, of_x) == []


def test_of_two_answers_to_one_flight_the_last_counts() -> None:
    bulk = answered(0, MIN_ROWS_PER_WEEK)
    first = prediction("w0f0", WEEK0, 0.0, prediction_id="first", answered_us=1, version=BAD)
    first.inputs["absent"].CopyFrom(common_pb2.Value())
    bulk.predictions["first"] = first
    bulk.predictions[f"w0f0@{WEEK0}"].answered_us = 2
    (week,) = evidence.auc_by_week(bulk, of_x)
    assert (week["rows"], week["continuous"], week["versions"]) == (MIN_ROWS_PER_WEEK, 1.0, [GOOD])


def test_the_frozen_model_is_the_champion_of_the_first_plan(witness: Witness) -> None:
    assert evidence.first_champion(witness) is None
    witness.seen = [plan(3, (7, CHAMPION)), plan(2, (4, CANARY), (2, CHAMPION))]  # version 1 was refused by its gate
    champion = evidence.first_champion(witness)
    assert champion is not None
    assert (champion.version, champion.model_digest) == (2, "sha256:v2")


def test_a_plan_without_champion_is_passed_over(witness: Witness) -> None:
    witness.seen = [plan(1, (1, SHADOW)), plan(2, (5, CHAMPION))]
    champion = evidence.first_champion(witness)
    assert champion is not None
    assert champion.version == 5


def test_releases_tell_every_plan(witness: Witness) -> None:
    witness.seen = [plan(1, (1, CHAMPION)), plan(2, (1, CHAMPION), (4, CANARY), cause="advanced")]
    told = evidence.releases(witness)
    assert [(r["epoch"], r["cause"]) for r in told] == [(1, "released"), (2, "advanced")]
    assert [(v["version"], v["role"]) for v in told[1]["variants"]] == [(1, "champion"), (4, "canary")]


def test_verdicts_name_what_asked_for_the_run(loop: Loop) -> None:
    first, second = evidence.verdicts(loop.witness)
    assert (first["run_id"], first["state"], first["triggers"]) == ("first", "passed", [])
    assert (second["run_id"], second["state"], second["triggers"]) == ("second", "refused", ["drift"])
    loop.drop("retrain")
    assert evidence.verdicts(loop.witness)[1]["triggers"] == ["unknown"]


def test_the_rollback_is_that_of_the_bad_release(loop: Loop) -> None:
    found = evidence.rollback_facts(loop.witness, BAD, 4.114)
    assert (found["event_id"], found["from"], found["to"]) == ("rolled_back3", BAD, GOOD)
    assert found["seconds_from_bad_release"] == 4.11
    assert evidence.rollback_facts(loop.witness, GOOD, 1.0) == {}


def test_the_timeline_has_a_mark_for_all_that_a_reader_wants_to_place(loop: Loop) -> None:
    loop.witness.seen.append(moved("gated", 9))
    marks = evidence.marks(loop.witness, FAULTS)
    assert [(m["kind"], m["label"]) for m in marks] == [
        ("fault", "bad release"),
        ("fault", "delays in seconds"),
        ("retrain", "passed"),
        ("release", "v1 released"),
        ("release", "v3 forced"),
        ("alert", "release"),
        ("rollback", "v3 → v1"),
        ("alert", "label_drift"),
        ("retrain", "refused"),
        ("alert", "data_quality"),
    ]
    assert marks[0]["clock_us"] == T0
