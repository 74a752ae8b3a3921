"""The life of an alert: ok, pending, firing, resolved; with confirmations, quiet readings, cooldown and no-data."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum


class State(StrEnum):
    """Where an alert stands; `ok` is the absence of one."""

    PENDING = "pending"
    FIRING = "firing"
    RESOLVED = "resolved"
    NO_DATA = "no_data"


OPEN = frozenset({State.PENDING, State.FIRING, State.NO_DATA})


@dataclass(frozen=True, slots=True)
class Rule:
    """When a reading becomes an alert. Counts are evaluations; the cooldown runs on the project's clock."""

    name: str
    severity: str
    action: str
    confirmations: int = 1  # readings beyond, in a row, before it fires
    quiet: int = 1  # readings not beyond, in a row, before it resolves
    cooldown_us: int = 0  # after it resolved, before the same subject may open another


@dataclass(frozen=True, slots=True)
class Reading:
    """One evaluation of a rule for one subject."""

    subject: str
    beyond: bool
    statistic: float
    threshold: float
    observations: int
    reason: str
    has_data: bool = True
    evidence_query: str = ""
    evidence_ids: tuple[str, ...] = ()
    cause_id: str = ""
    incident: str = ""  # empty: named after the time it began


@dataclass(frozen=True, slots=True)
class Alert:
    """One incident of one rule and subject. Times on the project's clock."""

    project: str
    rule: str
    subject: str
    incident: str
    state: State
    severity: str
    action: str
    reason: str
    statistic: float
    threshold: float
    observations: int
    since_us: int
    updated_us: int
    beyond: int = 0
    quiet: int = 0
    event_id: str = ""
    cause_id: str = ""
    evidence_query: str = ""
    evidence_ids: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """Stable per (project, rule, subject, incident)."""
        return f"{self.project}/{self.rule}/{self.subject}/{self.incident}"

    @property
    def is_open(self) -> bool:
        """Whether it still stands."""
        return self.state in OPEN


def step(previous: Alert | None, reading: Reading, rule: Rule, project: str, now_us: int) -> Alert | None:
    """The alert after `reading`; None when there is (still) nothing. `previous` is the subject's newest incident.

    The caller publishes when the state differs from `previous`'s.
    """
    if previous is None or not previous.is_open:
        if not reading.beyond or not reading.has_data or _cooling(previous, rule, now_us):
            return previous
        state = State.FIRING if rule.confirmations <= 1 else State.PENDING
        return _opened(reading, rule, project, state, now_us)
    if not reading.has_data:
        silent = State.NO_DATA if previous.state is State.FIRING else previous.state
        return replace(previous, state=silent, updated_us=now_us)
    if reading.beyond:
        beyond = previous.beyond + 1
        fires = previous.state is not State.PENDING or beyond >= rule.confirmations
        state = State.FIRING if fires else State.PENDING
        # The action may come to life while the alert stands: what held it back is gone.
        current = replace(previous, action=rule.action, state=state, beyond=beyond, quiet=0)
        return _updated(current, reading, now_us)
    quiet = previous.quiet + 1
    if previous.state is State.PENDING or quiet >= rule.quiet:
        return _updated(replace(previous, state=State.RESOLVED, quiet=quiet), reading, now_us)
    return replace(previous, quiet=quiet, updated_us=now_us)


def resolved(alert: Alert, reason: str, now_us: int) -> Alert:
    """The alert, closed because what it was about is gone."""
    return replace(alert, state=State.RESOLVED, reason=reason, updated_us=now_us)


def _cooling(previous: Alert | None, rule: Rule, now_us: int) -> bool:
    fired = previous is not None and previous.beyond >= rule.confirmations
    return previous is not None and fired and now_us - previous.updated_us < rule.cooldown_us


def _opened(reading: Reading, rule: Rule, project: str, state: State, now_us: int) -> Alert:
    return Alert(
        project=project,
        rule=rule.name,
        subject=reading.subject,
        incident=reading.incident or str(now_us),
        state=state,
        severity=rule.severity,
        action=rule.action,
        reason=reading.reason,
        statistic=reading.statistic,
        threshold=reading.threshold,
        observations=reading.observations,
        since_us=now_us,
        updated_us=now_us,
        beyond=1,
        cause_id=reading.cause_id,
        evidence_query=reading.evidence_query,
        evidence_ids=reading.evidence_ids,
    )


def _updated(previous: Alert, reading: Reading, now_us: int) -> Alert:
    return replace(
        previous,
        reason=reading.reason,
        statistic=reading.statistic,
        threshold=reading.threshold,
        observations=reading.observations,
        updated_us=now_us,
        cause_id=reading.cause_id or previous.cause_id,
        evidence_query=reading.evidence_query or previous.evidence_query,
        evidence_ids=reading.evidence_ids or previous.evidence_ids,
    )
