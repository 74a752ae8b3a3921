"""What was seen on the topics: a reader that belongs to no room and believes nothing it did not read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from millrace.bus.events import Record
from millrace.bus.ports import Bus
from millrace.wire.inference.v1 import events_pb2 as inference
from millrace.wire.ingestion.v1 import events_pb2 as ingestion
from millrace.wire.labeling.v1 import events_pb2 as labeling
from millrace.wire.monitor.v1 import events_pb2 as monitor
from millrace.wire.registry.v1 import events_pb2 as registry
from millrace.wire.trainer.v1 import events_pb2 as trainer

# Low-volume topics, followed while the story runs.
STORY_TOPICS: dict[str, type[Any]] = {
    "training.requests": trainer.TrainingRequest,
    "training.runs": trainer.RunEvent,
    "models.events": registry.ModelEvent,
    "models.releases": registry.ServingPlan,
    "models.commands": registry.ModelCommand,
    "monitor.alerts": monitor.AlertEvent,
    "serving.status": inference.ServingStatus,
}
# High-volume topics, read once at the end.
BULK_TOPICS = ("labels", "predictions", "quarantine", "data.violations", "data.late")
HEARTBEAT = ".clock.advanced."


@dataclass(frozen=True, slots=True)
class Seen:
    """One platform event: its envelope and its decoded payload."""

    topic: str
    event_id: str
    causation_id: str
    actor: str
    payload: Any


@dataclass(slots=True)
class Bulk:
    """What the high-volume topics held at the end."""

    counts: Counter[str] = field(default_factory=Counter)
    labels: dict[tuple[str, int], labeling.Label] = field(default_factory=dict)  # (entity, moment): last revision
    predictions: dict[str, inference.Prediction] = field(default_factory=dict)  # by id: repeats are harmless
    quarantined: Counter[str] = field(default_factory=Counter)  # "source.field: rule"


class Witness:
    """Follows the story topics; `seen` grows in the order of arrival."""

    def __init__(self, bus: Bus, project: str, tell: Callable[[Seen], None]) -> None:
        self._bus = bus
        self._project = project
        self._tell = tell
        self.seen: list[Seen] = []

    async def follow(self) -> None:
        """Reads until cancelled."""
        reader = self._bus.reader(list(STORY_TOPICS))
        await reader.start()
        try:
            while True:
                for batch in await reader.poll(max_records=500, max_wait_ms=200):
                    for record in batch.records:
                        self._take(record)
        finally:
            await reader.stop()

    def of(self, topic: str) -> list[Seen]:
        """Everything seen on `topic`, in order."""
        return [seen for seen in self.seen if seen.topic == topic]

    def _take(self, record: Record) -> None:
        payload = STORY_TOPICS[record.topic].FromString(record.data)
        if payload.project != self._project:
            return
        event = record.event
        seen = Seen(record.topic, event.id, event.causation_id, event.actor, payload)
        self.seen.append(seen)
        self._tell(seen)


async def read_bulk(bus: Bus, data_topics: list[str], bulk: Bulk, progress: Callable[[float, float], None]) -> None:
    """Reads the high-volume topics from their start to their present end into `bulk`, which keeps what was read when
    this ends early. `progress(read, of)` hears how far it is, in records."""
    reader = bus.reader([*BULK_TOPICS, *data_topics])
    await reader.start()
    done = 0
    try:
        while behind := await reader.behind():
            progress(done, done + behind)
            for batch in await reader.poll(max_records=5000, max_wait_ms=200):
                done += len(batch.records)
                for record in batch.records:
                    if HEARTBEAT not in record.header("ce_type"):
                        _count(bulk, record)
    finally:
        await reader.stop()


def _count(bulk: Bulk, record: Record) -> None:
    bulk.counts[record.topic] += 1
    if record.topic == "labels":
        label = labeling.Label.FromString(record.data)
        key = (label.key.entity, label.key.moment_us)
        if key not in bulk.labels or label.revision >= bulk.labels[key].revision:
            bulk.labels[key] = label
    elif record.topic == "predictions":
        prediction = inference.Prediction.FromString(record.data)
        bulk.predictions[prediction.prediction_id] = prediction
    elif record.topic == "quarantine":
        bad = ingestion.Quarantined.FromString(record.data)
        bulk.quarantined[f"{bad.source}.{bad.field}: {bad.rule}"] += 1
