"""A registry in memory: bus and SQL twins, a fixed clock, and an inspector that believes what it is told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from millrace.bus.events import Batch, Event, Message, Record, event_type, new_id
from millrace.bus.memory import MemoryBus
from millrace.bus.outbox import OutboxRelay
from millrace.definitions import load_text
from millrace.stores.objects import MemoryObjects
from millrace.stores.sql import Database
from millrace.wire.inference.v1.events_pb2 import ServingStatus, VariantStatus
from millrace.wire.registry.v1 import events_pb2, service_pb2
from millrace.wire.trainer.v1.events_pb2 import Candidate, RunEvent

from services.registry.domain.bundle import FORMAT, expected_inputs
from services.registry.entrypoints.consumer import Consumer
from services.registry.handlers import definitions
from services.registry.handlers.desk import Desk
from services.registry.ports import Inspection, Tensor

MIGRATIONS = Path(definitions.__file__).parents[1] / "entrypoints" / "migrations"
PARCELS = Path(__file__).parents[3] / "tests" / "unit" / "definitions" / "parcels.yaml"
MODEL = "late-delivery"
HOUR_US = 3_600_000_000


@dataclass
class FixedClock:
    """Time that a test sets."""

    now: int = HOUR_US

    def now_us(self, project: Any) -> int:
        return self.now


@dataclass
class Believer:
    """An inspector whose answer a test sets."""

    inspection: Inspection | None = None
    rows: Mapping[str, Sequence[Any]] = field(default_factory=dict)

    async def inspect(self, model: bytes, rows: Mapping[str, Sequence[Any]]) -> Inspection:
        self.rows = rows
        assert self.inspection is not None
        return self.inspection


class Room:
    """The registry's handlers over twins, and what a test wants to say and see."""

    def __init__(self, database: Database | None = None) -> None:
        self.bus = MemoryBus()
        self.database = database or Database("sqlite://", room="registry")
        self.clock = FixedClock()
        self.inspector = Believer()
        self.objects = MemoryObjects()
        self.desk = Desk(
            self.database, self.objects, self.clock, self.inspector, self.bus, lambda: 7, artifact_max_bytes=1000
        )
        self.consumer = Consumer(self.desk, "test")
        self.relay = OutboxRelay(self.database, self.bus)
        self._offset = 0
        self.project = load_text(PARCELS.read_text())

    async def start(self) -> Room:
        await self.database.start(MIGRATIONS)
        return self

    async def stop(self) -> None:
        await self.database.stop()

    async def apply(self, yaml: str | None = None, based_on: int = 0, **more: Any) -> service_pb2.ApplyReply:
        text = PARCELS.read_text() if yaml is None else yaml
        request = service_pb2.ApplyRequest(yaml=text, based_on_version=based_on, **more)
        reply = await definitions.apply(self.desk, request, "ann", "")
        await self.relay.drain()
        return reply

    def record(self, topic: str, body: Any, event_id: str = "") -> Record:
        self._offset += 1
        event = Event(event_id or new_id(), event_type("test", "thing", "said"), "test", body.SerializeToString())
        return Record(topic, 0, self._offset, b"k", tuple(event.to_headers()), event.data, 0)

    async def give(self, record: Record) -> None:
        from millrace.bus.effects import Effects

        batch = Batch(record.topic, record.partition, (record,))
        await self.consumer.handle(batch, Effects("registry", lambda: 7))
        await self.relay.drain()

    async def run(self, run_id: str, champion: int = 0, state: int = RunEvent.PASSED, **more: Any) -> Record:
        """A run ends; the record that said so."""
        candidate = Candidate(
            model_digest=await self.objects.put(run_id.encode()),
            bundle_digest=await self.objects.put(self.bundle()),
            gate_report_digest=more.pop("report", f"sha256:{run_id}"),
            snapshot_digest="sha256:snapshot",
            definition_version=1,
            champion_version=champion,
            metrics={"auc": 0.7},
        )
        clock_us = more.pop("clock_us", self.clock.now)
        run = RunEvent(project="parcels", run_id=run_id, state=state, candidate=candidate, clock_us=clock_us)
        record = self.record("training.runs", run)
        await self.give(record)
        return record

    def bundle(self) -> bytes:
        import json

        inputs = expected_inputs(self.project)
        body = {
            "format": FORMAT,
            "task": "binary",
            "inputs": [{"name": name, "datatype": kind} for name, kind in inputs.items()],
            "golden": {"inputs": {name: [None, None] for name in inputs}, "outputs": [0.5, 0.25]},
            "reference": {"plan.distance": {"kind": "number", "edges": [0, 1], "counts": [3], "nulls": 0}},
        }
        return json.dumps(body).encode()

    def graph(self, outputs: Sequence[float] = (0.5, 0.25), output: str = "probability") -> Inspection:
        kinds = {"FP32": "tensor(float)", "BYTES": "tensor(string)"}
        inputs = tuple(Tensor(name, kinds[kind], 1) for name, kind in expected_inputs(self.project).items())
        return Inspection(inputs, Tensor(output, "tensor(float)", 1), tuple(outputs))

    async def command(self, verb: int, version: int, **more: Any) -> Record:
        body = events_pb2.ModelCommand(project="parcels", model=MODEL, verb=verb, version=version, **more)
        record = self.record("models.commands", body)
        await self.give(record)
        return record

    async def status(self, epoch: int, replica: str = "a", **states: str) -> None:
        variants = [
            VariantStatus(version=int(name[1:]), state=state, reason="cannot load" if state == "failed" else "")
            for name, state in states.items()
        ]
        body = ServingStatus(replica=replica, project="parcels", model=MODEL, epoch=epoch, variants=variants)
        await self.give(self.record("serving.status", body))

    async def plan(self) -> events_pb2.ServingPlan:
        async with self.database.read() as transaction:
            plan = await self.desk.releases(transaction).plan(MODEL)
        assert plan is not None
        return plan

    async def states(self) -> dict[int, str]:
        async with self.database.read() as transaction:
            page = await self.desk.releases(transaction).page(MODEL, 0, 100)
        return {version.version: version.state for version in reversed(page)}

    def events(self) -> list[events_pb2.ModelEvent]:
        return [events_pb2.ModelEvent.FromString(r.data) for r in self.bus.records("models.events")]

    def plans(self) -> list[events_pb2.ServingPlan]:
        return [events_pb2.ServingPlan.FromString(r.data) for r in self.bus.records("models.releases")]


def by_role(plan: events_pb2.ServingPlan) -> dict[str, int]:
    """Role to version; the warm target as `fallback`."""
    roles = {v.role: events_pb2.Variant.Role.Name(v.role).lower() for v in plan.variants}
    return {"fallback" if v.fallback else roles[v.role]: v.version for v in plan.variants}


__all__ = ["HOUR_US", "MODEL", "PARCELS", "Message", "Room", "by_role"]
