"""The gate: what a candidate must show on rows it never saw before it may be released.

Every check gives a name, a value, a threshold and a sentence, so that a refusal says exactly why. Order of thought:
is the candidate good enough at all (floors), better than models that are simpler (baselines: a simpler model that is
not worse wins; a linear net need not beat the linear baseline, only reach it), not worse than the net it stands in for
(tried), better than the one that serves (champion), honest about its certainty (calibration), and fit to serve
(equal to what was trained, fast, small)? Then parts of the rows (slices, groups), and the same rows with inputs that
are worse or were changed on purpose (robustness, behaviour).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from millrace.definitions.gate import Disturbance, Gate
from numpy.typing import NDArray

from services.trainer.domain.metrics import (
    BINARY_MEASURES,
    MEASURES,
    REGRESSION_MEASURES,
    Bootstrap,
    Floats,
    expected_calibration_error,
    gain_bound,
)
from services.trainer.domain.parts import Answers, Found, judge_fairness, judge_slices, report_slices
from services.trainer.domain.probes import MISSING, NOISE, SWAPS, Probed, as_expected, behaviour_name, robustness_name

RESAMPLES = 500
MAX_DIFFERENCE = 1e-5  # graph against net, absolute, in units of probability or of the label's spread
PASSED, REFUSED = "PASSED", "REFUSED"
MIN_CHANGED = 30  # rows: of fewer a behaviour is not known
LINEAR, TRIED = "linear", "tried"
# "Not worse" allows for so much, as two fits of one linear model differ by about that: another solver, another penalty,
# stopped by validation or not. Without it the bound of an equal model, which is below zero, would never pass.
TOLERANCE_AUC = 0.005
TOLERANCE_ERROR_SHARE = 0.01  # of the other model's error, where the metric is one


@dataclass(frozen=True, slots=True)
class Check:
    """One question to the candidate. `value` None: it has no value on these rows, which never passes."""

    name: str
    value: float | None
    threshold: float
    passed: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything that was measured on the holdout; predictions are float64[n] in the order of `labels`."""

    labels: Floats
    candidate: Floats
    blocks: NDArray[np.int64]
    kind: str = ""  # of the candidate; a baseline of that name is its own kind and need not be beaten
    baselines: Mapping[str, Floats] = field(default_factory=dict)
    tried: Floats | None = None  # the net that the candidate would stand in for
    champion: Floats | None = None
    champion_version: int = 0
    champion_note: str = ""  # why there is a champion but no prediction of it
    parts: Mapping[str, NDArray[Any]] = field(default_factory=dict)  # values of the inputs that make slices and groups
    window_uses: float = 1.0  # how often these rows are judged by, this time included
    probed: Mapping[str, Probed] = field(default_factory=dict)  # the candidate's answers to each probe
    p99_ms: float = 0.0
    size_bytes: int = 0
    largest_difference: float | None = None  # graph against net; None: there is no net to compare with

    def confidence(self, settings: Gate) -> float:
        """What a comparison needs: rows that were judged by before pass a lucky model sooner.

        The k-th use may err with (1 - confidence) / k²: all uses of one whole holdout together with 1.65 times that of
        the first, however many there are (the sum of 1 / k² is π² / 6). Rows that are shared in part count in part.
        """
        return 1 - (1 - settings.confidence) / self.window_uses**2

    @property
    def answers(self) -> Answers:
        """What is known of each row."""
        return Answers(self.labels, self.candidate, self.champion, self.blocks)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The gate's answer with all it stands on."""

    verdict: str
    checks: tuple[Check, ...]
    metrics: Mapping[str, Mapping[str, float]]  # of candidate, tried, champion and each baseline
    slices: Mapping[str, list[dict[str, Any]]]
    champion_version: int

    @property
    def passed(self) -> bool:
        """Whether every check passed."""
        return self.verdict == PASSED

    @property
    def reason(self) -> str:
        """Why it was refused; when it passed, what it showed on the declared metric."""
        failed = [check.reason for check in self.checks if not check.passed]
        return "; ".join(failed) if failed else "; ".join(check.reason for check in self.checks[:3])

    def yields_to(self, baseline: str) -> bool:
        """Whether that baseline was shown to be no worse. A bound that has no value shows nothing."""
        checks = (check for check in self.checks if check.name == f"simpler:{baseline}")
        return any(not check.passed and check.value is not None for check in checks)

    @property
    def may_stand_in(self) -> bool:
        """Whether it was compared with the net that was tried before it, and is not worse."""
        return any(check.name == TRIED and check.passed for check in self.checks)


def judge(settings: Gate, *, binary: bool, evidence: Evidence, seed: int) -> Verdict:
    """Puts every question; the same evidence and seed give the same verdict."""
    checks = [*_floors(settings, evidence), *_comparisons(settings, evidence, seed)]
    if binary and settings.max_ece is not None:
        ece = expected_calibration_error(evidence.labels, evidence.candidate)
        checks.append(_at_most("calibration", ece, settings.max_ece, "expected calibration error"))
    if evidence.largest_difference is not None:
        checks.append(
            _at_most("graph_equality", evidence.largest_difference, MAX_DIFFERENCE, "largest graph difference")
        )
    if settings.max_p99_ms is not None:
        checks.append(_at_most("latency", evidence.p99_ms, settings.max_p99_ms, "p99 of a single row in ms"))
    if settings.max_size_mb is not None:
        checks.append(_at_most("size", evidence.size_bytes / 1e6, settings.max_size_mb, "size in MB"))
    checks += [*_parts(settings, evidence, seed), *_robustness(settings, evidence), *_behaviour(settings, evidence)]
    answers = evidence.answers
    return Verdict(
        verdict=PASSED if all(check.passed for check in checks) else REFUSED,
        checks=tuple(checks),
        metrics=_all_metrics(evidence, binary=binary),
        slices={name: report_slices(settings.metric, answers, evidence.parts[name]) for name in settings.slices},
        champion_version=evidence.champion_version,
    )


def report_json(verdict: Verdict, evidence: Evidence, facts: Mapping[str, Any]) -> str:
    """The gate report: canonical JSON, so that equal reports have equal digests. `facts` says what was judged."""
    report = {
        "format": "millrace.gate/1",
        **facts,
        "verdict": verdict.verdict,
        "reason": verdict.reason,
        "checks": [asdict(check) for check in verdict.checks],
        "metrics": verdict.metrics,
        "slices": verdict.slices,
        "champion": {"version": evidence.champion_version, "note": evidence.champion_note},
        "holdout_rows": len(evidence.labels),
        "window_uses": round(evidence.window_uses, 4),
        "bootstrap_resamples": RESAMPLES,
    }
    return canonical_json(report)


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spaces; a number that is none becomes null."""
    return json.dumps(_finite(value), sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False)


def _floors(settings: Gate, evidence: Evidence) -> list[Check]:
    checks = []
    for name, floor in settings.floors:
        measure = MEASURES[name]
        value = measure.value(evidence.labels, evidence.candidate)
        passed = not math.isnan(value) and measure.gain(value, floor) >= 0
        words = f"{name} {_text(value)} {'meets' if passed else 'misses'} the floor {_text(floor)}"
        checks.append(Check(f"floor:{name}", _known(value), floor, passed, words))
    return checks


def _comparisons(settings: Gate, evidence: Evidence, seed: int) -> list[Check]:
    """The candidate against every other model that answered the same rows."""
    checks = []
    for name, predictions in evidence.baselines.items():
        if name == evidence.kind:
            words = f"the {name} baseline"
            checks.append(_not_worse(settings, evidence, f"simpler:{name}", words, predictions, seed))
        else:
            checks.append(_simpler(settings, evidence, name, predictions, seed))
    if evidence.tried is not None:
        checks.append(_not_worse(settings, evidence, TRIED, "the net that was tried", evidence.tried, seed))
    if evidence.champion is not None:
        checks.append(_champion(settings, evidence, evidence.champion, seed))
    return checks


def _not_worse(settings: Gate, evidence: Evidence, name: str, other: str, predictions: Floats, seed: int) -> Check:
    """Non-inferiority: the bound may lie below zero, by less than the tolerance."""
    gain, bound = _bound(settings, evidence, predictions, seed)
    threshold = -_tolerance(settings.metric, evidence.labels, predictions)
    passed = bound > threshold  # false where either is NaN
    sure = _sure(settings, evidence, gain, bound)
    verb = "is not worse" if passed else "may be worse"
    words = f"{verb} than {other}, {_text(-threshold)} allowed ({sure})"
    return Check(name, _known(bound), threshold, passed, words)


def _tolerance(metric: str, labels: Floats, other: Floats) -> float:
    measure = MEASURES[metric]
    return TOLERANCE_AUC if measure.higher_is_better else TOLERANCE_ERROR_SHARE * measure.value(labels, other)


def _simpler(settings: Gate, evidence: Evidence, name: str, predictions: Floats, seed: int) -> Check:
    gain, bound = _bound(settings, evidence, predictions, seed)
    passed = not math.isnan(bound) and bound > 0
    sure = _sure(settings, evidence, gain, bound)
    words = f"beats the {name} baseline ({sure})" if passed else f"the simpler {name} baseline is not worse ({sure})"
    return Check(f"simpler:{name}", _known(bound), 0.0, passed, words)


def _champion(settings: Gate, evidence: Evidence, predictions: Floats, seed: int) -> Check:
    gain, bound = _bound(settings, evidence, predictions, seed)
    passed = not math.isnan(bound) and bound > settings.margin
    sure = _sure(settings, evidence, gain, bound)
    verb = "beats" if passed else "does not beat"
    words = f"{verb} champion version {evidence.champion_version} by more than {settings.margin:g} ({sure})"
    return Check("champion", _known(bound), settings.margin, passed, words)


def _sure(settings: Gate, evidence: Evidence, gain: float, bound: float) -> str:
    confidence = evidence.confidence(settings)
    sure = f"with confidence {confidence:.{3 if confidence < 0.999 else 7}g}"
    uses = f", the rows judged by {evidence.window_uses:.3g} times" if evidence.window_uses > 1 else ""
    return f"{settings.metric} gain {_text(gain)}, at least {_text(bound)} {sure}{uses}"


def _bound(settings: Gate, evidence: Evidence, other: Floats, seed: int) -> tuple[float, float]:
    how = Bootstrap(evidence.confidence(settings), RESAMPLES, seed)
    return gain_bound(MEASURES[settings.metric], evidence.labels, evidence.candidate, other, evidence.blocks, how)


def _parts(settings: Gate, evidence: Evidence, seed: int) -> list[Check]:
    """Slices and groups; what no champion can be asked about is not asked."""
    how = Bootstrap(settings.confidence, RESAMPLES, seed)
    asked: list[tuple[str, float, Found]] = []
    for rule in settings.slice_rules:
        found = judge_slices(rule, settings.metric, evidence.answers, evidence.parts[rule.by], how)
        asked += [(f"slice_{what}:{rule.by}", limit, answer) for what, limit, answer in found]
    for fair in settings.fairness:
        found = judge_fairness(fair, evidence.answers, evidence.parts[fair.by], how)
        asked += [(f"fairness_{what}:{fair.by}", limit, answer) for what, limit, answer in found]
    return [Check(name, _known(found.bound), limit, found.passed, found.words) for name, limit, found in asked]


def _robustness(settings: Gate, evidence: Evidence) -> list[Check]:
    """What worse inputs cost, on the same rows."""
    measure, checks = MEASURES[settings.metric], []
    clean = measure.value(evidence.labels, evidence.candidate)
    for name in (NOISE, MISSING, SWAPS):
        rule: Disturbance | None = getattr(settings.robustness, name)
        if rule is not None:
            disturbed = measure.value(evidence.labels, evidence.probed[robustness_name(name)].answers)
            loss = measure.gain(clean, disturbed)
            words = f"{name} of {rule.share:g}: {measure.name} {_text(clean)} becomes {_text(disturbed)}, loss"
            checks.append(_at_most(robustness_name(name), loss, rule.max_loss, words))
    return checks


def _behaviour(settings: Gate, evidence: Evidence) -> list[Check]:
    """The share of rows whose answer is not as expected, of those in which the input is another one."""
    checks = []
    for behaviour in settings.behaviour:
        name = behaviour_name(behaviour)
        probed = evidence.probed[name]
        changed = int(probed.changed.sum())
        expected = as_expected(behaviour, evidence.candidate, probed.answers)[probed.changed]
        unexpected = float((~expected).mean()) if changed >= MIN_CHANGED else math.nan
        words = f"{behaviour.name}: of {changed:,} rows that it changes, the share that answers otherwise is"
        if changed < MIN_CHANGED:
            words = f"{behaviour.name}: it changes {changed:,} rows, {MIN_CHANGED} are needed; the share is"
        checks.append(_at_most(name, unexpected, behaviour.max_failing, words))
    return checks


def _at_most(name: str, value: float, limit: float, words: str) -> Check:
    passed = not math.isnan(value) and value <= limit
    return Check(
        name, _known(value), limit, passed, f"{words} {_text(value)} {'within' if passed else 'above'} {limit:g}"
    )


def _all_metrics(evidence: Evidence, *, binary: bool) -> dict[str, dict[str, float]]:
    scored = {"candidate": evidence.candidate, **evidence.baselines}
    if evidence.tried is not None:
        scored[TRIED] = evidence.tried
    if evidence.champion is not None:
        scored["champion"] = evidence.champion
    return {name: measures(evidence.labels, predictions, binary=binary) for name, predictions in scored.items()}


def measures(labels: Floats, predictions: Floats, *, binary: bool) -> dict[str, float]:
    """Every measure of the task, NaN left out."""
    names = BINARY_MEASURES if binary else REGRESSION_MEASURES
    values = {name: MEASURES[name].value(labels, predictions) for name in names}
    if binary:
        values["ece"] = expected_calibration_error(labels, predictions)
    values["mean_prediction"] = float(predictions.mean()) if len(predictions) else math.nan
    values["mean_label"] = float(labels.mean()) if len(labels) else math.nan
    return {name: value for name, value in values.items() if not math.isnan(value)}


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


def _text(value: float) -> str:
    return "(none)" if math.isnan(value) else f"{value:.4f}"
