"""What each topic's batches do to the log, the index and the state. Effects first; the worker commits after them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from millrace.bus.effects import Effects
from millrace.bus.events import Batch, Record
from millrace.wire.inference.v1.events_pb2 import ServingStatus
from millrace.wire.ingestion.v1.events_pb2 import ViolationWindow
from millrace.wire.labeling.v1.events_pb2 import LabelHeartbeat
from millrace.wire.registry.v1.events_pb2 import ModelEvent, ServingPlan, Variant

from services.monitor.domain import plans
from services.monitor.domain.quality import Broken, Finding, Profile, Window
from services.monitor.handlers import records
from services.monitor.ports import Index, Log, State

_ROLES = {Variant.CHAMPION: "champion", Variant.CANARY: "canary", Variant.SHADOW: "shadow", Variant.AB: "ab"}
MOST_REPLICAS = 10_000


@dataclass(slots=True)
class Sinks:
    """Where records go; `changed` is called after each batch, so that a decision that waited for it is made."""

    log: Log
    index: Index
    state: State
    project_now: Callable[[str], int]
    wall_us: Callable[[], int]
    changed: Callable[[], None]
    labels_until: dict[tuple[str, int], int] = field(default_factory=dict)
    _replicas: dict[str, bytes] = field(default_factory=dict)

    async def predictions(self, batch: Batch, effects: Effects) -> None:
        """To the log."""
        await self.log.add_predictions(records.prediction_columns(batch.records), _token(batch))
        self.changed()

    async def labels(self, batch: Batch, effects: Effects) -> None:
        """Labels to the log, then how far they are complete to the state."""
        rows = [record for record in batch.records if record.event.type != records.LABEL_HEARTBEAT]
        if rows:
            await self.log.add_labels(records.label_columns(rows), _token(batch))
        seen: dict[tuple[str, int], int] = {}
        for record in batch.records:
            if record.event.type == records.LABEL_HEARTBEAT:
                beat = records.parse(LabelHeartbeat, record)
                place = (beat.project, record.partition)
                seen[place] = max(beat.visible_us, seen.get(place, 0))
        if seen:
            await self.state.heartbeat(seen)
            for place, until_us in seen.items():
                self.labels_until[place] = max(until_us, self.labels_until.get(place, 0))
        self.changed()

    async def platform(self, batch: Batch, effects: Effects) -> None:
        """To the index, and what decisions stand on to the state."""
        kind, describe = records.PLATFORM[batch.topic]
        parsed = [(record, records.parse(kind, record)) for record in batch.records if record.data]
        now_us = self.wall_us()
        rows = [
            records.event_row(record, payload, describe(payload), now_us + i)  # + i keeps their order
            for i, (record, payload) in enumerate(parsed)
            if self._is_news(record, payload)
        ]
        if rows:
            await self.index.add(records.event_columns(rows), _token(batch))
        await self._keep(batch.topic, parsed)
        self.changed()

    async def _keep(self, topic: str, parsed: list[tuple[Record, Any]]) -> None:
        if topic == "models.events":
            for project in {payload.project for _, payload in parsed}:
                mine = [change_of(p, r.event.id) for r, p in parsed if p.project == project]
                await self.state.put_changes(project, mine)
        elif topic == "models.releases":
            for record, payload in parsed:
                await self.state.put_plan(plan_of(payload, record.event.id, self.project_now(payload.project)))
        elif topic == "data.violations":
            for project in {payload.project for _, payload in parsed}:
                await self.state.put_windows(
                    project, [window_of(p, r.event.id) for r, p in parsed if p.project == project]
                )

    def _is_news(self, record: Record, payload: Any) -> bool:
        """A replica repeats itself every few seconds: only a change of what it serves is an event worth keeping."""
        if not isinstance(payload, ServingStatus):
            return True
        told = b"".join(v.SerializeToString(deterministic=True) for v in payload.variants) + str(payload.epoch).encode()
        place = f"{payload.replica}/{payload.model}"
        if self._replicas.get(place) == told:
            return False
        if len(self._replicas) >= MOST_REPLICAS:
            self._replicas.clear()
        self._replicas[place] = told
        return True


def change_of(event: ModelEvent, event_id: str) -> plans.Change:
    """A ModelEvent as the domain has it."""
    return plans.Change(
        event_id=event_id,
        model=event.model,
        version=event.version,
        to_state=event.to_state,
        kind=event.kind,
        clock_us=event.clock_us,
        epoch=event.epoch,
        other_version=event.other_version,
    )


def plan_of(plan: ServingPlan, event_id: str, received_us: int) -> plans.Plan:
    """A ServingPlan as the domain has it."""
    variants = tuple(
        plans.Variant(v.version, _ROLES.get(v.role, ""), v.weight, v.fallback, v.bundle_digest) for v in plan.variants
    )
    return plans.Plan(plan.project, plan.model, plan.epoch, variants, event_id, received_us)


def window_of(window: ViolationWindow, event_id: str) -> Window:
    """A ViolationWindow as the domain has it."""
    return Window(
        source=window.source,
        start_us=window.window_start_us,
        end_us=window.window_end_us,
        events=window.events,
        quarantined=window.quarantined,
        broken=tuple(Broken(v.field, v.rule, v.events, v.example) for v in window.violations),
        profiles=tuple(Profile(p.field, p.events, p.nulls, p.mean, p.std) for p in window.profiles),
        event_id=event_id,
        findings=tuple(
            Finding(f.field, f.rule, f.measured, f.allowed, f.events, f.is_broken, f.example, f.note)
            for f in window.findings
        ),
    )


def _token(batch: Batch) -> str:
    return f"{batch.topic}:{batch.partition}:{batch.records[0].offset}:{batch.records[-1].offset}"
