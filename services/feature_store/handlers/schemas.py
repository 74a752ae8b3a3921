"""The columns of history and of timelines, as Arrow has them."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
from millrace.definitions.model import FieldType

# Columns that every history table has before the source's fields; `_via` names the retry topic, if there was one.
SYSTEM: tuple[tuple[str, pa.DataType], ...] = (
    ("_event_us", pa.int64()),
    ("_visible_us", pa.int64()),
    ("_partition", pa.int64()),
    ("_offset", pa.int64()),
    ("_event_id", pa.string()),
    ("_via", pa.string()),
)


# Columns that a timeline has of each event before the view's fields. `_seq` breaks ties of event time; `_identity` is a
# hash of the event's id, uint64.
TIMELINE: tuple[tuple[str, pa.DataType], ...] = (
    ("_event_us", pa.int64()),
    ("_visible_us", pa.int64()),
    ("_seq", pa.int64()),
    ("_identity", pa.uint64()),
)

FIELD_TYPES: dict[str, pa.DataType] = {
    FieldType.STRING: pa.string(),
    FieldType.NUMBER: pa.float64(),
    FieldType.INTEGER: pa.int64(),
    FieldType.BOOLEAN: pa.bool_(),
    FieldType.TIMESTAMP: pa.int64(),
}


def history_schema(fields: Sequence[tuple[str, str]]) -> pa.Schema:
    """The Arrow schema of history with these fields (name, type)."""
    return pa.schema([*SYSTEM, *((name, FIELD_TYPES[kind]) for name, kind in fields)])


def timeline_schema(fields: Sequence[tuple[str, str]]) -> pa.Schema:
    """The Arrow schema of `HistoryStore.timeline` with these fields (name, type)."""
    return pa.schema([*TIMELINE, *((name, FIELD_TYPES[kind]) for name, kind in fields)])
