"""The rules of maturity, alone."""

from millrace.definitions.model import Missing

from services.labeling.domain.maturity import Verdict, revisions
from services.labeling.domain.values import Example, Outcome, Truth

CENSORED = Verdict(Missing.CENSORED, 0.0)
EXAMPLE = Example("e", moment_us=100, matured_us=200, visible_us=50, event_id="ask")


def truth(visible_us: int, value: float | None, event_us: int = 150, event_id: str = "") -> Truth:
    return Truth("e", event_us, visible_us, event_id or f"t{visible_us}", value)


def test_of_truths_in_time_the_newest_counts_whatever_their_order() -> None:
    truths = [truth(120, 0.0), truth(180, 1.0), truth(150, 0.0)]
    for given in (truths, truths[::-1]):
        (label,) = revisions(EXAMPLE, given, CENSORED, -1, 200)
        assert (label.value, label.visible_us, label.cause_id) == (1.0, 200, "t180")


def test_a_truth_visible_at_the_very_instant_of_maturity_is_in_time() -> None:
    (label,) = revisions(EXAMPLE, [truth(200, 1.0)], CENSORED, -1, 200)
    assert (label.revision, label.outcome) == (0, Outcome.OBSERVED)


def test_truths_of_one_instant_have_a_fixed_order() -> None:
    pair = [truth(210, 1.0, event_id="b"), truth(210, 0.0, event_id="a")]
    first, *rest = revisions(EXAMPLE, pair, CENSORED, -1, 300)
    assert first.outcome is Outcome.CENSORED
    assert [(label.value, label.cause_id) for label in rest] == [(0.0, "a"), (1.0, "b")]


def test_an_example_announced_late_matures_when_it_is_known() -> None:
    late = Example("e", 100, 200, 260, "ask")
    assert revisions(late, [truth(210, 1.0)], CENSORED, -1, 259) == []
    (label,) = revisions(late, [truth(210, 1.0)], CENSORED, 259, 260)
    assert (label.visible_us, label.matured_us, label.value) == (260, 200, 1.0)
