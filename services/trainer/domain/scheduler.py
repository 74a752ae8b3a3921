"""When a request becomes a run: pure rules over what is recorded, for one project.

- One run at a time; requests that come meanwhile wait and share the next one. The last request wins: a run sees data as
  known at or after the moment it was asked, and every request that waited is recorded with it.
- Debounce: a run starts when nobody has asked for so long, but after four times that at the latest.
- Cooldown: no earlier than so long after the last run was asked for; requests wait for its end.
- Budget: runs per day. Requests beyond it share the first run of the next day, so the last event is in a run whatever
  the storm; a person's is declined, for a person to see.
- A person's request skips debounce and cooldown, not the budget. A stale gate is no run and skips all three.
- The kill switch, of the project or of all: while it is off nothing starts, and what was asked for waits.

All times are microseconds of the project's clock.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from millrace.definitions.model import DAY_US, Training

MAX_DEBOUNCES = 4
LABEL_BUCKET_US = 60_000_000  # labels are counted per minute of the time at which they count


class Trigger(StrEnum):
    """Who or what asks."""

    NEW_LABELS = "new_labels"
    DRIFT = "drift"
    SCHEDULE = "schedule"
    MANUAL = "manual"
    STALE_GATE = "stale_gate"
    ROLLBACK = "rollback"


@dataclass(frozen=True, slots=True)
class Request:
    """One event that asked; `run_id` names the run to gate again where that is asked; `accept_data`: a person takes the
    rows as they are."""

    request_id: str
    project: str
    trigger: Trigger
    asked_us: int
    reason: str = ""
    run_id: str = ""
    actor: str = ""
    accept_data: bool = False


@dataclass(frozen=True, slots=True)
class PastRun:
    """A run as the scheduler sees it. Declined ones are no runs."""

    run_id: str
    as_of_us: int
    unfinished: bool
    has_model: bool = False


@dataclass(frozen=True, slots=True)
class LabelBucket:
    """Labels that began to count within one minute: `end_us` is its end, `event_id` the last of their events."""

    end_us: int
    labels: int
    event_id: str


@dataclass(frozen=True, slots=True)
class Situation:
    """Everything a decision looks at. `runs`: at least the newest, the unfinished, those of the last day. `off`: why
    training is switched off; empty while it is not. `resumed_us`: when it was last switched on; no run is of before."""

    now_us: int
    replayed: bool
    pending: tuple[Request, ...]
    runs: tuple[PastRun, ...]
    labels_since_run: int
    off: str = ""
    resumed_us: int = 0


@dataclass(frozen=True, slots=True)
class Start:
    """Train on data as known at `as_of_us`; the last request is the cause."""

    requests: tuple[Request, ...]
    as_of_us: int


@dataclass(frozen=True, slots=True)
class GateAgain:
    """Gate the stored model of `run_id` against the champion of now."""

    request: Request
    run_id: str


@dataclass(frozen=True, slots=True)
class Decline:
    """These requests do not become a run, and why."""

    requests: tuple[Request, ...]
    reason: str
    as_of_us: int


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing now; look again at `until_us` (0: when something changes)."""

    reason: str
    until_us: int = 0


Decision = Start | GateAgain | Decline | Wait


def decide(policy: Training, situation: Situation) -> tuple[Decision, ...]:
    """What to do now; no two of the answers start work."""
    stale = tuple(r for r in situation.pending if r.trigger is Trigger.STALE_GATE)
    asked = tuple(r for r in situation.pending if r.trigger is not Trigger.STALE_GATE)
    decisions: list[Decision] = []
    gates, declined = _stale_gates(stale, situation)
    decisions += declined
    if not policy.on_drift and (drift := tuple(r for r in asked if r.trigger is Trigger.DRIFT)):
        decisions.append(Decline(drift, "this project does not train on drift", _last(drift)))
        asked = tuple(r for r in asked if r.trigger is not Trigger.DRIFT)
    if not asked and not gates:
        return tuple(decisions)
    if situation.off:
        decisions.append(Wait(situation.off))
    elif any(run.unfinished for run in situation.runs):
        decisions.append(Wait("a run of this model is unfinished"))
    elif gates:
        decisions.append(gates[0])
    else:
        decisions += _fresh_run(policy, situation, asked)
    return tuple(decisions)


def _stale_gates(stale: Sequence[Request], situation: Situation) -> tuple[list[GateAgain], list[Decline]]:
    known = {run.run_id for run in situation.runs if run.has_model or run.unfinished}
    gates = [GateAgain(r, r.run_id) for r in stale if r.run_id in known]
    unknown = [r for r in stale if r.run_id not in known]
    return gates, [
        Decline((r,), f"no run {r.run_id or '(none named)'} with a model is known", r.asked_us) for r in unknown
    ]


def _fresh_run(policy: Training, situation: Situation, asked: tuple[Request, ...]) -> tuple[Decision, ...]:
    by_hand = tuple(r for r in asked if r.trigger is Trigger.MANUAL)
    last_run = max((run.as_of_us for run in situation.runs), default=None)
    due_us = _last(asked)
    if not by_hand:
        due_us = min(due_us + policy.debounce_us, min(r.asked_us for r in asked) + MAX_DEBOUNCES * policy.debounce_us)
        if last_run is not None:
            due_us = max(due_us, last_run + policy.cooldown_us)
    due_us = max(due_us, situation.resumed_us)
    if situation.now_us < due_us:
        return (Wait("debounce or cooldown", due_us),)
    as_of_us = max(due_us, _last(asked))
    if not situation.replayed:
        as_of_us = max(as_of_us, situation.now_us)
    if not by_hand and last_run is not None and situation.labels_since_run == 0:
        return (Decline(asked, "no label has matured since the last run", as_of_us),)
    return _within_budget(policy.budget_per_day, situation, asked, by_hand, as_of_us)


def _within_budget(
    budget: int, situation: Situation, asked: tuple[Request, ...], by_hand: tuple[Request, ...], as_of_us: int
) -> tuple[Decision, ...]:
    """The start, on the first day from `as_of_us` on that has a run left."""
    spent = f"the budget of {budget} runs a day is spent"
    if budget <= 0:
        return (Decline(asked, spent, as_of_us),)
    runs = Counter(run.as_of_us // DAY_US for run in situation.runs)
    day = as_of_us // DAY_US
    if runs[day] < budget:
        return (Start(asked, as_of_us),)
    while runs[day] >= budget:
        day += 1
    if situation.now_us >= day * DAY_US:
        return (Start(asked, day * DAY_US),)
    declined = (Decline(by_hand, spent, as_of_us),) if by_hand else ()
    return (*declined, Wait(spent, day * DAY_US)) if len(by_hand) < len(asked) else declined


def label_crossing(threshold: int, buckets: Sequence[LabelBucket], watermark_us: int) -> LabelBucket | None:
    """The bucket in which the count of new labels reached `threshold`, once it is known to be whole."""
    if threshold <= 0:
        return None
    total = 0
    for bucket in sorted(buckets, key=lambda b: b.end_us):
        if bucket.end_us > watermark_us:
            return None
        total += bucket.labels
        if total >= threshold:
            return bucket
    return None


def bucket_end(time_us: int) -> int:
    """End of the minute that `time_us` is in; a time on the minute ends its own."""
    return -(-time_us // LABEL_BUCKET_US) * LABEL_BUCKET_US


def schedule_due(every_us: int, last_us: int, now_us: int) -> int:
    """The newest turn of the schedule (a multiple of `every_us`) after `last_us`, or 0. Missed turns count once."""
    if every_us <= 0:
        return 0
    turn_us = now_us - now_us % every_us
    return turn_us if turn_us > last_us else 0


def _last(requests: Sequence[Request]) -> int:
    return max(r.asked_us for r in requests)
