"""Is the version on trial worse than the version that would serve in its place?

Evidence is paired: both versions scored the same logged inputs. Before labels, how far the two disagree counts; with
labels, the difference of their losses. Every bound is a confidence sequence, so the judge may look at each step of the
clock without spending its confidence; the two tests share it (half of 1 - confidence each). An estimate alone never
acts.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from millrace.definitions.model import ReleaseMonitor, Task
from millrace.statistics import confidence_sequence
from numpy.typing import NDArray

Floats = NDArray[np.float64]

FAILING_SHARE = 0.1  # a version whose requests fail this often, with confidence, is failing
_EMPTY = np.empty(0)


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is logged of one trial, in the order in which it became known.

    Pairs are rows scored by both: `ours` (on trial) and `theirs` (target); `truth` is NaN where no label has matured.
    Arms are the rows that only one of them answered, of use for a canary without shadow pairs.
    `scale` is the spread of the target's outputs (regression; 1 for probabilities). `failures` counts of `requests`.
    """

    ours: Floats = field(default_factory=lambda: _EMPTY)
    theirs: Floats = field(default_factory=lambda: _EMPTY)
    truth: Floats = field(default_factory=lambda: _EMPTY)
    our_arm: Floats = field(default_factory=lambda: _EMPTY)
    our_arm_truth: Floats = field(default_factory=lambda: _EMPTY)
    their_arm: Floats = field(default_factory=lambda: _EMPTY)
    their_arm_truth: Floats = field(default_factory=lambda: _EMPTY)
    scale: float = 1.0
    requests: int = 0
    failures: int = 0


@dataclass(frozen=True, slots=True)
class Finding:
    """What one test found. `against`: it condemns the version on trial."""

    test: str  # disagreement, loss, failures
    against: bool
    statistic: float
    bound: float  # the lower confidence bound that is compared with the threshold
    threshold: float
    observations: int
    reason: str


def judge(evidence: Evidence, rule: ReleaseMonitor, task: Task) -> list[Finding]:
    """Every test that had enough evidence, the heaviest first: failures, loss, disagreement."""
    confidence = 1 - (1 - rule.confidence) / 2
    found = [_failures(evidence, rule, confidence)]
    if len(evidence.ours) >= min(rule.min_predictions, rule.min_labels):
        found += [_paired_loss(evidence, rule, task, confidence), _disagreement(evidence, rule, task, confidence)]
    else:
        found += [_arm_loss(evidence, rule, task, confidence), _arm_shift(evidence, rule, task, confidence)]
    return [finding for finding in found if finding is not None]


def losses(truth: Floats, outputs: Floats, task: Task, scale: float) -> Floats:
    """Loss per row within [0, 1]: Brier for probabilities; for numbers the squared error in units of 3 scales, clipped.

    The clip bounds one wild row's weight; it is the same for both versions.
    """
    error = outputs - truth
    if task is Task.REGRESSION:
        error = error / (3 * scale)
    return np.clip(error**2, 0.0, 1.0)


def _failures(evidence: Evidence, rule: ReleaseMonitor, confidence: float) -> Finding | None:
    if evidence.requests < rule.min_predictions:
        return None
    # Counts have no order left; failures last is the order that condemns least.
    values = np.r_[np.zeros(evidence.requests - evidence.failures), np.ones(evidence.failures)]
    band = confidence_sequence(values, 0.0, 1.0, confidence)
    share = evidence.failures / evidence.requests
    reason = f"{evidence.failures} of {evidence.requests} requests failed"
    return Finding("failures", band.low > FAILING_SHARE, share, band.low, FAILING_SHARE, evidence.requests, reason)


def _paired_loss(evidence: Evidence, rule: ReleaseMonitor, task: Task, confidence: float) -> Finding | None:
    known = ~np.isnan(evidence.truth)
    if known.sum() < rule.min_labels:
        return None
    truth = evidence.truth[known]
    ours = losses(truth, evidence.ours[known], task, evidence.scale)
    theirs = losses(truth, evidence.theirs[known], task, evidence.scale)
    band = confidence_sequence(ours - theirs, -1.0, 1.0, confidence)
    return _loss_finding(ours, theirs, band.low, len(truth), rule, "on the same inputs")


def _arm_loss(evidence: Evidence, rule: ReleaseMonitor, task: Task, confidence: float) -> Finding | None:
    our_known, their_known = ~np.isnan(evidence.our_arm_truth), ~np.isnan(evidence.their_arm_truth)
    if min(our_known.sum(), their_known.sum()) < rule.min_labels:
        return None
    each = 1 - (1 - confidence) / 2  # two bands, both must hold
    ours = losses(evidence.our_arm_truth[our_known], evidence.our_arm[our_known], task, evidence.scale)
    theirs = losses(evidence.their_arm_truth[their_known], evidence.their_arm[their_known], task, evidence.scale)
    low = confidence_sequence(ours, 0.0, 1.0, each).low - confidence_sequence(theirs, 0.0, 1.0, each).high
    return _loss_finding(ours, theirs, low, len(ours), rule, "between the arms")


def _loss_finding(ours: Floats, theirs: Floats, low: float, labelled: int, rule: ReleaseMonitor, where: str) -> Finding:
    gap = float(ours.mean() - theirs.mean())
    against = low > 0
    verdict = f"the loss is higher {where} by at least {low:.4f}" if against else f"no proven loss {where}"
    reason = (
        f"{verdict} (mean {ours.mean():.4f} against {theirs.mean():.4f}, {labelled} labels, "
        f"confidence {rule.confidence:g} at every look)"
    )
    return Finding("loss", against, gap, low, 0.0, labelled, reason)


def _disagreement(evidence: Evidence, rule: ReleaseMonitor, task: Task, confidence: float) -> Finding | None:
    count = len(evidence.ours)
    if count < rule.min_predictions:
        return None
    unit = evidence.scale if task is Task.REGRESSION else 1.0
    cap = max(1.0, 4 * rule.max_disagreement)  # bounded values make the bound valid; the clip only lowers the mean
    apart = np.minimum(np.abs(evidence.ours - evidence.theirs) / unit, cap)
    band = confidence_sequence(apart, 0.0, cap, confidence)
    reason = (
        f"the outputs differ from the target's by {band.mean:.3f} on average over {count} shared inputs "
        f"(at least {band.low:.3f}; allowed {rule.max_disagreement:g})"
    )
    limit = rule.max_disagreement
    return Finding("disagreement", band.low > limit, band.mean, band.low, limit, count, reason)


def _arm_shift(evidence: Evidence, rule: ReleaseMonitor, task: Task, confidence: float) -> Finding | None:
    """Without pairs: the arms get random keys, so their mean outputs should agree."""
    ours, theirs = evidence.our_arm, evidence.their_arm
    if min(len(ours), len(theirs)) < rule.min_predictions:
        return None
    each = 1 - (1 - confidence) / 4  # two bands, two sides
    if task is Task.REGRESSION:
        centre = float(np.median(theirs))
        ours, theirs = ((np.clip((a - centre) / (6 * evidence.scale), -0.5, 0.5) + 0.5) for a in (ours, theirs))
    unit = 6.0 if task is Task.REGRESSION else 1.0
    a, b = confidence_sequence(ours, 0.0, 1.0, each), confidence_sequence(theirs, 0.0, 1.0, each)
    shift = unit * abs(a.mean - b.mean)
    # The running bounds take the hours for alike; where they are not, a bound can overtake the mean and says too much.
    low = min(shift, unit * max(0.0, a.low - b.high, b.low - a.high))
    reason = f"the mean output lies {shift:.3f} from the champion's (at least {low:.3f}) over {len(ours)} keys"
    limit = rule.max_disagreement
    return Finding("disagreement", low > limit, shift, low, limit, len(ours), reason)


def spread(outputs: Floats) -> float:
    """A robust spread of outputs, in their unit: the interquartile range over 1.349; 1 when there is none."""
    usable = outputs[~np.isnan(outputs)]
    if len(usable) == 0:
        return 1.0
    low, high = np.quantile(usable, [0.25, 0.75])
    return float(high - low) / 1.349 or 1.0
