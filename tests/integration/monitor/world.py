"""A small world around the monitor: the real room over a bus in memory and the real ClickHouse, with its neighbours
played by the test."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from millrace.bus.events import Event, Message, event_type, new_id
from millrace.bus.memory import MemoryBus
from millrace.definitions import digest, load_text, to_canonical_json
from millrace.runtime.room import RoomProcess
from millrace.wire.common.v1.common_pb2 import ClockTick, ExampleKey, RoomStatus, Value
from millrace.wire.inference.v1.events_pb2 import Prediction
from millrace.wire.ingestion.v1.events_pb2 import FieldProfile, FieldViolation, ViolationWindow
from millrace.wire.labeling.v1.events_pb2 import Label, LabelHeartbeat
from millrace.wire.registry.v1.events_pb2 import DefinitionPublished, ModelCommand, ModelEvent, ServingPlan, Variant
from millrace.wire.trainer.v1.events_pb2 import Candidate, RunEvent, TrainingRequest

from services.monitor.bootstrap import Parts, equip, join, start, stop
from services.monitor.settings import Settings
from tests.support.poll import until

HOUR_US = 3_600_000_000
DAY_US = 24 * HOUR_US
START_US = 15_900 * DAY_US  # a day boundary in 2013
MODEL, PROJECT = "late", "world"

DEFINITION = """
project: world
description: A world of one number and one word.
clock: replay
sources:
  orders:
    event_type: world.order.placed
    key: order_id
    event_time: placed_at
    fields:
      order_id: {type: string, required: true}
      placed_at: {type: timestamp, required: true}
      amount: {type: number}
      city: {type: string}
      late: {type: number}
predict:
  source: orders
  entity: order_id
  moment: placed_at
features:
  plan@1:
    source: orders
    entity: order_id
    latest: [amount, city]
    ttl: 2d
label:
  source: orders
  key: order_id
  value: late
  horizon: 6h
  missing: censored
model:
  name: late
  task: binary
  template: {kind: linear, epochs: 1}
  inputs: [plan.amount, plan.city]
training:
  triggers: {new_labels: 100, drift: true}
  window: 30d
  cooldown: 2d
gate:
  metric: auc
  floors: {auc: 0.6}
rollout:
  strategy: canary
  steps: [{weight: 0.2, after: 12h, min_predictions: 50}]
  guard: 4d
monitors:
  drift: {false_alarms_per_year: 4, window: 1d, action: retrain}
  label_drift: {false_alarms_per_year: 4, window: 7d, action: retrain}
  data_quality: {max_quarantined_share: 0.02, window: 6h, action: alert}
  release: {max_disagreement: 0.4, min_predictions: 150, min_labels: 300, confidence: 0.99, action: rollback}
"""

BUNDLE = {
    "format": "millrace.bundle/1",
    "reference": {
        "plan.amount": {"kind": "number", "edges": [0, 25, 50, 75, 100], "counts": [250, 250, 250, 250], "nulls": 0},
        "plan.city": {"kind": "string", "values": {"ghent": 500, "lille": 500}, "nulls": 0},
    },
    "reference_output": {"edges": [0, 0.25, 0.5, 0.75, 1], "counts": [250, 250, 250, 250]},
    "reference_label": {"mean": 0.5, "rows": 3000},
}


@dataclass
class FakeBundles:
    """The registry's artifacts."""

    known: dict[str, Mapping] = field(default_factory=lambda: {"sha256:one": BUNDLE, "sha256:two": BUNDLE})

    async def get(self, digest: str) -> Mapping:
        return self.known[digest]


@dataclass
class FakeFleet:
    """Rooms that are always settled."""

    statuses: dict[str, RoomStatus | None] = field(default_factory=dict)

    async def describe(self) -> Mapping[str, RoomStatus | None]:
        return self.statuses

    async def settled(self) -> bool:
        return True


def event(noun: str, verb: str, body, *, room: str, cause: str = "", event_id: str = "", actor: str = "") -> Event:
    """An event of a neighbour."""
    return Event(
        id=event_id or new_id(),
        type=event_type(room, noun, verb),
        source=f"millrace/{room}",
        data=body.SerializeToString(),
        time_us=START_US,
        causation_id=cause,
        actor=actor,
    )


@dataclass
class World:
    """Says what the neighbours would say; `parts` is the monitor."""

    bus: MemoryBus
    parts: Parts
    http: str = ""
    grpc: str = ""
    random: np.random.Generator = field(default_factory=lambda: np.random.default_rng(4))

    async def say(self, topic: str, made: Event, key: str = "", partition: int | None = None) -> str:
        await self.bus.publish([Message(topic, made, key=key.encode() or None, partition=partition)])
        return made.id

    async def define(self, text: str = DEFINITION) -> None:
        project = load_text(text)
        body = DefinitionPublished(
            project=PROJECT, version=1, digest=digest(project), canonical_json=to_canonical_json(project)
        )
        await self.say("definitions", event("definition", "published", body, room="registry"), PROJECT)
        await until(lambda: PROJECT in self.parts.definitions.projects, 10)

    async def run_passed(self, run_id: str, snapshot: str) -> str:
        """A run ends well; the id of its event."""
        asked = await self.say(
            "training.requests",
            event(
                "training",
                "requested",
                TrainingRequest(project=PROJECT, trigger=TrainingRequest.MANUAL, reason="by hand"),
                room="trainer",
                actor="ada",
            ),
            PROJECT,
        )
        candidate = Candidate(snapshot_digest=snapshot, metrics={"auc": 0.7})
        body = RunEvent(project=PROJECT, run_id=run_id, state=RunEvent.PASSED, candidate=candidate)
        return await self.say("training.runs", event("run", "passed", body, room="trainer", cause=asked), PROJECT)

    async def move(self, version: int, to_state: str, kind: str, clock_us: int, epoch: int, **more) -> str:
        """The registry moves a version; the id of its event."""
        cause, actor = more.pop("cause", ""), more.pop("actor", "")
        body = ModelEvent(
            project=PROJECT, model=MODEL, version=version, to_state=to_state, kind=kind, clock_us=clock_us, epoch=epoch,
            actor=actor, **more,
        )  # fmt: skip
        return await self.say(
            "models.events", event("model", kind, body, room="registry", cause=cause, actor=actor), MODEL
        )

    async def plan(self, epoch: int, *variants: Variant, cause: str = "") -> None:
        body = ServingPlan(project=PROJECT, model=MODEL, epoch=epoch, variants=variants)
        await self.say("models.releases", event("plan", "published", body, room="registry", cause=cause), MODEL)

    async def predict(
        self, moments: Sequence[int], score: Mapping[int, str], truth: np.ndarray, epoch: int, shift: float = 0.0
    ) -> None:
        """One request per moment, scored by every version in `score` (good, fair, flat, bad); roles: first answers."""
        batch = []
        for i, moment_us in enumerate(moments):
            request = str(uuid.uuid4())
            amount = float(np.clip(self.random.uniform(0, 100) + shift, 0, 400))
            city = "ghent" if self.random.random() < 0.5 else "lille"
            for place, (version, kind) in enumerate(score.items()):
                quality = {
                    "good": 0.2 + 0.6 * truth[i],
                    "bad": 0.95 - 0.9 * truth[i],
                    "flat": 0.5,
                    "fair": 0.35 + 0.3 * truth[i] + self.random.normal(0, 0.25),
                }[kind]
                output = float(np.clip(quality + self.random.normal(0, 0.1), 0, 1))
                body = Prediction(
                    prediction_id=f"{request}/{version}", request_id=request, model=MODEL, version=version,
                    key=ExampleKey(project=PROJECT, entity=f"o{moment_us}", moment_us=moment_us),
                    role="champion" if place == 0 else "shadow", answered=place == 0, outputs=[output], epoch=epoch,
                    inputs={"plan.amount": Value(number=amount), "plan.city": Value(text=city)},
                    answered_us=moment_us, latency_us=1500,
                )  # fmt: skip
                verb = "answered" if place == 0 else "shadowed"
                made = event("prediction", verb, body, room="inference", event_id=f"{request}/{version}")
                batch.append(Message("predictions", made, key=f"{PROJECT}/o{moment_us}".encode()))
        await self.bus.publish(batch)

    async def label(self, moments: Sequence[int], truth: np.ndarray) -> None:
        batch = []
        for moment_us, value in zip(moments, truth, strict=True):
            body = Label(
                key=ExampleKey(project=PROJECT, entity=f"o{moment_us}", moment_us=moment_us), outcome=Label.OBSERVED,
                value=float(value), origin=Label.LATE_TRUTH, confidence=1, event_us=moment_us + HOUR_US,
                visible_us=moment_us + HOUR_US, matured_us=moment_us + 6 * HOUR_US,
            )  # fmt: skip
            made = event("label", "matured", body, room="labeling")
            batch.append(Message("labels", made, key=f"{PROJECT}/o{moment_us}/{moment_us}".encode()))
        await self.bus.publish(batch)

    async def window(self, source: str, start_us: int, events: int, quarantined: int, mean: float, std: float) -> str:
        body = ViolationWindow(
            project=PROJECT, source=source, window_start_us=start_us, window_end_us=start_us + 6 * HOUR_US,
            events=events, quarantined=quarantined,
            profiles=[FieldProfile(field="amount", events=events, mean=mean, std=std)],
            violations=[FieldViolation(field="amount", rule="range", events=quarantined, example="4200")]
            if quarantined else [],
        )  # fmt: skip
        return await self.say(
            "data.violations", event("window", "profiled", body, room="ingestion"), f"{PROJECT}/{source}"
        )

    async def clock(self, now_us: int) -> None:
        """The clock moves, labels follow, and the monitor decides all that is due."""
        tick = ClockTick(project=PROJECT, now_us=now_us)
        await self.say("clocks", event("clock", "ticked", tick, room="ingestion"), PROJECT)
        for part in self.parts.label_partitions:
            beat = LabelHeartbeat(project=PROJECT, visible_us=now_us)
            await self.say("labels", event("clock", "advanced", beat, room="labeling"), partition=part)
        await until(lambda: self.parts.decider.watermarks().get(PROJECT, 0) >= now_us, 60)
        await until(lambda: self.parts.database.unpublished_records == 0, 10)

    def said(self, topic: str, kind) -> list:
        """Everything the topic holds, decoded."""
        return [kind.FromString(r.data) for r in self.bus.records(topic)]

    def commands(self) -> list[ModelCommand]:
        return [c for c in self.said("models.commands", ModelCommand) if c.actor == "monitor"]


@asynccontextmanager
async def world(
    clickhouse_url: str, home: Path, bus: MemoryBus | None = None, database: str = ""
) -> AsyncIterator[World]:
    """The monitor running; stopped and drained at the end."""
    settings = Settings(home=home, clickhouse_url=clickhouse_url, decide_every_replay_s=21_600)
    bus = bus or MemoryBus()
    name = database or f"monitor_{uuid.uuid4().hex[:12]}"
    parts = join(settings, bus, FakeBundles(), FakeFleet(), database=name)
    await start(parts)
    runs = [parts.definitions.run, parts.clocks.run, parts.relay.run, parts.decider.run]
    tasks = [asyncio.create_task(run()) for run in (*runs, *(w.run for w in parts.workers.values()))]
    try:
        yield World(bus, parts)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await stop(parts)


@asynccontextmanager
async def served_world(clickhouse_url: str, home: Path, fleet: FakeFleet | None = None) -> AsyncIterator[World]:
    """As `world`, in a whole room process with its doors; `World.http` and `World.grpc` are their addresses."""
    settings = Settings(home=home, clickhouse_url=clickhouse_url, console_refresh_s=0.5, stream=False)
    bus = MemoryBus()
    parts = join(settings, bus, FakeBundles(), fleet or FakeFleet(), database=f"monitor_{uuid.uuid4().hex[:12]}")
    room = RoomProcess("monitor", settings)
    equip(room, parts)
    running = asyncio.create_task(room.run())
    try:
        await until(lambda: running.done() or room.status.started, 60)
        yield World(bus, parts, http=f"http://{room.status.http_address}", grpc=room.status.grpc_address)
    finally:
        room.request_stop()
        await running


def champion(version: int, bundle: str = "sha256:one") -> Variant:
    return Variant(version=version, role=Variant.CHAMPION, weight=1, bundle_digest=bundle)


def warm(version: int, bundle: str = "sha256:one") -> Variant:
    return Variant(version=version, role=Variant.SHADOW, fallback=True, bundle_digest=bundle)


def as_json(text: str) -> dict:
    return json.loads(text)
