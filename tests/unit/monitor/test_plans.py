"""Who is on trial, against whom, since when."""

from millrace.definitions.model import CanaryStep, Rollout

from services.monitor.domain.plans import Change, Plan, Variant, step_of, trials, went_live


def change(version, to_state, kind, epoch, other=0):
    return Change(f"e{epoch}-{version}-{kind}", "m", version, to_state, kind, epoch * 100, epoch, other)


def plan(epoch, *variants):
    return Plan("p", "m", epoch, variants, f"plan-{epoch}", epoch * 100 + 1)


def champion(version):
    return Variant(version, "champion", 1.0, False, f"bundle-{version}")


def warm(version):
    return Variant(version, "shadow", 0.0, True)


def test_a_new_champion_is_judged_against_its_warm_target():
    changes = [change(1, "champion", "released", 1), change(2, "champion", "promoted", 2, 1)]
    (trial,) = trials(plan(2, champion(2), warm(1)), changes)
    assert (trial.version, trial.target, trial.role) == (2, 1, "champion")
    assert (trial.since_us, trial.since_epoch, trial.cause_id) == (200, 2, "e2-2-promoted")
    assert trial.incident_id == "m/2/2"


def test_without_a_warm_target_nobody_is_on_trial():
    assert trials(plan(1, champion(1)), [change(1, "champion", "released", 1)]) == []
    assert trials(plan(1), []) == []


def test_what_came_back_by_a_rollback_is_not_judged_against_what_was_worse():
    changes = [
        change(1, "champion", "released", 1),
        change(2, "champion", "forced", 2, 1),
        change(2, "rejected", "rolled_back", 3, 1),
        change(1, "champion", "restored", 3, 2),
    ]
    back = plan(3, champion(1), warm(2))
    assert trials(back, changes) == []
    assert went_live(back, changes).epoch == 1  # its training did not change
    again = [*changes, change(3, "champion", "promoted", 4, 1)]
    assert [t.version for t in trials(plan(4, champion(3), warm(1)), again)] == [3]


def test_a_canary_keeps_its_start_over_its_steps():
    changes = [
        change(1, "champion", "released", 1),
        change(2, "canary", "released", 2),
        change(2, "canary", "advanced", 3),
    ]
    (trial,) = trials(plan(3, champion(1), Variant(2, "canary", 0.5, False)), changes)
    assert (trial.since_us, trial.step_us, trial.weight) == (200, 300, 0.5)
    assert (trial.cause_id, trial.step_cause_id) == ("e2-2-released", "e3-2-advanced")


def test_a_plan_that_arrives_before_its_events_stands_for_itself():
    (trial,) = trials(plan(2, champion(2), warm(1)), [])
    assert (trial.since_us, trial.cause_id) == (201, "plan-2")


def test_steps_are_found_by_weight():
    rollout = Rollout(steps=(CanaryStep(0.05, 1), CanaryStep(0.5, 2)))
    assert step_of(rollout, 0.5).after_us == 2
    assert step_of(rollout, 0.3).after_us == 2
    assert step_of(Rollout(), 0.3) == CanaryStep(0.3)
