"""Every revision of every label, in ClickHouse. Repeats are folded by the table's key and read with FINAL."""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa
from millrace.stores.clickhouse import ClickHouse
from millrace.stores.erasing import erase_rows
from millrace.wire.ingestion.v1.forgetting_pb2 import Forget

from services.labeling.domain.values import Label

_SCHEMA = pa.schema(
    [
        ("project", pa.string()),
        ("entity", pa.string()),
        ("moment_us", pa.int64()),
        ("revision", pa.int32()),
        ("outcome", pa.string()),
        ("origin", pa.string()),
        ("value", pa.float64()),
        ("confidence", pa.float64()),
        ("event_us", pa.int64()),
        ("visible_us", pa.int64()),
        ("matured_us", pa.int64()),
        ("event_id", pa.string()),
    ]
)
SPINE_SCHEMA = pa.schema(
    [
        ("entity", pa.string()),
        ("moment_us", pa.int64()),
        ("label", pa.float64()),
        ("outcome", pa.string()),
        ("origin", pa.string()),
        ("confidence", pa.float64()),
        ("visible_us", pa.int64()),
        ("matured_us", pa.int64()),
    ]
)
_SPINE = """
SELECT entity, moment_us, if(outcome = 'censored', NULL, value) AS label, toString(outcome) AS said,
  toString(origin) AS said_by, confidence, visible_us, matured_us
FROM (
  SELECT * FROM labels FINAL
  WHERE project = {project:String} AND moment_us >= {from_us:Int64} AND moment_us < {to_us:Int64}
    AND visible_us <= {as_of_us:Int64} AND matured_us <= {as_of_us:Int64}
  ORDER BY moment_us, entity, revision DESC
  LIMIT 1 BY moment_us, entity
)
WHERE {include_censored:UInt8} OR outcome != 'censored'
ORDER BY moment_us, entity
"""


class ClickHouseHistory:
    """A History."""

    def __init__(self, clickhouse: ClickHouse) -> None:
        self._clickhouse = clickhouse

    async def append(self, project_labels: Iterable[tuple[str, str, Label]], token: str) -> None:
        """As `History.append`."""
        rows = [_row(project, event_id, label) for project, event_id, label in project_labels]
        if rows:
            columns = [
                pa.array(column, field.type) for column, field in zip(zip(*rows, strict=True), _SCHEMA, strict=True)
            ]
            await self._clickhouse.insert_arrow("labels", pa.Table.from_arrays(columns, schema=_SCHEMA), token)

    async def erase(self, request: Forget) -> dict[str, int]:
        """Rows deleted by table: labels about moments up to the cut, and what was known by then. Raises
        StoreUnavailable."""
        example = request.example
        where = (
            "project = {project:String} AND entity = {entity:String}"
            " AND (moment_us <= {cut:Int64} OR visible_us <= {cut:Int64} + 1)"
        )
        params = {"project": request.project, "entity": example.entity, "cut": example.cut_us}
        return {"labels": await erase_rows(self._clickhouse, "labels", where, params)}

    async def spine(self, project: str, from_us: int, to_us: int, as_of_us: int, include_censored: bool) -> pa.Table:
        """As `History.spine`."""
        found = await self._clickhouse.query_arrow(
            _SPINE,
            {
                "project": project,
                "from_us": from_us,
                "to_us": to_us,
                "as_of_us": as_of_us,
                "include_censored": int(include_censored),
            },
        )
        columns = [column.cast(field.type) for column, field in zip(found.columns, SPINE_SCHEMA, strict=True)]
        return pa.Table.from_arrays(columns, schema=SPINE_SCHEMA)


def _row(project: str, event_id: str, label: Label) -> tuple[object, ...]:
    return (
        project,
        label.entity,
        label.moment_us,
        label.revision,
        label.outcome.value,
        label.origin.value,
        label.value,
        label.confidence,
        label.event_us,
        label.visible_us,
        label.matured_us,
        event_id,
    )
