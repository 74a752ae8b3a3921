"""Records of `data.<project>.<source>`: JSON decoded and type-checked in one pass."""

from __future__ import annotations

from typing import Annotated, Any, TypedDict, cast

import msgspec
import numpy as np
from millrace.bus.errors import MalformedEvent
from millrace.bus.events import Batch, Record, parse_time
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


# OverflowError: a number beyond 64 bits.
_UNREADABLE = (msgspec.MsgspecError, MalformedEvent, ValueError, KeyError, TypeError, OverflowError)


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
        """As `Reader.decode`. Done once for all groups of the process, unless something had to be rejected."""
        if self in batch.made:
            return cast(Decoded, batch.made[self])
        rejected: list[tuple[Record, str, str]] = []
        decoded = self._decode(batch, lambda *refused: rejected.append(refused))
        for record, reason, detail in rejected:
            reject(record, reason, detail)
        if not rejected:
            batch.made[self] = decoded
        return decoded

    def _decode(self, batch: Batch, reject: Reject) -> Decoded:
        heartbeat_us = 0
        records: list[Record] = []
        headers: list[dict[str, bytes]] = []
        for record in batch.records:
            named = dict(record.headers)
            if named.get("ce_type") != HEARTBEAT_TYPE:
                records.append(record)
                headers.append(named)
                continue
            try:
                heartbeat_us = max(heartbeat_us, self._heartbeats.decode(record.data).visible_us)
            except msgspec.MsgspecError as error:
                reject(record, "BadRecord", str(error))
        try:
            events = self._events(records, headers)
        except _UNREADABLE:
            events = self._readable(records, headers, reject)
        # A record handed back has the offsets of another topic: it gets a partition number that no partition has.
        events.partition = MOST_PARTITIONS - 1 if batch.via else batch.partition
        label = RETRIED if batch.via else str(batch.partition)
        return Decoded(events, heartbeat_us, batch.last_offset, label, batch.via)

    def _readable(self, records: list[Record], headers: list[dict[str, bytes]], reject: Reject) -> Events:
        """The events that can be read, one by one; the others go to `reject`."""
        good = []
        for place, record in enumerate(records):
            try:
                self._events([record], [headers[place]])
                good.append(place)
            except _UNREADABLE as error:
                reject(record, "BadRecord", _reason(error))
        return self._events([records[place] for place in good], [headers[place] for place in good])

    def _events(self, records: list[Record], headers: list[dict[str, bytes]]) -> Events:
        """All of the records, decoded in one go; raises one of _UNREADABLE when one of them cannot be read."""
        rows = self._rows(records)
        count = len(records)
        visible_us = np.fromiter((int(h["visible_us"]) for h in headers), np.int64, count)
        event_us = np.fromiter(map(self._event_us, headers, rows), np.int64, count)
        if count and max(np.abs(event_us).max(), np.abs(visible_us).max()) >= _MOST_US:
            raise ValueError("the event time or the visible time is out of all bounds")
        ids = [h["ce_id"].decode() for h in headers]
        offsets = np.fromiter((record.offset for record in records), np.int64, count)
        return Events(rows, ids, event_us, visible_us, offsets, 0)

    def _event_us(self, headers: dict[str, bytes], row: Row) -> int:
        return int(headers["event_us"] if "event_us" in headers else row[self.source.event_time])

    def _rows(self, records: list[Record]) -> list[Row]:
        rows = [self._decoder.decode(record.data) for record in records]
        for name in self._timestamps:
            for row in rows:
                value = row.get(name)
                if type(value) is str:
                    row[name] = parse_time(value)
        return rows


def _reason(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"header or field {error} is missing"
    return str(error)
