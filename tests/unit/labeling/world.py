"""A small project and its records: orders are promised for a time; deliveries tell later how late they were."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import msgspec
from millrace.bus.effects import Effects
from millrace.bus.events import JSON, Batch, Event, Message, Record
from millrace.definitions.gate import Gate
from millrace.definitions.model import (
    Clock,
    Field,
    FieldType,
    Label,
    Missing,
    Model,
    Monitors,
    Predict,
    Project,
    Rollout,
    Source,
    Task,
    Template,
    Training,
)
from millrace.wire.labeling.v1 import events_pb2
from msgspec import structs

from services.labeling.domain.reading import Reading, reading_of
from services.labeling.handlers.messages import CLOCK_TYPE, DATA_CLOCK_TYPE

MINUTE_US = 60_000_000
HORIZON_US = 120 * MINUTE_US
ORDERS, DELIVERIES = "data.shop.orders", "data.shop.deliveries"


def project(missing: Missing = Missing.CENSORED) -> Project:
    key = Field("order_id", FieldType.STRING, required=True)
    at = Field("at", FieldType.TIMESTAMP, required=True)
    orders = (key, at, Field("promised_at", FieldType.TIMESTAMP))
    deliveries = (key, at, Field("minutes_late", FieldType.NUMBER))
    return Project(
        name="shop",
        description="",
        clock=Clock.REPLAY,
        sources=(
            Source("orders", "shop.order.placed", "order_id", "at", orders),
            Source("deliveries", "shop.order.delivered", "order_id", "at", deliveries),
        ),
        predict=Predict("orders", "order_id", "promised_at"),
        views=(),
        label=Label("deliveries", "order_id", "minutes_late > 10", HORIZON_US, missing, default=0.0),
        model=Model("late", Task.BINARY, Template("linear"), ()),
        training=Training(),
        gate=Gate("auc"),
        rollout=Rollout(),
        monitors=Monitors(),
    )


def data_message(
    topic: str, row: Mapping[str, object], visible_us: int, event_id: str, partition: int, event_us: int | None = None
) -> Message:
    event = Event(
        id=event_id,
        type="shop.thing.happened",
        source="shop",
        data=msgspec.json.encode(row),
        time_us=visible_us,
        content_type=JSON,
        extensions={"visible_us": str(visible_us), "event_us": str(visible_us if event_us is None else event_us)},
    )
    return Message(topic, event, key=str(row.get("order_id", "")).encode(), partition=partition)


def order(name: str, promised_us: int, visible_us: int, partition: int = 0, event_id: str = "") -> Message:
    row = {"order_id": name, "at": visible_us, "promised_at": promised_us}
    return data_message(ORDERS, row, visible_us, event_id or f"order-{name}-{visible_us}", partition)


def delivery(
    name: str, late: float | None, visible_us: int, partition: int = 0, event_us: int | None = None, event_id: str = ""
) -> Message:
    row = {"order_id": name, "at": visible_us, "minutes_late": late}
    return data_message(DELIVERIES, row, visible_us, event_id or f"delivery-{name}-{visible_us}", partition, event_us)


def heartbeat(topic: str, visible_us: int, partition: int) -> Message:
    body = msgspec.json.encode({"visible_us": visible_us})
    event = Event(
        f"beat-{topic}-{partition}-{visible_us}", DATA_CLOCK_TYPE, "millrace/ingestion", body, content_type=JSON
    )
    return Message(topic, event, key=b"", partition=partition)


def clock(visible_us: int, partitions: int = 2) -> list[Message]:
    """A heartbeat on every partition of both topics."""
    return [heartbeat(topic, visible_us, p) for topic in (ORDERS, DELIVERIES) for p in range(partitions)]


@dataclass
class Logs:
    """Partitions as lists: what a broker would hold."""

    partitions: dict[tuple[str, int], list[Record]] = field(default_factory=dict)

    def append(self, messages: Iterable[Message]) -> None:
        for message in messages:
            log = self.partitions.setdefault((message.topic, message.partition or 0), [])
            headers = tuple(message.event.to_headers())
            record = Record(
                message.topic, message.partition or 0, len(log), message.key, headers, message.event.data, 0
            )
            log.append(record)

    def batch(self, place: tuple[str, int], start: int, stop: int) -> Batch:
        return Batch(*place, tuple(self.partitions[place][start:stop]))


class OneProject:
    """A Projects of one project with two partitions per topic."""

    def __init__(self, missing: Missing = Missing.CENSORED, partitions: int = 2) -> None:
        self._reading = reading_of(project(missing), 1)
        self._partitions = list(range(partitions))

    def reading(self, project: str) -> Reading:
        return self._reading

    def of_topic(self, topic: str) -> tuple[Reading, str] | None:
        return (self._reading, topic.rpartition(".")[2]) if topic in (ORDERS, DELIVERIES) else None

    def partitions(self, topic: str) -> list[int]:
        return self._partitions


def effects() -> Effects:
    return Effects("labeling", lambda: 0)


def labels_in(messages: Iterable[Event]) -> list[events_pb2.Label]:
    return [events_pb2.Label.FromString(event.data) for event in messages if event.type != CLOCK_TYPE]


def handed_back(batch: Batch) -> Batch:
    """The batch as it comes through the retry topic."""
    via = "retry.labeling"
    return replace(batch, via=via, records=tuple(structs.replace(r, via=via) for r in batch.records))
