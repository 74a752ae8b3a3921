"""The judge over recorded evidence: convicts what is worse, lets what is good pass, and keeps its confidence."""

import numpy as np
import pytest
from millrace.definitions.model import ReleaseMonitor, Task

from services.monitor.domain import judge
from services.monitor.domain.judge import Evidence

RULE = ReleaseMonitor(max_disagreement=0.4, min_predictions=150, min_labels=300, confidence=0.99)
NAN = np.full(1000, np.nan)


def scores(random, truth, skill, noise=0.15):
    return np.clip(0.5 + skill * (truth - 0.5) + random.normal(0, noise, len(truth)), 0, 1)


@pytest.fixture
def random():
    return np.random.default_rng(2)


def against(evidence, task=Task.BINARY, rule=RULE):
    return [f.test for f in judge.judge(evidence, rule, task) if f.against]


def test_disagreement_counts_before_labels(random):
    truth = (random.random(300) < 0.4).astype(float)
    ours, theirs = scores(random, truth, -0.9), scores(random, truth, 0.7)
    assert against(Evidence(ours=ours, theirs=theirs, truth=NAN[:300])) == ["disagreement"]
    assert against(Evidence(ours=ours[:149], theirs=theirs[:149], truth=NAN[:149])) == []
    assert against(Evidence(ours=scores(random, truth, 0.6), theirs=theirs, truth=NAN[:300])) == []


def test_labels_convict_what_loses_more(random):
    truth = (random.random(900) < 0.4).astype(float)
    theirs = scores(random, truth, 0.5)
    worse = Evidence(ours=np.full(900, 0.7), theirs=theirs, truth=truth)
    (finding,) = [f for f in judge.judge(worse, RULE, Task.BINARY) if f.against]
    assert finding.test == "loss" and finding.bound > 0 and finding.observations == 900
    assert "900 labels" in finding.reason
    unlabelled = np.where(np.arange(900) < 299, truth, np.nan)
    assert against(Evidence(ours=np.full(900, 0.7), theirs=theirs, truth=unlabelled)) == []


def test_an_equal_version_is_hardly_ever_convicted(random):
    wrong = 0
    for _ in range(60):
        truth = (random.random(600) < 0.3).astype(float)
        wrong += bool(
            against(Evidence(ours=scores(random, truth, 0.4), theirs=scores(random, truth, 0.4), truth=truth))
        )
    assert wrong <= 1  # 1 % at every look together


def test_numbers_are_judged_in_units_of_the_spread(random):
    truth = random.normal(60, 15, 800)
    theirs = truth + random.normal(0, 3, 800)
    scale = judge.spread(theirs)
    assert scale == pytest.approx(15, rel=0.15)
    seconds = Evidence(ours=theirs * 60, theirs=theirs, truth=NAN[:800], scale=scale)
    assert against(seconds, Task.REGRESSION) == ["disagreement"]
    worse = Evidence(ours=truth + random.normal(0, 25, 800), theirs=theirs, truth=truth, scale=scale)
    assert "loss" in against(worse, Task.REGRESSION)
    same = Evidence(ours=truth + random.normal(0, 3, 800), theirs=theirs, truth=truth, scale=scale)
    assert against(same, Task.REGRESSION) == []


def test_arms_stand_in_where_there_are_no_pairs(random):
    truth = (random.random(3000) < 0.4).astype(float)
    good, bad = scores(random, truth[:1500], 0.7, 0.05), scores(random, truth[1500:], -0.7, 0.05)
    arms = {"their_arm": good, "their_arm_truth": truth[:1500], "our_arm_truth": truth[1500:]}
    assert against(Evidence(our_arm=bad, **arms)) == ["loss"]
    assert against(Evidence(our_arm=scores(random, truth[1500:], 0.7, 0.05), **arms)) == []
    shifted = Evidence(our_arm=np.full(1500, 0.95), **arms)
    assert "disagreement" in against(shifted)


def test_a_version_that_fails_is_convicted():
    assert against(Evidence(requests=400, failures=300)) == ["failures"]
    assert against(Evidence(requests=400, failures=4)) == []
    assert against(Evidence(requests=100, failures=100)) == []


def test_spread_of_nothing_is_one():
    assert judge.spread(np.array([])) == 1.0
    assert judge.spread(np.full(5, 3.0)) == 1.0
