"""Parts of the holdout looked at alone: slices by the gate's metric, groups by their rates (fairness).

A part is small, so a point estimate would refuse good models by chance. A rule refuses where a part is shown to be bad:
at the gate's confidence, shared among the slices that the rule looks at (Bonferroni), by the bootstrap over blocks.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from millrace.definitions.gate import FairnessRule, SliceRule
from numpy.typing import NDArray

from services.trainer.domain.metrics import MEASURES, Blocks, Bootstrap, Floats, Measure, gain_bound, value_bounds

MAX_SLICE_VALUES = 20
REPORTED_ROWS = 30  # of fewer rows no metric is told
MIN_POSITIVES = 30  # of a group, else its true positive rate is anybody's guess
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
    champion: float | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """What a rule found: its worst part decides. `worst` NaN: nothing can be said, which never passes."""

    worst: float
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
    """Named subsets of rows: one per `named` and per frequent text, or one per quarter of a number."""
    if values.dtype == object:
        distinct, counts = np.unique(values.astype(str), return_counts=True)
        frequent = [str(distinct[i]) for i in np.argsort(-counts, kind="stable")[:MAX_SLICE_VALUES]]
        return [(value, values == value) for value in dict.fromkeys([*named, *frequent])]
    known = values[~np.isnan(values)]
    parts: list[tuple[str, Rows]] = [("missing", np.isnan(values))] if len(known) < len(values) else []
    edges = np.unique(np.quantile(known, [0, 0.25, 0.5, 0.75, 1])) if len(known) else np.array([])
    for place, (low, high) in enumerate(itertools.pairwise(edges)):
        last = place == len(edges) - 2
        inside = (values >= low) & ((values <= high) if last else (values < high))
        parts.append((f"{low:g} to {high:g}", inside))
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
    """(what is asked, its limit, what was found) for each limit of the rule."""
    measure = MEASURES[metric]
    parts = {
        name: answers.of(rows)
        for name, rows in slice_rows(values, rule.values)
        if rows.sum() >= rule.min_rows and not np.isnan(measure.value(answers.labels[rows], answers.candidate[rows]))
    }
    unknown = None
    if lacking := [value for value in rule.values if value not in parts]:
        unknown = _nothing(f"{', '.join(lacking)} has fewer than {rule.min_rows} rows, or too few to have any {metric}")
    elif not parts:
        unknown = _nothing(f"no value has {rule.min_rows} rows that have a {metric}")
    shared = replace(how, confidence=1 - (1 - how.confidence) / max(len(parts), 1))
    asked = []
    if rule.floor is not None:
        asked.append(("floor", rule.floor, unknown or _against_floor(measure, rule.floor, parts, shared)))
    if rule.max_loss is not None and answers.champion is not None:
        asked.append(("loss", rule.max_loss, unknown or _against_champion(measure, rule.max_loss, parts, shared)))
    return asked


def judge_fairness(
    rule: FairnessRule, answers: Answers, values: NDArray[Any], how: Bootstrap
) -> list[tuple[str, float, Found]]:
    """(what is asked, its limit, what was found) for each gap of the rule."""
    groups = {name: rows for name, rows in slice_rows(values) if rows.sum() >= rule.min_rows}
    decided, positive = answers.candidate > THRESHOLD, answers.labels > THRESHOLD
    asked = []
    if rule.max_opportunity_gap is not None:
        true = {name: rows & positive for name, rows in groups.items() if (rows & positive).sum() >= MIN_POSITIVES}
        limit, gap = rule.max_opportunity_gap, _gap(true, decided, answers.blocks, how)
        asked.append(("opportunity", limit, _told(gap, "true positive rates", rule, limit, how)))
    if rule.max_parity_gap is not None:
        limit, gap = rule.max_parity_gap, _gap(groups, decided, answers.blocks, how)
        asked.append(("parity", limit, _told(gap, "rates of positive decisions", rule, limit, how)))
    return asked


def _against_floor(measure: Measure, floor: float, parts: Mapping[str, Answers], how: Bootstrap) -> Found:
    """A slice misses the floor when even its better bound does."""
    looked = []
    for name, part in parts.items():
        point, low, high = value_bounds(measure, part.labels, part.candidate, part.blocks, how)
        looked.append(Part(name, len(part.labels), point, low, high))
    looked.sort(key=lambda part: part.point, reverse=not measure.higher_is_better)
    below = [p for p in looked if measure.gain(p.most if measure.higher_is_better else p.least, floor) < 0]
    return _found(looked, below, f"worse than the floor {floor:g}", measure.name)


def _against_champion(measure: Measure, limit: float, parts: Mapping[str, Answers], how: Bootstrap) -> Found:
    """A slice has lost when even the lower bound of the champion's gain is beyond the limit."""
    looked = []
    for name, part in parts.items():
        assert part.champion is not None
        point, least = gain_bound(measure, part.labels, part.champion, part.candidate, part.blocks, how)
        looked.append(Part(name, len(part.labels), point, least, np.inf))
    looked.sort(key=lambda part: part.point, reverse=True)
    lost = [p for p in looked if p.least > limit]
    return _found(looked, lost, f"beyond {limit:g}", f"loss of {measure.name} against the champion")


@dataclass(frozen=True, slots=True)
class Gap:
    """How far the rates of groups are apart."""

    rates: Mapping[str, float]
    gap: float
    least: float


def _gap(groups: Mapping[str, Rows], decided: Rows, blocks: Blocks, how: Bootstrap) -> Gap | None:
    """Greatest minus least rate, and a bound that at least one pair of groups is apart by. None with fewer than two.

    The greatest of several rates is too great by chance. So every pair has its own bound, all of them at once with the
    confidence: by the bootstrap of the greatest studentised difference (Romano, Wolf: Stepwise Multiple Testing, 2005).
    """
    if len(groups) < 2:
        return None
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


def _told(gap: Gap | None, what: str, rule: FairnessRule, limit: float, how: Bootstrap) -> Found:
    if gap is None:
        return _nothing(
            f"fewer than two groups by {rule.by} have {rule.min_rows} rows, {MIN_POSITIVES} of them positive"
        )
    highest, lowest = (choose(gap.rates, key=lambda name: gap.rates[name]) for choose in (max, min))
    passed = gap.least <= limit
    apart = f"{highest} {gap.rates[highest]:.4f}, {lowest} {gap.rates[lowest]:.4f}"
    words = (
        f"{what} of {len(gap.rates)} groups by {rule.by} differ by {gap.gap:.4f} ({apart}), at least {gap.least:.4f} "
        f"with confidence {how.confidence:g}: {'within' if passed else 'beyond'} {limit:g}"
    )
    return Found(gap.gap, passed, words)


def _found(looked: Sequence[Part], bad: Sequence[Part], against: str, what: str) -> Found:
    shown = bad[:5] or looked[:1]
    named = ", ".join(f"{p.value or 'missing'} {p.point:.4f}{_interval(p)} of {p.rows:,} rows" for p in shown)
    if bad:
        more = f" and {len(bad) - 5} more" if len(bad) > 5 else ""
        words = f"{what} of {len(bad)} of {len(looked)} slices is shown to be {against}: {named}{more}"
    else:
        words = f"{what} of none of {len(looked)} slices is shown to be {against}; worst: {named}"
    return Found(looked[0].point, not bad, words)


def _interval(part: Part) -> str:
    return f" (at least {part.least:.4f})" if np.isinf(part.most) else f" ({part.least:.4f} to {part.most:.4f})"


def _nothing(words: str) -> Found:
    return Found(float("nan"), False, f"nothing can be said: {words}")
