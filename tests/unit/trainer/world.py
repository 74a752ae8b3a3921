"""A small project and twins of the trainer's neighbours."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
from millrace.bus.effects import Effects
from millrace.bus.events import Batch, Event, Record, event_type
from millrace.bus.memory import MemoryBus
from millrace.bus.outbox import OutboxRelay
from millrace.definitions.load import load_text
from millrace.definitions.model import Clock, Project, Training
from millrace.runtime.definitions import Definition
from millrace.stores.sql import Database
from millrace.wire.common.v1.common_pb2 import ExampleKey
from millrace.wire.labeling.v1.events_pb2 import Label, LabelHeartbeat
from millrace.wire.trainer.v1.events_pb2 import RunEvent, TrainingRequest

from services.trainer.adapters.runs_sql import SqlRuns
from services.trainer.domain.job import TRAIN, ChampionSpec, JobResult, JobSpec
from services.trainer.errors import JobFailed, NeighbourUnavailable
from services.trainer.handlers import HANDLERS, Desk
from services.trainer.ports import JobProgress, SnapshotFacts

MIGRATIONS = Path("services/trainer/entrypoints/migrations")
MINUTE_US = 60_000_000
HOUR_US = 60 * MINUTE_US
START_US = 1_700_000_040_000_000  # on a minute

YAML = """
project: pumps
description: Will a pump fail within a day?
clock: replay
sources:
  readings:
    event_type: pumps.reading
    key: pump
    event_time: read_at
    fields:
      pump: {type: string, required: true}
      read_at: {type: timestamp, required: true}
      kind: {type: string}
      pressure: {type: number}
  faults:
    event_type: pumps.fault
    key: pump
    event_time: at
    fields:
      pump: {type: string, required: true}
      at: {type: timestamp, required: true}
      broken: {type: number}
predict:
  source: readings
  entity: pump
  moment: read_at
features:
  last@1:
    source: readings
    entity: pump
    latest: [kind, pressure]
label:
  source: faults
  key: pump
  value: broken > 0
  horizon: 1h
  missing: censored
model:
  name: pump-fails
  task: binary
  template: {kind: wide-and-deep, hidden: [8], epochs: 2}
  inputs: [last.kind, last.pressure]
training:
  triggers: {new_labels: 10, drift: true}
  window: 30d
  debounce: 1h
  cooldown: 1d
  budget_per_day: 2
  min_rows: 10
gate:
  metric: auc
  floors: {auc: 0.6}
"""


def project(**training: int | bool) -> Project:
    """The project, with the training policy changed."""
    parsed = load_text(YAML)
    return replace(parsed, training=replace(parsed.training, **training))


def policy(**training: int | bool) -> Training:
    """A training policy."""
    return replace(Training(), **training)


@dataclass
class FakeDefinitions:
    """Definitions that a test sets."""

    projects: Mapping[str, Definition]

    def version(self, project: str, number: int) -> Definition | None:
        """The one that is there."""
        return self.projects.get(project)


@dataclass
class FakeClocks:
    """A clock that a test moves."""

    time_us: int = START_US

    def now_us(self, project: str) -> int:
        """Its time."""
        return self.time_us


@dataclass
class FakeFeatures:
    """A feature store with `rows` examples; `gone` times it does not answer."""

    rows: int = 100
    gone: int = 0
    history: str = ""  # what snapshots are named after besides their bounds
    asked: list[tuple[int, int]] = field(default_factory=list)

    async def wait_until(self, project: str, as_of_us: int) -> None:
        """At once, unless it is gone."""
        if self.gone:
            self.gone -= 1
            raise NeighbourUnavailable("feature_store: unavailable")

    async def create_snapshot(self, project: str, from_us: int, as_of_us: int) -> SnapshotFacts:
        """A snapshot named after its bounds."""
        self.asked.append((from_us, as_of_us))
        name = hashlib.sha256(f"{project}{from_us}{as_of_us}{self.history}".encode()).hexdigest()
        return SnapshotFacts(f"sha256:{name}", self.rows, 1)

    async def read_snapshot(self, digest: str, path: Path) -> None:
        """Some bytes."""
        await asyncio.to_thread(path.write_bytes, digest.encode())


@dataclass
class FakeRegistry:
    """Artifacts in a dictionary, and a champion that a test sets."""

    serving: ChampionSpec = field(default_factory=ChampionSpec)
    artifacts: dict[str, bytes] = field(default_factory=dict)

    async def champion(self, project: str, model: str) -> ChampionSpec:
        """The one that serves."""
        return self.serving

    async def get_artifact(self, digest: str) -> bytes:
        """KeyError when it was never put."""
        return self.artifacts[digest]

    async def put_artifact(self, data: bytes) -> str:
        """Keeps it."""
        self.artifacts[digest(data)] = data
        return digest(data)


@dataclass
class FakeJobs:
    """Jobs that end at once with the verdict that a test sets; `hold` keeps them running."""

    verdict: str = "PASSED"
    fails: str = ""
    declined: str = ""
    auc: float = 0.8
    hold: asyncio.Event | None = None
    on_run: object = None
    specs: list[JobSpec] = field(default_factory=list)

    async def run(self, folder: Path, on_progress: object) -> JobResult:
        """Writes three files and a result."""
        spec = JobSpec.from_json((folder / "spec.json").read_text())
        self.specs.append(spec)
        await on_progress(JobProgress(0.5, ((1, 0.7, 0.6),)))  # type: ignore[operator]
        if self.hold is not None:
            await self.hold.wait()
        if callable(self.on_run):
            self.on_run(len(self.specs))
        if self.fails:
            raise JobFailed(self.fails)
        known = folder / "reference.json"
        columns = [{"name": name} for name in ("last.kind", "last.pressure", "label")]
        data = {"turn": len(self.specs), "findings": [], "carried": [], "profile": {"columns": columns}}
        data["seen"] = json.loads(known.read_text()) if known.exists() else None
        facts: dict[str, object] = {
            "turn": len(self.specs),
            "mode": spec.mode,
            "champion": {"version": spec.champion.version},
            "champion_digest": spec.champion.digest,
            "judged_before": spec.judged,
            "code_version": spec.code_version,
            "environment": {"digest": "sha256:env"},
            "metrics": {"candidate": {"auc": self.auc}} | ({"tried": {"auc": 0.7}} if spec.mode == TRAIN else {}),
            "data": data,
        }
        if not self.declined:
            facts["holdout"] = {"from_us": START_US + len(self.specs), "to_us": START_US + len(self.specs) + 10}
        report = json.dumps(facts).encode()
        files = {"model.onnx": b"model", "bundle.json": b"{}", "report.json": report}
        for name, data in files.items():
            (folder / name).write_bytes(data)
        if self.declined:
            return JobResult(declined=self.declined)
        digests = [digest(data) for data in files.values()]
        return JobResult(self.verdict, "because", *digests, (("auc", self.auc),), template=spec.net.kind)


class World:
    """The trainer's state over a database and a bus in memory."""

    def __init__(self, definition: Project, url: str = "sqlite://") -> None:
        self.bus = MemoryBus()
        # In a file where a test cuts work off: an interrupted connection takes a database in memory with it.
        self.database = Database(url, room="trainer")
        self.runs = SqlRuns(self.database)
        self.clocks = FakeClocks()
        self.definitions = FakeDefinitions({definition.name: Definition(1, "sha256:d", definition)})
        self.changed = asyncio.Event()
        self.desk = Desk(self.runs, self.definitions, self.clocks, lambda: 1, self.changed.set)
        self.effects = Effects("trainer", lambda: 1)
        self._relay = OutboxRelay(self.database, self.bus)
        self._offsets: dict[tuple[str, int], int] = {}

    async def start(self) -> None:
        """Opens the database."""
        await self.database.start(MIGRATIONS)
        self.runs.label_partitions = 2

    async def stop(self) -> None:
        """Closes it."""
        await self.database.stop()

    async def feed(self, topic: str, events: list[Event], partition: int = 0) -> Batch:
        """Hands events to the handler as one batch at the next offsets."""
        first = self._offsets.get((topic, partition), 0)
        self._offsets[topic, partition] = first + len(events)
        records = tuple(
            Record(topic, partition, first + i, b"", tuple(event.to_headers()), event.data, 0)
            for i, event in enumerate(events)
        )
        batch = Batch(topic, partition, records)
        await self.handle(batch)
        return batch

    async def handle(self, batch: Batch) -> None:
        """The same batch (again)."""
        await HANDLERS[batch.topic](self.desk, batch, self.effects)

    async def published(self, topic: str) -> list[Event]:
        """Everything on a topic."""
        await self._relay.drain()
        logs = self.bus.broker.logs.get(topic, [])
        return [record.event for log in logs for record in log.records]

    async def run_events(self) -> list[RunEvent]:
        """What is on `training.runs`."""
        return [RunEvent.FromString(event.data) for event in await self.published("training.runs")]

    async def ask(self, trigger: int, asked_us: int, request_id: str, run_id: str = "") -> Batch:
        """A request as it comes from the topic."""
        request = TrainingRequest(project="pumps", trigger=trigger, asked_us=asked_us, run_id=run_id)  # type: ignore[arg-type]
        kind = event_type("monitor", "training", "requested")
        return await self.feed("training.requests", [Event(request_id, kind, "test", request.SerializeToString())])

    async def labels(self, matured_us: list[int], partition: int = 0, **changes: int) -> Batch:
        """Labels that mature at these times."""
        events = []
        for place, time_us in enumerate(matured_us):
            key = ExampleKey(project="pumps", entity=str(place), moment_us=time_us - HOUR_US)
            label = Label(key=key, outcome=Label.OBSERVED, value=1, matured_us=time_us, visible_us=time_us - 5)
            for name, value in changes.items():
                setattr(label, name, value)
            events.append(
                Event(f"label-{partition}-{time_us}-{place}", "millrace.labeling.label.matured.v1", "test",
                      label.SerializeToString())
            )  # fmt: skip
        return await self.feed("labels", events, partition)

    async def beat(self, visible_us: int, *partitions: int) -> None:
        """A heartbeat of labeling, to the named partitions or to both."""
        beat = LabelHeartbeat(project="pumps", visible_us=visible_us)
        kind = event_type("labeling", "clock", "advanced")
        for partition in partitions or (0, 1):
            event = Event(f"beat-{visible_us}", kind, "test", beat.SerializeToString())
            await self.feed("labels", [event], partition)


def digest(data: bytes) -> str:
    """Name of an artifact."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def definition_of(clock: Clock, **training: int | bool) -> Project:
    """The project under another clock."""
    return replace(project(**training), clock=clock)


def write_rows(
    path: Path,
    rows: int,
    *,
    seed: int = 1,
    task: str = "binary",
    names: tuple[str, str] = ("kind", "x"),
    interaction: float = 1.5,
) -> None:
    """A training set with missing numbers and strings, and rows without labels. Its signal is not linear, by
    `interaction`; with 0 it is."""
    random = np.random.default_rng(seed)
    kind = random.choice(["a", "b", "c", ""], rows)
    x, z = random.normal(size=rows), random.normal(size=rows)
    score = 1.5 * x + interaction * np.where(kind == "a", z, -z) + np.where(kind == "b", 0.7, 0.0)
    label = random.random(rows) < 1 / (1 + np.exp(-score)) if task == "binary" else 10 + 3 * score
    x[random.random(rows) < 0.1] = np.nan
    table = pa.table(
        {
            "entity": [f"e{i}" for i in range(rows)],
            "moment_us": pa.array(START_US + (np.arange(rows) // 4) * MINUTE_US),
            "label": pa.array(np.asarray(label, dtype=float), mask=np.arange(rows) % 50 == 49),
            names[0]: pa.array([k or None for k in kind]),
            names[1]: pa.array(x, from_pandas=True),
            "z": z,
        }
    )
    table = table.take(random.permutation(rows))
    with pa.ipc.new_stream(str(path), table.schema) as stream:
        stream.write_table(table)
