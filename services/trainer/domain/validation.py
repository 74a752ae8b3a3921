"""Are the new rows of a training set fit to be learned from? They are held against the profile of the last good one.

What is looked for is what a broken upstream leaves behind, not drift, which is what training is there for (drift is
only told): a value that took a column over, such as the -1 of a call that failed; values that went missing; numbers in
another unit. Rows are looked at in spans of time (`profiles.spans`), and what is found costs the rows it is found in:
they are neither learned from nor judged by, now and in the runs after this one. Where that is most of what is new, or
the column is meant to be so from now on, a person has to decide.

The idea of checking data before training, and the story of the -1, are of Breck et al., "Data Validation for Machine
Learning" (MLSys 2019). The limits below are our own judgement.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import numpy as np
from millrace.statistics.distances import psi
from numpy.typing import NDArray

from services.trainer.domain.examples import Examples
from services.trainer.domain.profiles import (
    LEAST_VALUES,
    SELDOM,
    SHARES,
    SPAN_ROWS,
    ColumnProfile,
    Mask,
    Profile,
    Value,
    binned,
    columns_of,
    even_factor,
    is_missing,
    shares,
    spans,
)

CODE_SHARE = 0.01  # of a value that stands for "none" and was never there
ALONE = 0.05  # of the values beyond all that was known, those that are not the code: frost comes by degrees
FAR = 2.0  # a code of nines is that much greater than all that was known; what grows passes 99 on its way
FOREIGN_SHARE = 0.05  # beyond what one value ever had, of a value that was hardly there
SETTLED = 0.9  # a column that was nearly one value for a whole span says nothing by being one value
REST = 0.1  # of the rows that had other values even in the span where they were fewest
GAP = 0.1  # of rows without a value, beyond the worst span known
LEAST_FACTOR = math.log10(3)  # of all quantiles alike, beyond any span known: a unit's; growth is seldom even
DRIFTED = 0.25  # the usual reading of the population stability index: a major shift
MOST_LEFT_OUT = 0.5  # of the new rows; beyond that a person decides
LONGEST = 60  # characters of a text that is told
CODES = frozenset({99.0, 999.0, 9_999.0, 99_999.0, 999_999.0, 2_147_483_647.0})
WORDS = frozenset({"null", "none", "nan", "n/a", "unknown", "undefined", "error", "-1", "-"})


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
    """What came of it: `kept` rows are fit; of the new ones, `left_out` are not. `findings` are of these, the gravest
    first; `carried` are of the `stay_out` rows that an earlier run left out. `drifted`: columns by their population
    stability index. `problem`: why nobody should learn from these rows."""

    kept: Mask
    new_rows: int
    left_out: int = 0
    stay_out: int = 0
    findings: tuple[Finding, ...] = ()
    carried: tuple[Finding, ...] = ()
    drifted: tuple[tuple[str, float], ...] = ()
    problem: str = ""

    @property
    def words(self) -> str:
        """What was left out and why; empty for nothing."""
        told = ""
        if self.findings:
            more = f", and {len(self.findings) - 1} more" if len(self.findings) > 1 else ""
            told = f"{self.left_out:,} of {self.new_rows:,} new rows left out: {self.findings[0].words}{more}; "
        return told + (f"{self.stay_out:,} rows stay left out; " if self.stay_out else "")

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON, without the rows."""
        return {
            "new_rows": self.new_rows,
            "left_out": self.left_out,
            "stay_out": self.stay_out,
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
    carried = tuple(f for f in known.left_out if f.column in columns and examples.moments_us[0] <= f.to_us)
    for finding in carried:
        kept &= ~finding.mask(examples.moments_us, columns[finding.column])
    stay_out = int((~kept).sum())
    new = kept & (examples.moments_us >= known.profile.until_us)
    times = examples.moments_us[new]
    fit = np.ones(len(times), dtype=bool)
    findings: list[Finding] = []
    drifted: list[tuple[str, float]] = []
    for column in known.profile.columns:
        values = columns.get(column.name)
        if values is None or (values.dtype == object) is not column.is_text:
            continue  # another definition: there is nothing to compare it with
        fresh = values[new]
        for part in spans(times):
            for finding in _broken(column, times[part], fresh[part]):
                fit[part] &= ~finding.mask(times[part], fresh[part])
                findings.append(finding)
        if (shift := _shift(column, fresh)) >= DRIFTED:
            drifted.append((column.name, round(shift, 4)))
    kept[new] = fit
    left_out = int((~fit).sum())
    findings.sort(key=lambda finding: -finding.rows)
    drifted.sort(key=lambda pair: -pair[1])
    made = Validation(kept, len(times), left_out, stay_out, tuple(findings), carried, tuple(drifted))
    if left_out <= MOST_LEFT_OUT * len(times):
        return made
    why = "; ".join(finding.words for finding in findings[:3])
    return replace(made, problem=f"{left_out:,} of {len(times):,} new rows are not fit to be learned from: {why}")


def _broken(known: ColumnProfile, times: NDArray[np.int64], values: NDArray[Any]) -> Iterator[Finding]:
    """What is wrong with one column in one span, one thing after the other: each is looked for in what is left."""
    from_us, to_us = int(times[0]), int(times[-1])
    gone = is_missing(values)
    gap, most = float(gone.mean()), known.missing_most
    if gap > most and gap >= min(max(2 * most, most + GAP), (1 + most) / 2):
        yield Finding(known.name, Rule.MISSING, from_us, to_us, int(gone.sum()), len(values), most, gap)
    present = values[~gone]
    if min(len(present), known.values) < LEAST_VALUES:
        return
    counted = [one for one in shares(present) if one[1] >= CODE_SHARE]
    stuck = [one for one in counted if _took_over(known, one[0], one[1], present)]
    for value, share, rows in stuck:
        was = known.share(value)
        yield Finding(known.name, Rule.STUCK, from_us, to_us, rows, len(present), was, share, value)
        present = present[present != value]
    factor = None if known.is_text or known.is_discrete else even_factor(known.quantiles, present)
    if factor is None:
        return
    if factor >= known.factor_greatest + LEAST_FACTOR or factor <= known.factor_least - LEAST_FACTOR:
        was = known.quantiles[SHARES.index(0.5)]
        yield Finding(known.name, Rule.SCALE, from_us, to_us, int((~gone).sum()), len(values), was, 10**factor)


def _took_over(known: ColumnProfile, value: Value, share: float, values: NDArray[Any]) -> bool:
    """Whether it cannot be chance that so many values of a span are this one."""
    is_new = known.share(value) < SELDOM
    if is_new and (_is_word(value) or _is_code(known, value, values)):
        return True
    if is_new and not known.is_discrete and not known.is_text:
        return share >= known.single_most + FOREIGN_SHARE
    return known.single_most <= SETTLED and 1 - share <= (1 - known.single_most) * REST


def _is_word(value: Value) -> bool:
    return isinstance(value, str) and value.strip().lower() in WORDS


def _is_code(known: ColumnProfile, value: Value, values: NDArray[Any]) -> bool:
    """Whether the number is one that programs write for "none": it lies apart from all that was known, and nearly
    alone."""
    if isinstance(value, str):
        return False
    if value < 0 <= known.least:
        beyond = values[values < known.least]
    elif value in CODES and value > FAR * max(known.greatest, 0.0):
        beyond = values[values > known.greatest]
    else:
        return False
    return bool((beyond != value).sum() <= ALONE * len(beyond))


def _shift(known: ColumnProfile, values: NDArray[Any]) -> float:
    """The population stability index of a column's new rows; 0 where it cannot be told."""
    present = values[~is_missing(values)]
    if min(len(present), known.values) < SPAN_ROWS:
        return 0.0
    if not known.is_text:
        return psi(known.counts, binned(present, known.edges))
    found = [int((present == value).sum()) for value, _ in known.top]
    before = np.array([share for _, share in known.top])
    before = np.append(before, max(1 - before.sum(), 0.0)) * len(present)
    return psi(before, [*found, len(present) - sum(found)])


def _told(finding: Finding) -> dict[str, Any]:
    return asdict(finding) | {"rule": finding.rule.value, "words": finding.words}


def _shown(value: Value | None) -> str:
    if isinstance(value, str):
        return f"'{value if len(value) <= LONGEST else value[:LONGEST] + '…'}'"
    return f"{value:g}"
