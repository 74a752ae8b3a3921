"""Log records as they lie in the spool, and as the messages that the relay makes of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
from millrace.bus.events import Event, Message, event_type
from millrace.runtime.forgotten import Forgotten
from millrace.wire.common.v1 import common_pb2
from millrace.wire.inference.v1 import events_pb2

from services.inference.domain.tensors import Cell
from services.inference.ports import LogRecord

from .log_spool import Spool

TOPIC = "predictions"
TYPES = {
    "answered": event_type("inference", "prediction", "answered"),
    "shadowed": event_type("inference", "prediction", "shadowed"),
    "failed": event_type("inference", "prediction", "failed"),
}


class _Entry(msgspec.Struct, array_like=True):
    """One spooled record: the event's attributes beside its payload. Fields are only ever added at the end."""

    id: str
    key: str
    kind: str
    time_us: int
    causation_id: str
    traceparent: str
    data: bytes


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Entry).decode


class SpooledLog:
    """PredictionLog over a spool; `written` tells the relay."""

    def __init__(self, spool: Spool, written: Callable[[], None]) -> None:
        self._spool = spool
        self._written = written

    def append(self, records: Sequence[LogRecord]) -> None:
        """Write all records in one go."""
        if records:
            self._spool.append([_encode(_entry(r)) for r in records])
            self._written()


def message_of(payload: bytes, source: str) -> Message:
    """The message that a spooled payload stands for; the same id however often it is made."""
    entry = _decode(payload)
    event = Event(
        id=entry.id,
        type=TYPES[entry.kind],
        source=source,
        data=entry.data,
        subject=entry.key,
        time_us=entry.time_us,
        causation_id=entry.causation_id,
        traceparent=entry.traceparent,
    )
    return Message(TOPIC, event, key=entry.key.encode())


def is_forgotten(payload: bytes, forgotten: Forgotten) -> bool:
    """Whether a spooled payload is of an entity that is not to be told of any more."""
    entry = _decode(payload)
    key = events_pb2.Prediction.FromString(entry.data).key
    return forgotten.is_example(key.project, key.entity, key.moment_us, entry.time_us)


def prediction_of(record: LogRecord) -> events_pb2.Prediction:
    """The record as it crosses processes. A null input is present in `inputs` with no kind set."""
    prediction = events_pb2.Prediction(
        prediction_id=record.prediction_id,
        request_id=record.request_id,
        key=common_pb2.ExampleKey(project=record.project, entity=record.entity, moment_us=record.moment_us),
        model=record.model,
        version=record.version,
        role=record.role,
        answered=record.answered,
        error=record.error,
        outputs=record.outputs,
        feature_ages_us=record.ages_us,
        missing_features=record.missing,
        answered_us=record.answered_us,
        latency_us=record.latency_us,
        epoch=record.epoch,
        as_of_us=record.as_of_us,
        door=record.door,
    )
    inputs = prediction.inputs
    for name, cell in record.inputs.items():
        _set(inputs[name], cell)
    return prediction


def _entry(record: LogRecord) -> _Entry:
    kind = "answered" if record.answered else "failed" if record.error else "shadowed"
    return _Entry(
        record.prediction_id,
        f"{record.project}/{record.entity}",
        kind,
        record.answered_us,
        record.causation_id,
        record.traceparent,
        prediction_of(record).SerializeToString(),
    )


def _set(value: common_pb2.Value, cell: Cell) -> None:
    if isinstance(cell, float):
        if cell == cell:  # NaN is how a missing number looks to a model
            value.number = cell
    elif isinstance(cell, str):
        if cell:
            value.text = cell
    elif isinstance(cell, bool):
        value.flag = cell
    elif cell is not None:
        value.integer = cell
