"""What every watcher works with, and the moment that it judges."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from millrace.bus.events import Message
from millrace.definitions.model import Project

from services.monitor.domain import alerts
from services.monitor.domain.alerts import Alert, Reading, Rule
from services.monitor.domain.plans import Change, Plan
from services.monitor.handlers import messages
from services.monitor.ports import Bundles, Index, Log, Outcome, State

Ask = tuple[str, Message]  # (key under which it is asked at most once, what is asked)
Act = Callable[[Alert], Ask]


@dataclass(frozen=True, slots=True)
class Desk:
    """The ports of decisions."""

    log: Log
    index: Index
    state: State
    bundles: Bundles
    wall_us: Callable[[], int]


@dataclass(slots=True)
class Moment:
    """One decision in the making: a project at `now_us`, the previous one having been made at `previous_us`.

    Watchers call `read`; what changes gathers in `outcome`.
    """

    project: Project
    now_us: int
    previous_us: int
    wall_us: int
    plans: Sequence[Plan]
    changes: Mapping[str, Sequence[Change]]
    latest: dict[tuple[str, str], Alert]
    asked: frozenset[str]
    outcome: Outcome = field(default_factory=Outcome)
    retrain: list[tuple[str, Alert]] = field(default_factory=list)

    def read(self, rule: Rule, reading: Reading, act: Act | None = None) -> None:
        """One reading of a rule: the alert moves on, is told when its state or action changed, and acts when firing."""
        place = (rule.name, reading.subject)
        before = self.latest.get(place)
        after = alerts.step(before, reading, rule, self.project.name, self.now_us)
        if after is None or (after is before and not (before and before.state is alerts.State.FIRING)):
            return
        if after is not before:
            self.keep(before, after)
            after = self.latest[place]
        if after.state is alerts.State.FIRING and reading.beyond:
            self._act(after, act)

    def keep(self, before: Alert | None, after: Alert) -> None:
        """Remember an alert; publish it when its state or action is new."""
        is_same = before is not None and before.key == after.key
        if not is_same or before is None or (before.state, before.action) != (after.state, after.action):
            after = replace(after, event_id=messages.alert_event_id(after))
            self.outcome.messages.append(messages.alert_message(after, self.wall_us))
        self.latest[after.rule, after.subject] = after
        self.outcome.alerts[after.key] = after

    def close(self, alert: Alert, reason: str) -> None:
        """Resolve an open alert whose subject is gone."""
        if alert.is_open:
            self.keep(alert, alerts.resolved(alert, reason, self.now_us))

    def ask(self, ask: Ask) -> None:
        """Ask something of another room, at most once per key."""
        key, message = ask
        if key not in self.asked and key not in self.outcome.asked:
            self.outcome.asked[key] = message.event.id
            self.outcome.messages.append(message)

    def open_alerts(self, rule: str) -> list[Alert]:
        """The rule's alerts that stand."""
        return [alert for (name, _), alert in self.latest.items() if name == rule and alert.is_open]

    def ask_for_retraining(self) -> None:
        """One request for all alerts that ask now; it names the worst and is caused by it."""
        due = [(key, alert) for key, alert in self.retrain if key not in self.asked]
        if not due:
            return
        worst = max((alert for _, alert in due), key=lambda a: abs(a.statistic) / (a.threshold or 1.0))
        others = len(due) - 1
        reason = worst.reason + (f" (and {others} more)" if others else "")
        message = messages.retrain_message(
            self.project.name, reason, asked_us=self.now_us, cause_id=worst.event_id, wall_us=self.wall_us
        )
        self.outcome.messages.append(message)
        self.outcome.asked.update({key: message.event.id for key, _ in due})

    def _act(self, alert: Alert, act: Act | None) -> None:
        if alert.action == "rollback" and act is not None:
            self.ask(act(alert))
        elif alert.action == "retrain":
            # The trainer may decline (cooldown, budget): while the alert lasts it is asked again, once per cooldown.
            pause_us = max(self.project.training.cooldown_us, 86_400_000_000)
            self.retrain.append((f"retrain/{alert.key}/{(self.now_us - alert.since_us) // pause_us}", alert))
