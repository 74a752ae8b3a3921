"""Does a window of inputs, outputs or labels still look like what the champion was trained on?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from millrace.statistics import drift
from millrace.statistics.tails import student_quantile
from numpy.typing import NDArray

Floats = NDArray[np.float64]

OUTPUT = "output"  # the subject that stands for the model's own outputs
CALIBRATION_WINDOWS = 14  # wanted before anything is tested; more are used when the reference period holds more
MOST_WINDOWS = 60  # of calibration
LEAST_ROWS = 30  # a window with fewer rows says nothing
OTHER = "__other__"  # the bundle's name for values beyond those it lists


@dataclass(frozen=True, slots=True)
class Reference:
    """The distribution of one input as trained on. A number has inner cut points; a text has values.

    Counts: one bin per interval or value, then (texts) one for all other values, then one for nulls.
    """

    name: str
    counts: Floats
    cuts: tuple[float, ...] = ()
    values: tuple[str, ...] = ()
    is_number: bool = True

    @property
    def bins(self) -> int:
        """How many bins there are, nulls included."""
        return len(self.counts)


def references(bundle: Mapping[str, Any]) -> dict[str, Reference]:
    """Every input's reference in a bundle, and the output's; what has no rows is left out."""
    found = [_reference(name, body) for name, body in bundle.get("reference", {}).items()]
    output = bundle.get("reference_output") or {}
    if output.get("counts"):
        found.append(_reference(OUTPUT, {"kind": "number", "nulls": 0, **output}))
    return {reference.name: reference for reference in found if reference.counts.sum() > 0}


def number_bins(reference: Reference, counts: Mapping[int, int]) -> Floats:
    """Counts over the reference's bins from {number of cut points at or below the value: rows}; -1 is null."""
    bins = np.zeros(reference.bins)
    for index, rows in counts.items():
        bins[-1 if index < 0 else min(index, reference.bins - 2)] += rows
    return bins


def text_bins(reference: Reference, counts: Mapping[str, int]) -> Floats:
    """Counts over the reference's bins from {value: rows}; the empty text is null."""
    position = {value: i for i, value in enumerate(reference.values)}
    bins = np.zeros(reference.bins)
    for value, rows in counts.items():
        bins[-1 if value == "" else position.get(value, reference.bins - 2)] += rows
    return bins


@dataclass(frozen=True, slots=True)
class Score:
    """How far one window of one subject lies from the reference."""

    subject: str
    start_us: int
    value: float
    rows: int


@dataclass(frozen=True, slots=True)
class Test:
    """One tested window."""

    score: Score
    threshold: drift.Threshold

    @property
    def beyond(self) -> bool:
        """Whether it exceeds what ordinary windows do."""
        return self.score.value > self.threshold.value


def score(reference: Reference, bins: Floats, start_us: int) -> Score:
    """The score of a window; NaN when it has too few rows."""
    rows = int(bins.sum())
    value = drift.score(reference.counts, bins) if rows >= LEAST_ROWS else math.nan
    return Score(reference.name, start_us, value, rows)


def calibration(scores: Sequence[Score], window_us: int, released_us: int, trained_from_us: int) -> list[Score]:
    """The ordinary windows among `scores` (one subject, any order): those of the reference period, that is before the
    champion was released and not before `trained_from_us`; when they are fewer than CALIBRATION_WINDOWS, the first
    ones after the release as well. Windows without a score do not count."""
    known = sorted((s for s in scores if not math.isnan(s.value)), key=lambda s: s.start_us)
    before = [s for s in known if trained_from_us <= s.start_us and s.start_us + window_us <= released_us]
    before = before[-MOST_WINDOWS:]
    after = [s for s in known if s.start_us + window_us > released_us]
    return before + after[: max(0, CALIBRATION_WINDOWS - len(before))]


def test(current: Score, ordinary: Sequence[Score], level: float) -> Test | None:
    """The window against the ordinary ones; None when it is one of them or there are too few."""
    if len(ordinary) < CALIBRATION_WINDOWS or math.isnan(current.value):
        return None
    if any(s.start_us == current.start_us for s in ordinary):
        return None
    return Test(current, drift.threshold([s.value for s in ordinary], level))


@dataclass(frozen=True, slots=True)
class DayOfLabels:
    """Matured labels whose moment lies in one day."""

    start_us: int
    rows: int
    total: float  # sum of the labels; of a binary label the number of positives
    squares: float = 0.0


@dataclass(frozen=True, slots=True)
class LabelTest:
    """A window's mean label against the reference's; `statistic` and `threshold` in standard errors."""

    statistic: float
    threshold: float
    rows: int
    mean: float
    reference: float
    dispersion: float

    @property
    def beyond(self) -> bool:
        """Whether the window's labels differ more than days do anyway."""
        return abs(self.statistic) > self.threshold


def test_labels(
    window: Sequence[DayOfLabels],
    ordinary: Sequence[DayOfLabels],
    reference_mean: float,
    reference_rows: int,
    level: float,
    is_binary: bool,
) -> LabelTest | None:
    """A two-sided test; days of the reference period say how much one day differs from the next.

    Binary labels: a binomial z widened by that overdispersion. Numbers: the same z over daily means. None when fewer
    than LEAST_WINDOWS ordinary days, or no rows.
    """
    rows, total = sum(d.rows for d in window), sum(d.total for d in window)
    days = [d for d in ordinary if d.rows > 0]
    if rows < LEAST_ROWS or len(days) < drift.LEAST_WINDOWS or reference_rows <= 0:
        return None
    counts, sums = np.array([d.rows for d in days], dtype=float), np.array([d.total for d in days])
    if is_binary:
        dispersion = drift.overdispersion(sums, counts)
        statistic = drift.rate_statistic(total, rows, reference_mean, reference_rows, dispersion)
    else:
        means = sums / counts
        rho = drift.autocorrelation(means)
        dispersion = float(means.var(ddof=1)) * (1 + rho) / (1 - rho)
        error = math.sqrt(dispersion * (1 / max(1, len(window)) + 1 / len(days)))
        statistic = (total / rows - reference_mean) / error if error > 0 else math.nan
    if math.isnan(statistic):
        return None
    bound = student_quantile(level / 2, len(days) - 1)
    return LabelTest(statistic, bound, rows, total / rows, reference_mean, dispersion)


def windows_due(after_us: int, until_us: int, window_us: int, most: int) -> list[int]:
    """Starts of the aligned windows that ended in (after, until], oldest first; only the newest `most`."""
    last = until_us - until_us % window_us - window_us
    first = after_us - after_us % window_us
    starts = list(range(max(first, last - (most - 1) * window_us), last + 1, window_us))
    return [s for s in starts if after_us < s + window_us <= until_us]


def _reference(name: str, body: Mapping[str, Any]) -> Reference:
    nulls = float(body.get("nulls", 0))
    if body.get("kind") == "string":
        listed = {v: float(c) for v, c in body.get("values", {}).items() if v not in ("", OTHER)}
        other = float(body.get("values", {}).get(OTHER, 0))
        return Reference(name, np.array([*listed.values(), other, nulls]), values=tuple(listed), is_number=False)
    counts = [float(c) for c in body.get("counts", [])] or [0.0]
    cuts = tuple(float(e) for e in body.get("edges", [])[1:-1])  # the outer bins hold all that lies beyond them
    return Reference(name, np.array([*counts, nulls]), cuts=cuts)
