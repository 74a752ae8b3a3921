"""Parts of the holdout looked at alone: slices by the gate's metric, groups by their rates (fairness).

A part is small, so a point estimate would refuse good models by chance. A rule refuses where a part is shown to be bad:
at the gate's confidence, shared among the slices that the rule looks at (Bonferroni), by the bootstrap over blocks.
Parts that are too small to show anything are left out, and refused where the project names them.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from millrace.definitions.gate import FairnessRule, SliceRule
from numpy.typing import NDArray

from services.trainer.domain.metrics import (
    MEASURES,
    MIN_BLOCKS,
    Blocks,
    Bootstrap,
    Floats,
    Measure,
    gain_bound,
    value_bounds,
)

MAX_SLICE_VALUES = 20
QUARTERS = 4
REPORTED_ROWS = 30  # of fewer rows no metric is told
MIN_EACH = 30  # positives, and negatives where both count: of fewer any rate is anybody's guess
MISSING = "missing"
THRESHOLD = 0.5  # a probability above it is a positive decision

Rows = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Part:
    """A slice or group, and where its value lies with confidence."""

    value: str
    rows: int
    point: float
    least: float
    most: float


@dataclass(frozen=True, slots=True)
class Found:
    """What a rule found. `bound` is what was held against the limit, of the part that is worst by it; NaN: nothing can
    be said, which never passes."""

    bound: float
    passed: bool
    words: str


@dataclass(frozen=True, slots=True)
class Answers:
    """What is known of each row of the holdout."""

    labels: Floats
    candidate: Floats
    champion: Floats | None
    blocks: Blocks

    def of(self, rows: Rows) -> Answers:
        """Some of the rows; blocks are numbered anew."""
        champion = None if self.champion is None else self.champion[rows]
        blocks = np.unique(self.blocks[rows], return_inverse=True)[1].reshape(-1).astype(np.int64)
        return Answers(self.labels[rows], self.candidate[rows], champion, blocks)


def slice_rows(values: NDArray[Any], named: Sequence[str] = ()) -> list[tuple[str, Rows]]:
    """Named subsets of rows, no name twice: one per `named` and per frequent text, one per value of a number that has
    few, else one per quarter of its rows by size (a value of so many rows is a part of its own); the outer quarters
    hold all that lies beyond."""
    if values.dtype == object:
        counted = sorted(Counter(values.tolist()).items(), key=lambda one: (-one[1], one[0]))
        frequent = [value for value, _ in counted[:MAX_SLICE_VALUES]]
        return [(value, values == value) for value in dict.fromkeys([*named, *frequent])]
    missing = np.isnan(values)
    parts: list[tuple[str, Rows]] = [(MISSING, missing)] if missing.any() else []
    distinct, counts = np.unique(values[~missing], return_counts=True)
    if len(distinct) <= MAX_SLICE_VALUES:
        return [*parts, *((f"{value:.9g}", values == value) for value in distinct)]
    heavy = distinct[counts * QUARTERS >= counts.sum()]  # no quarter could hold it
    parts += [(f"{value:.9g}", values == value) for value in heavy]
    others = ~missing & ~np.isin(values, heavy)
    edges = np.unique(np.quantile(values[others & np.isfinite(values)], np.linspace(0, 1, QUARTERS + 1)))
    pairs = list(itertools.pairwise(edges))
    for place, (low, high) in enumerate(pairs):
        above = values >= low if place else others
        below = values < high if place < len(pairs) - 1 else others
        parts.append((f"{low:.9g} to {high:.9g}", above & below & others))
    return parts


def report_slices(metric: str, answers: Answers, values: NDArray[Any]) -> list[dict[str, Any]]:
    """The metric for each of the most frequent values, or for each quarter of a number's range."""
    measure = MEASURES[metric]
    lines = []
    for name, rows in slice_rows(values):
        line: dict[str, Any] = {"value": name, "rows": int(rows.sum()), "candidate": None, "champion": None}
        if line["rows"] >= REPORTED_ROWS:
            part = answers.of(rows)
            line["candidate"] = measure.value(part.labels, part.candidate)
            if part.champion is not None:
                line["champion"] = measure.value(part.labels, part.champion)
        lines.append(line)
    return lines


def judge_slices(
    rule: SliceRule, metric: str, answers: Answers, values: NDArray[Any], how: Bootstrap
) -> list[tuple[str, float, Found]]:
    """(what is asked, its limit, what was found) for each limit of the rule; where nothing can be said, that alone."""
    measure = MEASURES[metric]
    parts, lacking = {}, {}
    for name, rows in slice_rows(values, rule.values):
        if words := _too_small(answers, rows, rule.min_rows, of_both_classes=metric == "auc"):
            lacking[name] = words
        else:
            parts[name] = answers.of(rows)
    named = [f"{value}: {lacking[value]}" for value in rule.values if value in lacking]
    if named or not parts:
        largest = named or [f"{name or MISSING}: {words}" for name, words in lacking.items()][:1]
        return [("rows", float(rule.min_rows), _nothing(", ".join(largest) or "there are no values"))]
    shared = replace(how, confidence=1 - (1 - how.confidence) / len(parts))
    asked = []
    if rule.floor is not None:
        asked.append(("floor", rule.floor, _against_floor(measure, rule.floor, parts, shared)))
    if rule.max_loss is not None and answers.champion is not None:
        asked.append(("loss", rule.max_loss, _against_champion(measure, rule.max_loss, parts, shared)))
    return asked


def _too_small(answers: Answers, rows: Rows, min_rows: int, *, of_both_classes: bool = False) -> str:
    """Why nothing is said of a part; empty when it is large enough. The bootstrap of few rows, few moments or few of
    one class is too sure of itself."""
    count, moments = int(rows.sum()), len(np.unique(answers.blocks[rows]))
    if count < min_rows:
        return f"{count} rows of {min_rows} that are needed"
    if moments < MIN_BLOCKS <= len(np.unique(answers.blocks)):
        return f"its rows lie in {moments} moments, {MIN_BLOCKS} are needed"
    positives = int((answers.labels[rows] > THRESHOLD).sum())
    if of_both_classes and min(positives, count - positives) < MIN_EACH:
        return f"{positives} positives of {count} rows, {MIN_EACH} of either class are needed"
    return ""


def judge_fairness(
    rule: FairnessRule, answers: Answers, values: NDArray[Any], how: Bootstrap
) -> list[tuple[str, float, Found]]:
    """(what is asked, its limit, what was found) for each gap of the rule."""
    decided, positive = answers.candidate > THRESHOLD, answers.labels > THRESHOLD
    groups = {name: rows for name, rows in slice_rows(values) if not _too_small(answers, rows, rule.min_rows)}
    true = {name: rows & positive for name, rows in groups.items() if (rows & positive).sum() >= MIN_EACH}
    asked = []
    for name, limit, counted, what, needed in (
        ("opportunity", rule.max_opportunity_gap, true, "true positive rates", f", {MIN_EACH} positive"),
        ("parity", rule.max_parity_gap, groups, "rates of positive decisions", ""),
    ):
        if limit is None:
            continue
        if np.isnan(answers.candidate).any():
            found = _nothing("some answers are no numbers")
        elif len(counted) < 2:
            few = f"{rule.min_rows} rows{needed}, in {MIN_BLOCKS} moments"
            found = _nothing(f"fewer than two groups by {rule.by} have {few}")
        else:
            found = _told(_gap(counted, decided, answers.blocks, how), what, rule.by, limit, how)
        asked.append((name, limit, found))
    return asked


def _against_floor(measure: Measure, floor: float, parts: Mapping[str, Answers], how: Bootstrap) -> Found:
    """A slice misses the floor when even its better bound does."""
    looked = []
    for name, part in parts.items():
        point, low, high = value_bounds(measure, part.labels, part.candidate, part.blocks, how)
        looked.append(Part(name, len(part.labels), point, low, high))
    best = {p.value: p.most if measure.higher_is_better else p.least for p in looked}
    looked.sort(key=lambda part: measure.gain(best[part.value], floor))
    below = [p for p in looked if not measure.gain(best[p.value], floor) >= 0]  # of NaN, too
    return _found(looked, below, best[looked[0].value], f"worse than the floor {floor:g}", measure.name)


def _against_champion(measure: Measure, limit: float, parts: Mapping[str, Answers], how: Bootstrap) -> Found:
    """A slice has lost when even the lower bound of the champion's gain is beyond the limit."""
    looked = []
    for name, part in parts.items():
        assert part.champion is not None
        point, least = gain_bound(measure, part.labels, part.champion, part.candidate, part.blocks, how)
        looked.append(Part(name, len(part.labels), point, least, np.inf))
    looked.sort(key=lambda part: -part.least)
    lost = [p for p in looked if not p.least <= limit]  # of NaN, too
    what = f"loss of {measure.name} against the champion"
    return _found(looked, lost, looked[0].least, f"beyond {limit:g}", what)


@dataclass(frozen=True, slots=True)
class Gap:
    """How far the rates of groups are apart."""

    rates: Mapping[str, float]
    gap: float
    least: float


def _gap(groups: Mapping[str, Rows], decided: Rows, blocks: Blocks, how: Bootstrap) -> Gap:
    """Greatest minus least rate, and a bound that at least one pair of groups is apart by.

    The greatest of several rates is too great by chance. So every pair has its own bound, all of them at once with the
    confidence: by the bootstrap of the greatest studentised difference (Romano, Wolf: Stepwise Multiple Testing, 2005).
    """
    rates = {name: float(decided[rows].mean()) for name, rows in groups.items()}
    drawn = []
    for numbered, draws in how.draws(blocks):
        count = draws.shape[1]
        sums = np.stack([draws @ np.bincount(numbered, decided & rows, count) for rows in groups.values()], axis=1)
        sizes = np.stack([draws @ np.bincount(numbered, rows, count) for rows in groups.values()], axis=1)
        drawn.append(np.divide(sums, sizes, out=np.full_like(sums, np.nan), where=sizes > 0))
    point, shares = np.array(list(rates.values())), np.concatenate(drawn)
    apart = point[:, None] - point[None, :]
    differences = shares[:, :, None] - shares[:, None, :]
    spread = np.nanstd(differences, axis=0)
    studentised = np.divide(differences - apart, spread, out=np.zeros_like(differences), where=spread > 0)
    reach = float(np.quantile(np.nanmax(studentised, axis=(1, 2)), how.confidence))
    return Gap(rates, float(apart.max()), max(float((apart - reach * spread).max()), 0.0))


def _told(gap: Gap, what: str, by: str, limit: float, how: Bootstrap) -> Found:
    highest, lowest = (choose(gap.rates, key=lambda name: gap.rates[name]) for choose in (max, min))
    passed = gap.least <= limit
    apart = ", ".join(f"{name or MISSING} {gap.rates[name]:.4f}" for name in (highest, lowest))
    words = (
        f"{what} of {len(gap.rates)} groups by {by} differ by {gap.gap:.4f} ({apart}), at least {gap.least:.4f} "
        f"with confidence {how.confidence:g}: {'within' if passed else 'beyond'} {limit:g}"
    )
    return Found(gap.least, passed, words)


def _found(looked: Sequence[Part], bad: Sequence[Part], bound: float, against: str, what: str) -> Found:
    shown = bad[:5] or looked[:1]
    named = ", ".join(f"{p.value or MISSING} {p.point:.4f}{_interval(p)} of {p.rows:,} rows" for p in shown)
    if bad:
        more = f" and {len(bad) - 5} more" if len(bad) > 5 else ""
        words = f"{what} of {len(bad)} of {len(looked)} slices is shown to be {against}: {named}{more}"
    else:
        words = f"{what} of none of {len(looked)} slices is shown to be {against}; worst: {named}"
    return Found(bound, not bad, words)


def _interval(part: Part) -> str:
    return f" (at least {part.least:.4f})" if np.isinf(part.most) else f" ({part.least:.4f} to {part.most:.4f})"


def _nothing(words: str) -> Found:
    return Found(float("nan"), False, f"nothing can be said: {words}")
