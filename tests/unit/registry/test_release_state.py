"""The release state machine: stated cases, then any sequence of requests."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from services.registry.domain import decisions
from services.registry.domain.plan import Role, variants_of
from services.registry.domain.state import Candidate, Decision, Evidence, Kind, ReleaseState, Rollout, State, Step

CANARY = Rollout((Step(0.1), Step(0.5)), guard_us=100)
DIRECT = Rollout((), guard_us=100)
SHADOW = Rollout((Step(0.0),), guard_us=100)


def candidate(run_id: str, champion: int = 0, passed: bool = True, clock_us: int = 10, report: str = "") -> Candidate:
    evidence = Evidence(champion, report or f"report of {run_id}")
    return Candidate(run_id, f"model {run_id}", f"bundle {run_id}", evidence, passed, clock_us=clock_us)


def first_champion() -> ReleaseState:
    return decisions.decide_candidate(ReleaseState(), candidate("one"), CANARY, 10).state


def two_champions() -> ReleaseState:
    return decisions.decide_candidate(first_champion(), candidate("two", 1), DIRECT, 20).state


def kinds(decision: Decision) -> list[str]:
    return [move.kind.value for move in decision.moves]


def test_the_first_passed_version_serves_at_once():
    decision = decisions.decide_candidate(ReleaseState(), candidate("one"), CANARY, 10)
    assert kinds(decision) == ["registered", "gated", "released"]
    assert (decision.state.champion, decision.state.epoch, decision.cause) == (1, 1, "released")


def test_a_refused_version_is_kept_and_rejected():
    decision = decisions.decide_candidate(first_champion(), candidate("two", 1, passed=False), CANARY, 20)
    assert kinds(decision) == ["registered", "rejected"]
    assert decision.state.champion == 1 and not decision.cause


def test_a_canary_goes_step_by_step_and_only_when_asked():
    state = decisions.decide_candidate(first_champion(), candidate("two", 1), CANARY, 20).state
    assert (state.challenger, state.weight) == (2, 0.1)
    assert [v.role for v in variants_of(state)] == [Role.CHAMPION, Role.CANARY]
    state = decisions.decide_advance(state, 2, CANARY, 30, "fine").state
    assert state.weight == 0.5
    done = decisions.decide_advance(state, 2, CANARY, 40, "fine")
    assert kinds(done) == ["promoted", "retired"]
    assert done.moves[0].other_version == 1
    assert (done.state.champion, done.state.fallback, done.state.challenger) == (2, 1, 0)
    assert [(v.version, v.role, v.fallback) for v in variants_of(done.state)] == [
        (2, Role.CHAMPION, False),
        (1, Role.SHADOW, True),
    ]


def test_a_shadow_is_never_answered_until_it_is_promoted():
    state = decisions.decide_candidate(first_champion(), candidate("two", 1), SHADOW, 20).state
    assert [(v.role, v.weight) for v in variants_of(state)] == [(Role.CHAMPION, 1.0), (Role.SHADOW, 0.0)]
    assert decisions.decide_advance(state, 2, SHADOW, 30, "").state.champion == 2


def test_a_stale_report_asks_for_a_new_gate_and_never_promotes():
    decision = decisions.decide_candidate(two_champions(), candidate("three", 1), DIRECT, 30)
    assert decision.regate == "three" and not decision.cause
    assert decision.state.champion == 2
    again = decisions.decide_candidate(decision.state, candidate("three", 2, report="new"), DIRECT, 40)
    assert again.state.champion == 3 and again.state.last_number == 3


def test_a_run_is_registered_once():
    state = first_champion()
    decision = decisions.decide_candidate(state, candidate("one"), CANARY, 30)
    assert decision.refusal and decision.state == state


def test_a_newer_candidate_retires_the_canary():
    state = decisions.decide_candidate(first_champion(), candidate("two", 1), CANARY, 20).state
    decision = decisions.decide_candidate(state, candidate("three", 1), CANARY, 30)
    assert kinds(decision) == ["registered", "gated", "retired", "released"]
    assert decision.state.versions[2].state is State.RETIRED
    assert decision.state.challenger == 3
    assert decisions.decide_advance(decision.state, 2, CANARY, 40, "").refusal


def test_a_rolled_back_champion_gives_way_to_the_warm_one_once_per_incident():
    state = two_champions()
    decision = decisions.decide_rollback(state, 2, 0, "incident", "worse", 30)
    assert kinds(decision) == ["rolled_back", "restored"]
    assert (decision.moves[0].version, decision.moves[0].other_version) == (2, 1)
    assert decision.state.champion == 1 and decision.state.versions[2].state is State.REJECTED
    assert decisions.decide_rollback(decision.state, 2, 0, "incident", "worse", 30).refusal
    assert decisions.decide_rollback(decision.state, 2, 0, "another", "worse", 30).refusal.startswith("stale")


def test_a_rolled_back_canary_is_rejected_and_the_champion_stays():
    state = decisions.decide_candidate(first_champion(), candidate("two", 1), CANARY, 20).state
    decision = decisions.decide_rollback(state, 2, 0, "", "worse", 30)
    assert decision.state.versions[2].state is State.REJECTED
    assert (decision.state.champion, decision.state.challenger) == (1, 0)


def test_there_is_no_rollback_to_nothing_nor_to_a_rejected_or_broken_version():
    assert "no version to go back to" in decisions.decide_rollback(first_champion(), 1, 0, "", "", 20).refusal
    state = two_champions()
    broken = state.with_version(replace(state.versions[1], broken=True))
    assert decisions.decide_rollback(broken, 2, 0, "", "", 20).refusal
    assert decisions.decide_rollback(state, 2, 9, "", "", 20).refusal


def test_after_a_rollback_evidence_from_before_it_is_held():
    state = decisions.decide_rollback(two_champions(), 2, 0, "", "worse", 30).state
    held = decisions.decide_candidate(state, candidate("three", 1, clock_us=29), DIRECT, 40)
    assert kinds(held)[-1] == "held" and held.state.champion == 1 and not held.regate
    fresh = decisions.decide_candidate(held.state, candidate("four", 1, clock_us=30), DIRECT, 40)
    assert fresh.state.champion == 4
    assert fresh.state.versions[3].state is State.RETIRED


def test_the_guard_ends_on_the_projects_clock():
    state = two_champions()
    assert decisions.decide_guard(state, DIRECT, 119).refusal
    over = decisions.decide_guard(state, DIRECT, 120)
    assert over.cause == "retired" and over.state.fallback == 0
    assert decisions.decide_rollback(over.state, 2, 0, "", "", 200).state.champion == 1


def test_force_is_champion_at_once_and_keeps_the_old_one_warm():
    forced = decisions.decide_forced(first_champion(), candidate("", 0, passed=False), 20)
    assert kinds(forced) == ["registered", "forced", "retired"]
    assert (forced.state.champion, forced.state.fallback) == (2, 1)


def test_a_version_that_no_replica_loads_gives_way():
    state = two_champions()
    decision = decisions.decide_unloadable(state, 2, "bad graph", 30)
    assert decision.state.champion == 1 and "bad graph" in decision.moves[0].reason
    alone = decisions.decide_unloadable(first_champion(), 1, "bad graph", 30)
    assert alone.refusal and alone.state.versions[1].broken


def test_the_champion_cannot_be_retired():
    assert decisions.decide_retire(first_champion(), 1, "").refusal


class Releases(RuleBasedStateMachine):
    """Any sequence of requests, from anybody, stale or not."""

    def __init__(self) -> None:
        super().__init__()
        self.state = ReleaseState()
        self.now_us = 0
        self.runs = 0
        self.rolled_back: list[tuple[int, str]] = []

    def follow(self, decision: Decision) -> None:
        before, after = self.state, decision.state
        assert after.epoch == before.epoch + bool(decision.cause)
        assert (variants_of(before) != variants_of(after)) <= bool(decision.cause)
        for move in decision.moves:
            if move.kind is Kind.PROMOTED and move.target is State.CHAMPION:
                assert after.versions[move.version].candidate.evidence.champion == before.champion
        self.state = after
        self.now_us += 1

    @rule(behind=st.integers(0, 2), passed=st.booleans(), rollout=st.sampled_from([CANARY, DIRECT, SHADOW]))
    def run_ends(self, behind: int, passed: bool, rollout: Rollout) -> None:
        self.runs += 1
        champion = max(0, self.state.champion - behind)
        found = candidate(f"run {self.runs}", champion, passed, self.now_us)
        self.follow(decisions.decide_candidate(self.state, found, rollout, self.now_us))

    @rule(run=st.integers(1, 8), passed=st.booleans(), report=st.sampled_from(["x", "y"]))
    def gate_again(self, run: int, passed: bool, report: str) -> None:
        if self.state.by_run(f"run {run}") is not None:
            found = candidate(f"run {run}", self.state.champion, passed, self.now_us, report)
            self.follow(decisions.decide_candidate(self.state, found, CANARY, self.now_us))

    @rule(version=st.integers(0, 8), rollout=st.sampled_from([CANARY, DIRECT, SHADOW]))
    def advance(self, version: int, rollout: Rollout) -> None:
        self.follow(decisions.decide_advance(self.state, version, rollout, self.now_us, ""))

    @rule(version=st.integers(0, 8), back_to=st.integers(0, 8), incident=st.sampled_from(["", "a", "b"]))
    def roll_back(self, version: int, back_to: int, incident: str) -> None:
        decision = decisions.decide_rollback(self.state, version, back_to, incident, "", self.now_us)
        if not decision.refusal and incident:
            self.rolled_back.append((version, incident))
        self.follow(decision)

    @rule(version=st.integers(0, 8))
    def promote(self, version: int) -> None:
        self.follow(decisions.decide_promote(self.state, version, self.now_us, ""))

    @rule(version=st.integers(0, 8))
    def retire(self, version: int) -> None:
        self.follow(decisions.decide_retire(self.state, version, ""))

    @rule(version=st.integers(0, 8))
    def fail_to_load(self, version: int) -> None:
        self.follow(decisions.decide_unloadable(self.state, version, "", self.now_us))

    @rule()
    def force(self) -> None:
        self.follow(decisions.decide_forced(self.state, candidate("", 0, False, self.now_us), self.now_us))

    @rule(hours=st.integers(1, 200))
    def time_passes(self, hours: int) -> None:
        self.now_us += hours
        self.follow(decisions.decide_guard(self.state, CANARY, self.now_us))

    @invariant()
    def one_champion(self) -> None:
        champions = [n for n, v in self.state.versions.items() if v.state is State.CHAMPION]
        assert champions == ([self.state.champion] if self.state.champion else [])

    @invariant()
    def one_challenger(self) -> None:
        found = [n for n, v in self.state.versions.items() if v.state in (State.CANARY, State.SHADOW)]
        assert found == ([self.state.challenger] if self.state.challenger else [])

    @invariant()
    def plan_is_sound(self) -> None:
        plan = variants_of(self.state)
        assert len({v.version for v in plan}) == len(plan)
        assert not plan or abs(sum(v.weight for v in plan) - 1.0) < 1e-12
        for variant in plan:
            assert self.state.versions[variant.version].state is not State.REJECTED

    @invariant()
    def one_rollback_per_incident(self) -> None:
        assert len(self.rolled_back) == len(set(self.rolled_back))


TestReleases = Releases.TestCase
TestReleases.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


class ReleasesAtLength(Releases):
    """The same machine; a class of its own, because settings belong to the test case."""


TestReleasesAtLength = pytest.mark.prove(ReleasesAtLength.TestCase)
TestReleasesAtLength.settings = settings(max_examples=2000, stateful_step_count=80, deadline=None)


@given(st.lists(st.booleans(), max_size=20))
def test_version_numbers_are_never_used_twice(passed):
    state = ReleaseState()
    for index, verdict in enumerate(passed):
        state = decisions.decide_candidate(state, candidate(f"{index}", state.champion, verdict), DIRECT, index).state
    assert sorted(state.versions) == list(range(1, len(passed) + 1))
