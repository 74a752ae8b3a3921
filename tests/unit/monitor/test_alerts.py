"""The life of an alert, step by step."""

import pytest

from services.monitor.domain.alerts import Reading, Rule, State, resolved, step

RULE = Rule("drift", "warning", "retrain", confirmations=2, quiet=2, cooldown_us=100)


def reading(beyond, has_data=True, **more):
    return Reading("x", beyond, 2.0 if beyond else 0.5, 1.0, 10, "because", has_data, **more)


def play(readings, rule=RULE, step_us=10):
    alert, states = None, []
    for i, beyond in enumerate(readings):
        made = reading(bool(beyond)) if beyond is not None else reading(False, has_data=False)
        alert = step(alert, made, rule, "p", i * step_us)
        states.append(alert.state.value if alert else "ok")
    return alert, states


@pytest.mark.parametrize(
    ("readings", "states"),
    [
        ([0, 1, 1], ["ok", "pending", "firing"]),
        ([1, 0, 1], ["pending", "resolved", "pending"]),  # a flicker never fired: nothing to cool down from
        ([1, 1, 0, 0], ["pending", "firing", "firing", "resolved"]),
        ([1, 1, 0, 1, 0, 0], ["pending", "firing", "firing", "firing", "firing", "resolved"]),
        ([1, 1, None, 1], ["pending", "firing", "no_data", "firing"]),
        ([1, None, 1], ["pending", "pending", "firing"]),
        ([None, 0], ["ok", "ok"]),
        ([1, 1, 0, 0, 1, 1], ["pending", "firing", "firing", "resolved", "resolved", "resolved"]),  # cooling down
    ],
)
def test_transitions(readings, states):
    assert play(readings)[1] == states


def test_after_the_cooldown_a_new_incident_opens():
    first, _ = play([1, 1, 0, 0])
    later = step(first, reading(True), RULE, "p", first.updated_us + 100)
    assert later.state is State.PENDING and later.key != first.key


def test_one_incident_keeps_its_key_and_its_start():
    alert, _ = play([1, 1, 1, 1])
    assert (alert.since_us, alert.updated_us, alert.beyond) == (0, 30, 4)
    assert alert.key == "p/drift/x/0"


def test_the_action_may_come_to_life_while_it_fires():
    held = Rule("drift", "warning", "none", confirmations=1)
    alert = step(None, reading(True), held, "p", 0)
    assert step(alert, reading(True), RULE, "p", 10).action == "retrain"


def test_resolving_by_hand_says_why():
    alert, _ = play([1, 1])
    closed = resolved(alert, "gone", 50)
    assert not closed.is_open and closed.reason == "gone"
