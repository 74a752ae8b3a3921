"""When a request becomes a run."""

from dataclasses import dataclass, field, replace

from hypothesis import given, settings
from hypothesis import strategies as st
from millrace.definitions.model import DAY_US, Training

from services.trainer.domain.scheduler import (
    Decline,
    GateAgain,
    LabelBucket,
    PastRun,
    Request,
    Situation,
    Start,
    Trigger,
    Wait,
    bucket_end,
    decide,
    label_crossing,
    schedule_due,
)

HOUR_US = DAY_US // 24
POLICY = Training(on_drift=True, debounce_us=HOUR_US, cooldown_us=DAY_US, budget_per_day=2)


def request(trigger: Trigger, asked_us: int, name: str = "r", run_id: str = "") -> Request:
    return Request(f"{name}-{asked_us}", "p", trigger, asked_us, run_id=run_id)


def situation(now_us: int, *pending: Request, runs: tuple[PastRun, ...] = (), labels: int = 5) -> Situation:
    return Situation(now_us, replayed=True, pending=pending, runs=runs, labels_since_run=labels)


def test_a_request_waits_for_debounce_and_then_starts_at_its_end_however_late_that_is_noticed():
    asked = request(Trigger.DRIFT, 100 * DAY_US)
    assert decide(POLICY, situation(100 * DAY_US, asked)) == (Wait("debounce or cooldown", 100 * DAY_US + HOUR_US),)
    late = decide(POLICY, situation(100 * DAY_US + 5 * HOUR_US, asked))
    assert late == (Start((asked,), 100 * DAY_US + HOUR_US),)


def test_cooldown_delays_and_the_waiting_requests_share_one_run():
    last = PastRun("old", 100 * DAY_US, unfinished=False)
    first, second = (
        request(Trigger.DRIFT, 100 * DAY_US + HOUR_US),
        request(Trigger.NEW_LABELS, 100 * DAY_US + 9 * HOUR_US),
    )
    assert isinstance(decide(POLICY, situation(100 * DAY_US + 20 * HOUR_US, first, second, runs=(last,)))[0], Wait)
    started = decide(POLICY, situation(102 * DAY_US, first, second, runs=(last,)))
    assert started == (Start((first, second), 101 * DAY_US),)


def test_requests_that_never_pause_do_not_put_a_run_off_for_ever():
    asked = [request(Trigger.DRIFT, 100 * DAY_US + i * HOUR_US // 2) for i in range(20)]
    now_us = 100 * DAY_US + 10 * HOUR_US
    assert isinstance(decide(POLICY, situation(now_us, *asked))[0], Start)


def test_a_person_skips_debounce_and_cooldown_but_not_the_budget():
    last = PastRun("old", 100 * DAY_US, unfinished=False)
    asked = request(Trigger.MANUAL, 100 * DAY_US + 1)
    assert decide(POLICY, situation(100 * DAY_US + 1, asked, runs=(last,))) == (Start((asked,), 100 * DAY_US + 1),)
    spent = decide(POLICY, situation(100 * DAY_US + 1, asked, runs=(last, PastRun("b", 100 * DAY_US, False))))
    assert isinstance(spent[0], Decline) and "budget of 2" in spent[0].reason


def test_beyond_the_budget_a_person_is_told_and_the_others_share_the_first_run_of_the_next_day():
    runs = (PastRun("a", 100 * DAY_US, False), PastRun("b", 100 * DAY_US + HOUR_US, False))
    policy = Training(on_drift=True, budget_per_day=2)
    drift = request(Trigger.DRIFT, 100 * DAY_US + 2 * HOUR_US)
    by_hand = request(Trigger.MANUAL, 100 * DAY_US + 3 * HOUR_US)
    spent = "the budget of 2 runs a day is spent"
    noon_us = 100 * DAY_US + 12 * HOUR_US
    assert decide(policy, situation(noon_us, drift, by_hand, runs=runs)) == (
        Decline((by_hand,), spent, by_hand.asked_us),
        Wait(spent, 101 * DAY_US),
    )
    assert decide(policy, situation(noon_us, drift, runs=runs)) == (Wait(spent, 101 * DAY_US),)
    assert decide(policy, situation(101 * DAY_US, drift, runs=runs)) == (Start((drift,), 101 * DAY_US),)
    nothing = decide(Training(budget_per_day=0), situation(noon_us, by_hand))
    assert isinstance(nothing[0], Decline)
    assert "budget of 0" in nothing[0].reason


def test_while_training_is_switched_off_nothing_starts_and_what_was_asked_waits():
    done = PastRun("old", 99 * DAY_US, unfinished=False, has_model=True)
    asked = (request(Trigger.MANUAL, 100 * DAY_US), request(Trigger.STALE_GATE, 100 * DAY_US, "s", "old"))
    there = situation(101 * DAY_US, *asked, runs=(done,))
    assert decide(POLICY, replace(there, off="switched off by ana: costs")) == (Wait("switched off by ana: costs"),)
    assert decide(POLICY, there) == (GateAgain(asked[1], "old"),)
    assert decide(POLICY, replace(situation(101 * DAY_US), off="switched off")) == ()


def test_what_waited_for_the_switch_is_as_of_when_it_was_switched_on_also_in_a_replay():
    asked = [request(Trigger.DRIFT, (100 + day) * DAY_US) for day in range(5)]
    there = replace(situation(106 * DAY_US, *asked), resumed_us=105 * DAY_US + 7)
    assert decide(POLICY, there) == (Start(tuple(asked), 105 * DAY_US + 7),)
    later = request(Trigger.DRIFT, 106 * DAY_US)
    assert decide(POLICY, replace(situation(107 * DAY_US, later), resumed_us=105 * DAY_US + 7)) == (
        Start((later,), 106 * DAY_US + HOUR_US),
    )


def test_nothing_starts_beside_an_unfinished_run():
    busy = PastRun("old", 99 * DAY_US, unfinished=True, has_model=True)
    by_hand, stale = request(Trigger.MANUAL, 100 * DAY_US), request(Trigger.STALE_GATE, 100 * DAY_US, "s", "old")
    assert decide(POLICY, situation(101 * DAY_US, by_hand, stale, runs=(busy,))) == (
        Wait("a run of this model is unfinished"),
    )


def test_a_stale_gate_is_met_again_at_once_and_an_unknown_one_declined():
    done = PastRun("old", 100 * DAY_US, unfinished=False, has_model=True)
    asked = request(Trigger.STALE_GATE, 100 * DAY_US, "s", "old")
    assert decide(POLICY, situation(100 * DAY_US, asked, runs=(done,))) == (GateAgain(asked, "old"),)
    unknown = decide(POLICY, situation(100 * DAY_US, request(Trigger.STALE_GATE, 100 * DAY_US, "s", "what")))
    assert isinstance(unknown[0], Decline) and "what" in unknown[0].reason


def test_drift_is_declined_where_it_does_not_count_and_when_there_is_nothing_new():
    asked = request(Trigger.DRIFT, 100 * DAY_US)
    refused = decide(Training(on_drift=False), situation(100 * DAY_US, asked))
    assert isinstance(refused[0], Decline) and "drift" in refused[0].reason
    done = PastRun("old", 90 * DAY_US, unfinished=False)
    idle = decide(POLICY, situation(101 * DAY_US, asked, runs=(done,), labels=0))
    assert isinstance(idle[0], Decline) and "no label" in idle[0].reason


def test_the_label_trigger_waits_until_the_crossing_bucket_is_whole():
    buckets = [LabelBucket(60, 6, "a"), LabelBucket(120, 6, "b"), LabelBucket(180, 6, "c")]
    assert label_crossing(10, buckets, 119) is None
    assert label_crossing(10, buckets, 120) == buckets[1]
    assert label_crossing(10, buckets, 10_000) == buckets[1]
    assert label_crossing(0, buckets, 10_000) is None


def test_buckets_are_minutes_and_a_schedule_counts_missed_turns_once():
    assert (bucket_end(60_000_000), bucket_end(60_000_001)) == (60_000_000, 120_000_000)
    assert schedule_due(10, 20, 29) == 0
    assert schedule_due(10, 20, 57) == 50
    assert schedule_due(0, 0, 57) == 0


@dataclass
class Simulation:
    """A project's recorded state, driven by the scheduler alone."""

    policy: Training
    now_us: int = 100 * DAY_US
    pending: list[Request] = field(default_factory=list)
    runs: list[PastRun] = field(default_factory=list)
    answered: dict[str, str] = field(default_factory=dict)

    def consider(self) -> None:
        there = Situation(self.now_us, True, tuple(self.pending), tuple(self.runs), 1)
        decisions = decide(self.policy, there)
        assert sum(isinstance(d, Start | GateAgain) for d in decisions) <= 1
        for decision in decisions:
            if isinstance(decision, Start):
                assert not any(run.unfinished for run in self.runs)
                assert decision.as_of_us >= max(r.asked_us for r in decision.requests)
                self.runs.append(PastRun(f"run{len(self.runs)}", decision.as_of_us, unfinished=True))
            if isinstance(decision, Start | Decline):
                for asked in decision.requests:
                    assert asked.request_id not in self.answered
                    self.answered[asked.request_id] = type(decision).__name__
                    self.pending.remove(asked)

    def finish(self) -> None:
        self.runs = [PastRun(r.run_id, r.as_of_us, unfinished=False, has_model=True) for r in self.runs]


EVENTS = st.lists(
    st.tuples(
        st.sampled_from([Trigger.DRIFT, Trigger.MANUAL, Trigger.NEW_LABELS, Trigger.ROLLBACK, "finish", "consider"]),
        st.integers(0, 30 * HOUR_US),
    ),
    max_size=60,
)


@settings(max_examples=150, deadline=None)
@given(
    EVENTS, st.integers(1, 3), st.sampled_from([0, HOUR_US, 6 * HOUR_US]), st.sampled_from([0, DAY_US // 2, 3 * DAY_US])
)
def test_budget_holds_one_run_at_a_time_and_no_request_is_lost(events, budget, debounce_us, cooldown_us):
    policy = Training(on_drift=True, debounce_us=debounce_us, cooldown_us=cooldown_us, budget_per_day=budget)
    world = Simulation(policy)
    asked = []
    for number, (what, later_us) in enumerate(events):
        world.now_us += later_us
        if what == "finish":
            world.finish()
        elif what != "consider":
            asked.append(Request(f"r{number}", "p", Trigger(what), world.now_us))
            world.pending.append(asked[-1])
        world.consider()
    for _ in range(3):  # rest: everything that waits comes to its end
        world.finish()
        world.now_us += 30 * DAY_US
        world.consider()
    assert {r.request_id for r in asked} == set(world.answered)
    days = [run.as_of_us // DAY_US for run in world.runs]
    assert all(days.count(day) <= budget for day in days)
    assert sorted(run.as_of_us for run in world.runs) == [run.as_of_us for run in world.runs]
    by_trigger = {r.request_id: r.trigger for r in asked}
    declined = {by_trigger[name] for name, what in world.answered.items() if what == "Decline"}
    assert declined <= {Trigger.MANUAL}, "who cannot be told waits for a run"
