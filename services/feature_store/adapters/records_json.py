"""Records of `data.<project>.<source>`: JSON decoded and type-checked in one pass."""

from __future__ import annotations

from typing import Annotated, Any, TypedDict

import msgspec
import numpy as np
from millrace.bus.errors import MalformedEvent
from millrace.bus.events import Batch, parse_time
from millrace.definitions.model import FieldType, Source

from services.feature_store.domain.online import Decoded, Events
from services.feature_store.domain.views import MOST_PARTITIONS, Row
from services.feature_store.ports import RETRIED, Reject

HEARTBEAT_TYPE = b"millrace.ingestion.clock.advanced.v1"
# What history's columns can hold; a larger number in one record would stop the insert of all.
_Integer = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
_MOST_US = 2**62
_TYPES: dict[FieldType, Any] = {
    FieldType.STRING: str | None,
    FieldType.NUMBER: float | None,
    FieldType.INTEGER: _Integer | None,
    FieldType.BOOLEAN: bool | None,
    FieldType.TIMESTAMP: _Integer | str | None,
}


class _Heartbeat(msgspec.Struct):
    visible_us: int


class RecordReader:
    """A Reader of one source."""

    def __init__(self, source: Source) -> None:
        self.source = source
        fields = {field.name: _TYPES[field.type] for field in source.fields}
        self._decoder = msgspec.json.Decoder(TypedDict("Row", fields, total=False))  # type: ignore[operator]
        self._timestamps = [field.name for field in source.fields if field.type is FieldType.TIMESTAMP]
        self._heartbeats = msgspec.json.Decoder(_Heartbeat)

    def decode(self, batch: Batch, reject: Reject) -> Decoded:
        """As `Reader.decode`."""
        rows: list[Row] = []
        ids: list[str] = []
        numbers: list[tuple[int, int, int]] = []
        heartbeat_us = 0
        for record in batch.records:
            headers = dict(record.headers)
            try:
                if headers.get("ce_type") == HEARTBEAT_TYPE:
                    heartbeat_us = max(heartbeat_us, self._heartbeats.decode(record.data).visible_us)
                    continue
                row = self._row(record.data)
                visible_us = int(headers["visible_us"])
                event_us = int(headers["event_us"]) if "event_us" in headers else int(row[self.source.event_time])
                if not max(abs(event_us), abs(visible_us)) < _MOST_US:
                    raise ValueError(f"event time {event_us} or visible time {visible_us} is out of all bounds")
                ids.append(headers["ce_id"].decode())
            except (msgspec.MsgspecError, MalformedEvent, ValueError, KeyError, TypeError) as error:
                reject(record, "BadRecord", _reason(error))
                continue
            rows.append(row)
            numbers.append((event_us, visible_us, record.offset))
        columns = np.array(numbers, dtype=np.int64).reshape(-1, 3)
        # A record handed back has the offsets of another topic: it gets a partition number that no partition has.
        partition = MOST_PARTITIONS - 1 if batch.via else batch.partition
        events = Events(rows, ids, columns[:, 0], columns[:, 1], columns[:, 2], partition)
        label = RETRIED if batch.via else str(batch.partition)
        return Decoded(events, heartbeat_us, batch.last_offset, label, batch.via)

    def _row(self, data: bytes) -> dict[str, Any]:
        row: dict[str, Any] = self._decoder.decode(data)
        for name in self._timestamps:
            value = row.get(name)
            if isinstance(value, str):
                row[name] = parse_time(value)
        return row


def _reason(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"header or field {error} is missing"
    return str(error)
