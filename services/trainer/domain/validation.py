"""Are the new rows of a training set fit to be learned from? They are held against the profile of the last good one.

What is looked for is what a broken upstream leaves behind, not drift, which is what training is there for (drift is
only told): a value that took a column over, such as the -1 of a call that failed; values that went missing; numbers in
another unit. Rows are looked at in spans of time (`profiles.spans`), and what is found costs the rows it is found in:
they are neither learned from nor judged by, now and in later runs. Where that is most of what is new, or the column is
meant to be so from now on, a person has to decide.

The idea of checking data before training, and the story of the -1, are of Breck et al., "Data Validation for Machine
Learning" (MLSys 2019). The limits below were set so that the platform's own examples, replayed whole, raise none.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import numpy as np
from millrace.statistics.distances import psi
from numpy.typing import NDArray

from services.trainer.domain.examples import Examples
from services.trainer.domain.profiles import (
    MOST_VALUES,
    SHARES,
    SPAN_ROWS,
    ColumnProfile,
    Mask,
    Profile,
    Value,
    binned,
    columns_of,
    is_missing,
    spans,
    top_values,
)

CODE_SHARE = 0.01  # of a value that stands for "none" and was never there
FOREIGN_SHARE = 0.05  # beyond what one value ever had, of a value that was hardly there
HARDLY = 0.001
SETTLED = 0.9  # a column that was nearly one value for a whole span says nothing by being one value
REST = 0.1  # of the rows that had other values even in the span where they were fewest
GAP = 0.1  # of rows without a value, beyond the worst span known
LEAST_FACTOR = 3.0  # of all quantiles alike: what a unit changes; growth is seldom even
EVEN = 0.15  # how far the factors of the quantiles may lie apart, as log10
LEAST_QUANTILES = 4
DRIFTED = 0.25  # the usual reading of the population stability index: a major shift
MOST_LEFT_OUT = 0.5  # of the new rows; beyond that a person decides
CODES = frozenset({99.0, 999.0, 9_999.0, 99_999.0, 999_999.0, 2_147_483_647.0})
WORDS = frozenset({"null", "none", "nan", "n/a", "na", "unknown", "undefined", "error", "-1", "-"})


class Rule(StrEnum):
    """What is wrong."""

    STUCK = "stuck"
    MISSING = "missing"
    SCALE = "scale"


@dataclass(frozen=True, slots=True)
class Finding:
    """One rule that one column broke between two moments, both included: `rows` of `of` rows are left out for it.
    `was` and `now` are shares, or for SCALE the median and the factor; `value` is the one that took over."""

    column: str
    rule: Rule
    from_us: int
    to_us: int
    rows: int
    of: int
    was: float
    now: float
    value: Value | None = None

    @property
    def words(self) -> str:
        """The finding as a sentence."""
        first, last = (datetime.fromtimestamp(us // 1_000_000, UTC).date() for us in (self.from_us, self.to_us))
        when = f"on {first}" if first == last else f"from {first} to {last}"
        if self.rule is Rule.SCALE:
            return f"{self.column} is {self.now:.3g} times what it was, alike at all quantiles, {when}"
        what = "has no value" if self.rule is Rule.MISSING else f"is {_shown(self.value)}"
        return f"{self.column} {what} in {self.now:.0%} of {self.of:,} rows {when} ({self.was:.0%} before)"

    def mask(self, moments_us: NDArray[np.int64], values: NDArray[Any]) -> Mask:
        """The rows that it is about."""
        inside = (moments_us >= self.from_us) & (moments_us <= self.to_us)
        if self.rule is Rule.SCALE:
            return inside & ~is_missing(values)
        return inside & (is_missing(values) if self.rule is Rule.MISSING else values == self.value)


@dataclass(frozen=True, slots=True)
class Known:
    """What an earlier run found good: its profile, and which rows it left out."""

    run_id: str
    profile: Profile
    left_out: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True)
class Validation:
    """What came of it: `kept` rows are fit. `findings` are of new rows, `carried` of rows that an earlier run left out.
    `drifted`: columns by their population stability index. `problem`: why nobody should learn from these rows."""

    kept: Mask
    new_rows: int
    findings: tuple[Finding, ...] = ()
    carried: tuple[Finding, ...] = ()
    drifted: tuple[tuple[str, float], ...] = ()
    problem: str = ""

    @property
    def left_out(self) -> int:
        """How many rows are not fit."""
        return int((~self.kept).sum())

    @property
    def words(self) -> str:
        """What was left out and why; empty for nothing."""
        if not self.left_out:
            return ""
        more = f", and {len(self.findings) - 1} more" if len(self.findings) > 1 else ""
        why = self.findings[0].words + more if self.findings else "as in the run before"
        return f"{self.left_out:,} of {len(self.kept):,} rows left out: {why}; "

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON, without the rows."""
        return {
            "new_rows": self.new_rows,
            "left_out": self.left_out,
            "findings": [_told(finding) for finding in self.findings],
            "carried": [_told(finding) for finding in self.carried],
            "drifted": [{"column": name, "psi": value} for name, value in self.drifted],
        }


def read_findings(raw: Sequence[dict[str, Any]]) -> tuple[Finding, ...]:
    """The findings that `Validation.as_dict` told."""
    return tuple(
        Finding(**{name: value for name, value in one.items() if name != "words"} | {"rule": Rule(one["rule"])})
        for one in raw
    )


def validate(examples: Examples, known: Known | None, *, accepted: bool = False) -> Validation:
    """Holds the rows against what is known; without that, or when a person accepted them, all are fit."""
    kept = np.ones(len(examples), dtype=bool)
    if known is None or accepted or not len(examples):
        return Validation(kept, len(examples))
    columns = dict(columns_of(examples))
    moments_us = examples.moments_us
    until_us = known.profile.until_us
    begin = int(np.searchsorted(moments_us, until_us))
    carried = tuple(
        f for f in known.left_out if f.column in columns and moments_us[0] <= f.to_us and f.from_us < until_us
    )
    for finding in carried:
        kept[:begin] &= ~finding.mask(moments_us[:begin], columns[finding.column][:begin])
    findings: list[Finding] = []
    drifted: list[tuple[str, float]] = []
    for profile in known.profile.columns:
        values = columns.get(profile.name)
        if values is None or (values.dtype == object) is not profile.is_text:
            continue  # another definition: there is nothing to compare it with
        fresh = values[begin:]
        for part in spans(moments_us[begin:]):
            times = moments_us[begin:][part]
            for finding in _broken(profile, times, fresh[part]):
                kept[begin:][part] &= ~finding.mask(times, fresh[part])
                findings.append(finding)
        if (shift := _shift(profile, fresh)) >= DRIFTED:
            drifted.append((profile.name, round(shift, 4)))
    drifted.sort(key=lambda pair: -pair[1])
    new_rows, fit = len(examples) - begin, int(kept[begin:].sum())
    made = Validation(kept, new_rows, tuple(findings), carried, tuple(drifted))
    if new_rows - fit <= MOST_LEFT_OUT * new_rows:
        return made
    problem = f"{new_rows - fit:,} of {new_rows:,} new rows are not fit to be learned from: " + "; ".join(
        finding.words for finding in findings[:3]
    )
    return Validation(kept, new_rows, made.findings, carried, made.drifted, problem)


def _broken(known: ColumnProfile, times: NDArray[np.int64], values: NDArray[Any]) -> Iterator[Finding]:
    """What is wrong with one column in one span. A column whose values went missing, or are of another unit, is not
    looked at further."""
    of, from_us, to_us = len(values), int(times[0]), int(times[-1])
    gap = float(is_missing(values).mean())
    most = known.missing_most
    if gap > most and gap >= min(max(2 * most, most + GAP), (1 + most) / 2):
        yield Finding(known.name, Rule.MISSING, from_us, to_us, round(gap * of), of, most, gap)
        return
    for value, share in top_values(values, MOST_VALUES):
        if _took_over(known, value, share):
            yield Finding(
                known.name, Rule.STUCK, from_us, to_us, round(share * of), of, known.share(value), share, value
            )
            return
    factor = _factor(known, values)
    if factor is not None:
        rows = of - round(gap * of)
        yield Finding(known.name, Rule.SCALE, from_us, to_us, rows, of, known.quantiles[SHARES.index(0.5)], factor)


def _took_over(known: ColumnProfile, value: Value, share: float) -> bool:
    """Whether it cannot be chance that so many rows of a span have this one value."""
    is_new = known.share(value) < HARDLY
    if is_new and _is_code(known, value):
        return share >= CODE_SHARE
    if is_new and not known.is_discrete and not known.is_text:
        return share >= known.single_most + FOREIGN_SHARE
    return known.single_most <= SETTLED and 1 - share <= (1 - known.single_most) * REST


def _is_code(known: ColumnProfile, value: Value) -> bool:
    """Whether the value is one that programs write for "none", and lies beyond all that was known."""
    if isinstance(value, str):
        return value.strip().lower() in WORDS
    if known.least <= value <= known.greatest:
        return False
    return value in CODES or (value < 0 <= known.least)


def _factor(known: ColumnProfile, values: NDArray[Any]) -> float | None:
    """By how much all quantiles moved alike; None where they did not, or not by enough."""
    if known.is_text or not known.quantiles or known.is_discrete:
        return None
    present = values[~is_missing(values)]
    if not len(present):
        return None
    now = np.quantile(present, SHARES)
    pairs = [(a, b) for a, b in zip(known.quantiles, now.tolist(), strict=True) if a * b > 0]
    if len(pairs) < LEAST_QUANTILES:
        return None
    logs = [math.log10(b / a) for a, b in pairs]
    middle = float(np.median(logs))
    is_even = max(logs) - min(logs) <= EVEN
    return float(10**middle) if is_even and abs(middle) >= math.log10(LEAST_FACTOR) else None


def _shift(known: ColumnProfile, values: NDArray[Any]) -> float:
    """The population stability index of a column's new rows; 0 where it cannot be told."""
    present = values[~is_missing(values)]
    if len(present) < SPAN_ROWS or not known.top:
        return 0.0
    if not known.is_text:
        return psi(known.counts, binned(present[np.isfinite(present)], known.edges))
    found = [int((present == value).sum()) for value, _ in known.top]
    shares = np.array([share for _, share in known.top]) / (1 - known.missing)
    before = np.append(shares, max(1 - shares.sum(), 0.0)) * len(present)
    return psi(before, [*found, len(present) - sum(found)])


def _told(finding: Finding) -> dict[str, Any]:
    return asdict(finding) | {"rule": finding.rule.value, "words": finding.words}


def _shown(value: Value | None) -> str:
    return f"'{value}'" if isinstance(value, str) else f"{value:g}"
