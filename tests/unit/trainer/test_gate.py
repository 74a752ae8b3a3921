"""What a candidate must show."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from millrace.definitions.gate import Gate
from sklearn.metrics import log_loss as sklearn_log_loss
from sklearn.metrics import roc_auc_score

from services.trainer.domain import metrics
from services.trainer.domain.gate import Evidence, judge, report_json
from services.trainer.domain.metrics import MEASURES, Bootstrap, expected_calibration_error, gain_bound
from services.trainer.domain.parts import slice_rows

GATE = Gate(metric="auc", margin=0.0, confidence=0.8)


def evidence(rows: int = 800, noise: float = 1.0, seed: int = 0) -> Evidence:
    """A candidate whose score is the truth's log odds plus noise."""
    random = np.random.default_rng(seed)
    score = random.normal(size=rows) * 1.5
    labels = (random.random(rows) < 1 / (1 + np.exp(-score))).astype(float)
    return Evidence(labels=labels, candidate=noisy(score, noise, 1), blocks=np.arange(rows) // 3)


def noisy(score, noise, seed):
    return 1 / (1 + np.exp(-(score + np.random.default_rng(seed).normal(size=len(score)) * noise)))


def failed(verdict):
    return {check.name for check in verdict.checks if not check.passed}


@pytest.mark.parametrize("ties", [False, True])
def test_measures_agree_with_scikit_learn(ties):
    case = evidence()
    scores = case.candidate.round(1) if ties else case.candidate
    assert MEASURES["auc"].value(case.labels, scores) == pytest.approx(roc_auc_score(case.labels, scores), abs=1e-12)
    assert MEASURES["log_loss"].value(case.labels, case.candidate) == pytest.approx(
        sklearn_log_loss(case.labels, case.candidate)
    )


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5), st.integers(0, 3)), min_size=2, max_size=30))
def test_a_weight_counts_like_that_many_copies_of_the_row(rows):
    labels, scores, weights = (np.array([row[i] for row in rows], dtype=float) for i in range(3))
    for measure in MEASURES.values():
        copies = np.repeat(np.arange(len(rows)), weights.astype(int))
        predictions = scores / 5
        weighted = measure.evaluate(labels, predictions, np.arange(len(rows)), weights[None, :])[0]
        assert weighted == pytest.approx(measure.value(labels[copies], predictions[copies]), nan_ok=True)


def test_many_blocks_are_counted_by_rows_with_the_same_result(monkeypatch):
    random = np.random.default_rng(5)
    labels, scores = (random.random(900) < 0.3).astype(float), random.random(900).round(2)
    blocks, draws = random.integers(0, 60, 900), random.integers(0, 3, (40, 60)).astype(float)
    by_pairs = MEASURES["auc"].evaluate(labels, scores, blocks, draws)
    monkeypatch.setattr(metrics, "MOST_PAIRED_BLOCKS", 10)
    np.testing.assert_array_equal(MEASURES["auc"].evaluate(labels, scores, blocks, draws), by_pairs)
    weights = draws[0][blocks]
    assert by_pairs[0] == pytest.approx(roc_auc_score(labels, scores, sample_weight=weights), abs=1e-12)


def test_a_bound_drawn_in_portions_is_the_same(monkeypatch):
    case, other = evidence(), evidence(noise=1.0).candidate

    def bound(measure):
        return gain_bound(MEASURES[measure], case.labels, case.candidate, other, case.blocks, Bootstrap(0.8, 50, 3))

    whole = {name: bound(name) for name in ("auc", "log_loss")}
    monkeypatch.setattr(metrics, "BOOTSTRAP_CELLS", 7 * (int(case.blocks.max()) + 1))
    for name, (point, least) in whole.items():
        assert bound(name) == (point, pytest.approx(least, abs=1e-12))


def test_auc_has_no_value_for_one_class_and_that_never_passes():
    case = evidence()
    alone = replace(case, labels=np.zeros_like(case.labels))
    verdict = judge(replace(GATE, floors=(("auc", 0.1),)), binary=True, evidence=alone, seed=1)
    assert failed(verdict) == {"floor:auc"}
    assert verdict.checks[0].value is None


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000), st.floats(0.0, 0.05))
def test_an_equal_model_is_refused(seed, margin):
    case = evidence(rows=300, seed=seed)
    same = replace(case, champion=case.candidate.copy(), champion_version=3)
    verdict = judge(replace(GATE, margin=margin), binary=True, evidence=same, seed=seed)
    assert failed(verdict) == {"champion"}
    assert "does not beat champion version 3" in verdict.reason


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 1000))
def test_a_worse_model_is_refused_and_a_clearly_better_one_passes(seed):
    case = evidence(rows=1000, noise=0.1, seed=seed)
    # A seed that no case has: with its own the noise would be the score once more.
    noise = noisy(np.log(case.candidate / (1 - case.candidate)), 6.0, 10_005)
    better = replace(case, champion=noise, champion_version=1)
    assert judge(GATE, binary=True, evidence=better, seed=seed).passed
    worse = replace(better, candidate=better.champion, champion=better.candidate)
    assert failed(judge(GATE, binary=True, evidence=worse, seed=seed)) == {"champion"}


def test_a_simpler_model_that_is_not_worse_wins():
    case = replace(evidence(), baselines={"linear": evidence().candidate})
    verdict = judge(GATE, binary=True, evidence=case, seed=1)
    assert failed(verdict) == {"simpler:linear"}
    assert "the simpler linear baseline is not worse" in verdict.reason


def test_a_linear_net_need_not_beat_the_linear_baseline_only_reach_it():
    case = replace(evidence(), kind="linear", baselines={"linear": evidence().candidate})
    verdict = judge(GATE, binary=True, evidence=case, seed=1)
    assert verdict.passed and "is not worse than the linear baseline" in verdict.reason
    assert [(c.name, c.threshold) for c in verdict.checks] == [("simpler:linear", -0.005)]
    worse = judge(GATE, binary=True, evidence=replace(case, candidate=evidence(noise=2.0).candidate), seed=1)
    assert failed(worse) == {"simpler:linear"} and "may be worse than the linear baseline" in worse.reason


def test_a_stand_in_is_compared_with_the_net_that_was_tried():
    case = replace(evidence(), kind="linear", tried=evidence().candidate)
    same = judge(GATE, binary=True, evidence=case, seed=1)
    assert same.may_stand_in and same.metrics["tried"] == same.metrics["candidate"]
    worse = judge(GATE, binary=True, evidence=replace(case, candidate=evidence(noise=2.0).candidate), seed=1)
    assert not worse.may_stand_in and failed(worse) == {"tried"}
    assert not judge(GATE, binary=True, evidence=evidence(), seed=1).may_stand_in


@pytest.mark.parametrize(("share_worse", "passes"), [(0.005, True), (0.02, False)])
def test_of_an_error_metric_a_hundredth_is_allowed(share_worse, passes):
    labels = np.random.default_rng(0).normal(size=300)
    case = Evidence(labels, labels + 0.1 * (1 + share_worse), np.arange(300), kind="linear", tried=labels + 0.1)
    verdict = judge(Gate(metric="mae"), binary=False, evidence=case, seed=1)
    assert verdict.may_stand_in is passes
    assert verdict.checks[0].threshold == pytest.approx(-0.001)


def test_a_bound_without_a_value_neither_passes_nor_yields_to_the_baseline():
    beaten = replace(evidence(), baselines={"linear": evidence().candidate})
    assert judge(GATE, binary=True, evidence=beaten, seed=1).yields_to("linear")
    assert not judge(GATE, binary=True, evidence=beaten, seed=1).yields_to("constant")
    one_class = replace(beaten, labels=np.zeros_like(beaten.labels), tried=beaten.candidate)
    broken = replace(beaten, candidate=np.full_like(beaten.candidate, np.nan), tried=beaten.candidate)
    for case in (one_class, broken):
        verdict = judge(GATE, binary=True, evidence=case, seed=1)
        assert failed(verdict) == {"simpler:linear", "tried"}
        assert not verdict.yields_to("linear") and not verdict.may_stand_in


def test_equal_models_pass_as_seldom_as_the_confidence_says():
    passed = 0
    for seed in range(60):
        case = evidence(rows=400, noise=1.0, seed=seed)
        score = np.log(case.candidate / (1 - case.candidate))
        first, second = noisy(score, 0.5, 2 * seed), noisy(score, 0.5, 2 * seed + 1)
        _, bound = gain_bound(MEASURES["auc"], case.labels, first, second, case.blocks, Bootstrap(0.8, 200, seed))
        passed += bound > 0
    assert 3 <= passed <= 22  # 20 % of 60 are 12; about three standard deviations around it


def test_every_limit_is_a_check_with_value_and_threshold():
    strict = replace(GATE, floors=(("auc", 0.99), ("log_loss", 0.01)), max_ece=0.0, max_p99_ms=1.0, max_size_mb=0.5)
    case = replace(evidence(), p99_ms=2.0, size_bytes=10**6, largest_difference=1e-3)
    verdict = judge(strict, binary=True, evidence=case, seed=1)
    assert failed(verdict) == {"floor:auc", "floor:log_loss", "calibration", "graph_equality", "latency", "size"}
    report = json.loads(report_json(verdict, case, {"run_id": "r"}))
    assert report["verdict"] == "REFUSED"
    assert {"name", "passed", "reason", "threshold", "value"} == set(report["checks"][0])


def test_the_same_evidence_gives_the_same_report():
    case = replace(evidence(), champion=evidence(noise=3.0).candidate, champion_version=4)
    first, second = (judge(GATE, binary=True, evidence=case, seed=9) for _ in range(2))
    assert report_json(first, case, {}) == report_json(second, case, {})
    assert first.champion_version == 4


def test_regression_is_judged_by_its_own_measures():
    random = np.random.default_rng(0)
    labels = random.normal(size=300)
    case = Evidence(labels, labels + 0.1, np.arange(300), baselines={"constant": np.zeros(300)})
    verdict = judge(Gate(metric="mae", floors=(("rmse", 0.2),)), binary=False, evidence=case, seed=1)
    assert verdict.passed
    assert verdict.metrics["candidate"]["mae"] == pytest.approx(0.1)


def test_calibration_error_is_zero_for_an_honest_and_large_for_a_shifted_model():
    random = np.random.default_rng(0)
    p = random.random(50_000)
    labels = (random.random(50_000) < p).astype(float)
    assert expected_calibration_error(labels, p) < 0.01
    assert expected_calibration_error(labels, np.clip(p + 0.3, 0, 1)) > 0.2


def test_slices_cover_strings_and_numbers_and_small_ones_have_no_metric():
    names = [name for name, _ in slice_rows(np.array(["a", "a", "b"], dtype=object))]
    assert names == ["a", "b"]
    parts = slice_rows(np.array([1.0, 2, 3, 4, np.nan], dtype=np.float32))
    assert sum(int(rows.sum()) for _, rows in parts) == 5
    case = evidence()
    sliced = replace(case, parts={"kind": np.array(["a"] * 790 + ["b"] * 10, dtype=object)})
    lines = judge(replace(GATE, slices=("kind",)), binary=True, evidence=sliced, seed=1).slices["kind"]
    assert [line["rows"] for line in lines] == [790, 10]
    assert lines[0]["candidate"] is not None and lines[1]["candidate"] is None


def test_rows_that_were_judged_by_before_ask_for_more():
    """The same comparison passes the first time and not when the rows have been used often."""
    case = evidence(rows=600, noise=0.8, seed=3)
    known = noisy(np.log(case.candidate / (1 - case.candidate)), 0.9, 10_003)
    fresh = replace(case, champion=known, champion_version=1)
    verdict = judge(GATE, binary=True, evidence=fresh, seed=1)
    assert verdict.passed and "with confidence 0.8)" in verdict.reason
    worn = judge(GATE, binary=True, evidence=replace(fresh, window_uses=400.0), seed=1)
    assert failed(worn) == {"champion"} and "confidence 0.9999988, the rows judged by 400 times" in worn.reason
    often = judge(GATE, binary=True, evidence=replace(fresh, window_uses=2.0), seed=1)
    assert "with confidence 0.95, the rows judged by 2 times" in often.checks[0].reason
    assert json.loads(report_json(often, replace(fresh, window_uses=2.0), {}))["window_uses"] == 2.0


def test_a_bound_far_out_goes_on_where_the_draws_end():
    case = evidence(rows=800)
    other = noisy(np.log(case.candidate / (1 - case.candidate)), 0.5, 10_001)
    bounds = [
        gain_bound(MEASURES["auc"], case.labels, case.candidate, other, case.blocks, Bootstrap(confidence, 500, 1))[1]
        for confidence in (0.9, 0.98, 0.9999, 0.99999999)
    ]
    steps = np.diff(bounds)
    assert (steps < 0).all() and steps[2] < steps[0] / 3
