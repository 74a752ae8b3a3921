"""A loop that closed has every link; each one that is taken out is named."""

from collections.abc import Callable

import pytest
from millrace.wire.labeling.v1 import events_pb2 as labeling
from millrace.wire.trainer.v1 import events_pb2 as trainer

from examples.flights.demo.faults import Fault
from examples.flights.demo.links import is_of_the_world, missing_links, window_of
from examples.flights.demo.witness import Bulk
from tests.unit.examples.demo.conftest import BAD, DAY_US, T0, Loop, alert, label, prediction, request, run


def missing(loop: Loop) -> list[str]:
    return missing_links(loop.witness, loop.bulk, loop.facts, loop.faults)


def test_a_loop_that_closed_misses_nothing(loop: Loop) -> None:
    assert missing(loop) == []


def no_rows(loop: Loop) -> None:
    loop.facts["input_rows"] = 0


def an_empty_topic(loop: Loop) -> None:
    loop.facts["events"]["data.flights.arrivals"] = 0


def censored_labels(loop: Loop) -> None:
    loop.bulk.labels["f1", T0] = label(0.0, labeling.Label.CENSORED)


def no_answer(loop: Loop) -> None:
    loop.bulk.predictions["f1"].answered = False


def a_lost_row(loop: Loop) -> None:
    loop.bulk.predictions["f2"] = prediction("f2", T0, 0.5)


def not_ready(loop: Loop) -> None:
    for seen in loop.witness.of("serving.status"):
        seen.payload.variants[0].state = "failed"


def an_alert_on_another_version(loop: Loop) -> None:
    loop.facts["bad_version"] = BAD + 10


def a_resolved_alert(loop: Loop) -> None:
    next(s for s in loop.witness.seen if s.event_id == "broken").payload.state = "resolved"


def fact(name: str, value: object) -> Callable[[Loop], None]:
    return lambda loop: loop.facts.__setitem__(name, value)


def unseen(*event_ids: str) -> Callable[[Loop], None]:
    return lambda loop: loop.drop(*event_ids)


RETRAINING = "retraining asked for by that drift (training.requests)"
VERDICT = "a verdict on that retraining (training.runs)"


@pytest.mark.parametrize(
    ("take_out", "names"),
    [
        (no_rows, ["events accepted (data topics)"]),
        (an_empty_topic, ["events accepted (data topics)"]),
        (censored_labels, ["labels matured (labels)"]),
        (unseen(f"first {trainer.RunEvent.PASSED}"), ["a run passed its gate (training.runs)"]),
        (unseen("plan1"), ["a first release (models.releases)"]),
        (unseen("ready1"), ["the release became ready (serving.status)"]),
        (not_ready, ["the release became ready (serving.status)"]),
        (no_answer, ["predictions answered (predictions)"]),
        (a_lost_row, ["every prediction is in ClickHouse"]),
        (unseen(f"forced{BAD}"), ["a forced release (models.events)"]),
        (unseen("bad release"), ["an alert on that release (monitor.alerts)"]),
        (an_alert_on_another_version, ["an alert on that release (monitor.alerts)"]),
        (fact("rollback", {}), ["its rollback (models.events)"]),
        (fact("chain_complete", False), ["the causal chain reaches the data snapshot (Why)"]),
        (lambda loop: loop.bulk.counts.clear(), ["refused rows of the broken upstream (quarantine)"]),
        (unseen("broken"), ["an alert on data quality (monitor.alerts)"]),
        (a_resolved_alert, ["an alert on data quality (monitor.alerts)"]),
        (
            unseen("label drift"),
            ["drift of the world, outside the faults (monitor.alerts)", RETRAINING, VERDICT],
        ),
        (unseen("retrain"), [RETRAINING, VERDICT]),
        (unseen(f"second {trainer.RunEvent.REFUSED}"), [VERDICT]),
        (fact("failed_requests", 1), ["no failed request"]),
        (fact("logged_failures", 1), ["no failure in the prediction log (predictions)"]),
    ],
)
def test_a_link_that_was_not_seen_is_named(loop: Loop, take_out: Callable[[Loop], None], names: list[str]) -> None:
    take_out(loop)
    assert missing(loop) == names


def test_where_nothing_was_seen_only_what_nobody_asked_did_not_fail(loop: Loop) -> None:
    loop.witness.seen, loop.bulk = [], Bulk()
    loop.facts |= {"input_rows": 0, "rollback": {}, "chain_complete": False, "predictions": {"in_clickhouse": 0}}
    named = missing(loop)
    assert named[0] == "events accepted (data topics)"
    assert "a first release (models.releases)" in named
    assert not [name for name in named if name.startswith("no fail")]
    assert len(named) == 16


@pytest.mark.parametrize("cause", ["broken", "bad release", "unheard of", ""])
def test_retraining_for_another_reason_is_not_retraining_for_drift(loop: Loop, cause: str) -> None:
    loop.drop("retrain")
    loop.witness.seen.append(request("retrain", cause))
    assert missing(loop) == [RETRAINING, VERDICT]


def test_a_request_by_hand_that_names_the_drift_is_no_request_of_the_monitor(loop: Loop) -> None:
    loop.drop("retrain")
    loop.witness.seen.append(request("retrain", "label drift", trainer.TrainingRequest.MANUAL))
    assert missing(loop) == [RETRAINING, VERDICT]


def test_a_run_that_failed_is_no_verdict(loop: Loop) -> None:
    loop.drop(f"second {trainer.RunEvent.REFUSED}")
    loop.witness.seen.append(run("second", trainer.RunEvent.FAILED, "retrain"))
    assert missing(loop) == [VERDICT]


@pytest.mark.parametrize(
    ("rule", "start", "end", "expected"),
    [
        ("drift", 1, 2, True),  # from the end of the one fault on
        ("drift", 0, 1, False),
        ("label_drift", 1, 8, True),
        ("label_drift", -6, 1, False),
        ("drift", 18, 19, True),  # up to the beginning of the other
        ("drift", 19, 20, False),
        ("label_drift", 14, 21, False),  # the fault lies inside
        ("prediction_drift", 1, 2, False),
        ("data_quality", 1, 2, False),
    ],
)
def test_drift_counts_where_its_window_saw_no_fault(
    loop: Loop, rule: str, start: int, end: int, expected: bool
) -> None:
    fired = alert("x", rule, T0 + start * DAY_US, T0 + end * DAY_US)
    loop.witness.seen.append(fired)
    assert is_of_the_world(fired, loop.witness, loop.faults) is expected


def test_an_alert_that_began_in_a_fault_is_of_the_fault(loop: Loop) -> None:
    began = alert("x", "drift", T0 + 19 * DAY_US, T0 + 20 * DAY_US, alert_id="one", state="pending")
    fired = alert("y", "drift", T0 + 20 * DAY_US, T0 + 21 * DAY_US, alert_id="one")
    loop.witness.seen += [began, fired]
    assert not is_of_the_world(fired, loop.witness, loop.faults)
    loop.drop("x")
    assert is_of_the_world(fired, loop.witness, loop.faults)


def test_what_happens_to_an_alert_later_does_not_change_what_it_was(loop: Loop) -> None:
    fired = alert("x", "drift", T0 + 17 * DAY_US, T0 + 18 * DAY_US, alert_id="one")
    again = alert("y", "drift", T0 + 19 * DAY_US, T0 + 20 * DAY_US, alert_id="one")
    loop.witness.seen += [fired, again]
    assert is_of_the_world(fired, loop.witness, loop.faults)
    assert not is_of_the_world(again, loop.witness, loop.faults)


def test_a_bad_release_that_was_never_rolled_back_explains_all_that_follows() -> None:
    endless = Fault("bad release", T0)
    assert endless.touches(T0 + 50 * DAY_US, T0 + 51 * DAY_US)
    assert not endless.touches(T0 - DAY_US, T0)


def test_an_alert_that_names_no_window_is_not_believed(loop: Loop) -> None:
    fired = alert("x", "drift", evidence_query="somewhere in the log")
    assert window_of(fired.payload) is None
    loop.witness.seen.append(fired)
    assert not is_of_the_world(fired, loop.witness, loop.faults)
