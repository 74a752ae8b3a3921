"""Is the data itself broken? Shares of refused events, rules of whole windows that broke, and fields whose magnitude
jumps (a unit that changed)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from millrace.definitions.model import QualityMonitor
from millrace.statistics import drift

LEAST_EVENTS = 20  # a window with fewer events has no rate worth an alarm
HISTORY = 56  # windows of one source that are remembered: two weeks of six hours
LEAST_JUMP = 3.0  # a magnitude that changes by less than this factor is no unit change, whatever its p value
NULL_SHARE, FRESHNESS = "null_share", "freshness"
_COUNTED_ONLY = frozenset({"unknown", NULL_SHARE, "unique", "references", FRESHNESS})  # they refuse no event
FALSE_ALARMS_PER_YEAR = 1.0  # of all fields of one source together


@dataclass(frozen=True, slots=True)
class Broken:
    """How often one field broke one rule, with an example."""

    field: str
    rule: str
    events: int
    example: str


@dataclass(frozen=True, slots=True)
class Profile:
    """Moments of one numeric field over one window."""

    field: str
    events: int
    nulls: int
    mean: float
    std: float


@dataclass(frozen=True, slots=True)
class Finding:
    """What a rule of whole windows measured: null_share, unique, references, freshness (field empty: the source)."""

    field: str
    rule: str
    measured: float
    allowed: float
    events: int
    is_broken: bool
    example: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Window:
    """What one window of a source looked like."""

    source: str
    start_us: int
    end_us: int
    events: int
    quarantined: int
    broken: tuple[Broken, ...] = ()
    profiles: tuple[Profile, ...] = ()
    event_id: str = ""
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True)
class Judged:
    """One subject (`source`, `source.field`, or `source.field.rule` for rules of windows) of one window."""

    subject: str
    beyond: bool
    statistic: float
    threshold: float
    observations: int
    reason: str


def refused(window: Window, rule: QualityMonitor) -> Judged:
    """The share of refused events against the declared one."""
    share = window.quarantined / window.events if window.events else 0.0
    beyond = window.events >= LEAST_EVENTS and share > rule.max_quarantined_share
    reason = f"{share:.1%} of {window.events} events were refused (allowed {rule.max_quarantined_share:.1%})"
    refusing = [b for b in window.broken if b.rule not in _COUNTED_ONLY]
    if beyond and refusing:
        worst = max(refusing, key=lambda b: b.events)
        reason += f": {worst.field} breaks {worst.rule} {worst.events} times"
        reason += f", for example {worst.example}" if worst.example else ""
    return Judged(window.source, beyond, share, rule.max_quarantined_share, window.events, reason)


def expected(window: Window) -> list[Judged]:
    """The rules of whole windows, as ingestion judged them; those without a verdict are left out."""
    return [
        Judged(
            subject_of(window.source, f),
            f.is_broken,
            f.measured,
            f.allowed,
            f.events,
            _finding_reason(f),
        )
        for f in window.findings
        if f.is_broken or not f.note
    ]


def subject_of(source: str, found: Finding) -> str:
    """`source.field.rule`, or `source.rule`."""
    return ".".join(part for part in (source, found.field, found.rule) if part)


def _finding_reason(found: Finding) -> str:
    example = f", for example {found.example}" if found.example else ""
    note = f" ({found.note})" if found.note else ""
    if found.rule == FRESHNESS:
        return f"nothing came for {found.measured:g} s (allowed {found.allowed:g} s){note}"
    if found.rule == NULL_SHARE:
        share = f"{found.measured:.1%} of {found.events} events"
        return f"{found.field} is null in {share} (allowed {found.allowed:.1%}){note}"
    words = {"unique": "repeat a value", "references": "refer to a value that was never seen"}
    what = words.get(found.rule, f"break {found.rule}")
    return f"{found.measured:g} of {found.events} values of {found.field} {what}{example}{note}"


def jumps(window: Window, past: Sequence[Window]) -> list[Judged]:
    """Fields whose magnitude (root mean square, on a log scale) leaves what past windows of the source show.

    Needs LEAST_WINDOWS past windows per field; fields with fewer are left out. `past`: same source, oldest first,
    without windows that were found broken.
    """
    found = []
    fields = [p for p in window.profiles if p.events - p.nulls >= LEAST_EVENTS]
    level = drift.level_per_test(FALSE_ALARMS_PER_YEAR, max(1, window.end_us - window.start_us), len(fields))
    for profile in fields:
        history = [_magnitude(p) for w in past[-HISTORY:] for p in w.profiles if p.field == profile.field]
        judged = _jump(window.source, profile, [m for m in history if not math.isnan(m)], level)
        if judged is not None:
            found.append(judged)
    return found


def _jump(source: str, profile: Profile, history: Sequence[float], level: float) -> Judged | None:
    now = _magnitude(profile)
    if math.isnan(now) or len(history) < drift.LEAST_WINDOWS:
        return None
    centre = sum(history) / len(history)
    upper = drift.threshold(history, level / 2).value - centre
    lower = drift.threshold([-m for m in history], level / 2).value + centre
    shift = now - centre
    bound = max(upper if shift >= 0 else lower, math.log(LEAST_JUMP))
    factor = math.exp(abs(shift))
    direction = "larger" if shift >= 0 else "smaller"
    reason = (
        f"{profile.field} is {factor:.3g} times {direction} than in the {len(history)} windows before "
        f"(mean {profile.mean:.4g}, std {profile.std:.4g}; up to {math.exp(bound):.3g} times is ordinary): "
        "did its unit change?"
    )
    return Judged(
        f"{source}.{profile.field}", abs(shift) > bound, factor, math.exp(bound), profile.events - profile.nulls, reason
    )


def _magnitude(profile: Profile) -> float:
    """log of the root mean square; NaN for a field that is zero throughout or has no values."""
    square = profile.mean**2 + profile.std**2
    if profile.events <= profile.nulls or not math.isfinite(square) or square <= 0:
        return math.nan
    return 0.5 * math.log(square)
