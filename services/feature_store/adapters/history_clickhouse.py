"""History in ClickHouse: one table per source and contract, keyed by event, so that a repeat changes nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
from millrace.definitions.model import FieldType
from millrace.stores.clickhouse import ClickHouse

from services.feature_store.domain.values import Position
from services.feature_store.ports import SYSTEM, Range, Table, history_schema

COLUMN_TYPES: dict[str, str] = {
    FieldType.STRING: "Nullable(String)",
    FieldType.NUMBER: "Nullable(Float64)",
    FieldType.INTEGER: "Nullable(Int64)",
    FieldType.BOOLEAN: "Nullable(Bool)",
    FieldType.TIMESTAMP: "Nullable(Int64)",
}
_SYSTEM_TYPES = {pa.int64(): "Int64", pa.string(): "String"}


class ClickHouseHistory:
    """A HistoryStore. The catalogue table `history_tables` says which table holds which contract of a source."""

    def __init__(self, clickhouse: ClickHouse) -> None:
        self._clickhouse = clickhouse

    async def ensure(self, table: Table) -> None:
        """As `HistoryStore.ensure`."""
        known = await self._clickhouse.query_rows(
            "SELECT name, fields FROM history_tables FINAL"
            " WHERE project = {project:String} AND source = {source:String} ORDER BY created_us DESC",
            {"project": table.project, "source": table.source},
        )
        if any(row["name"] == table.name for row in known):
            return
        system = [f"`{name}` {_SYSTEM_TYPES[kind]}" for name, kind in SYSTEM]
        fields = [f"`{name}` {COLUMN_TYPES[kind]}" for name, kind in table.fields]
        await self._clickhouse.command(
            f"CREATE TABLE IF NOT EXISTS `{table.name}` ({', '.join(system + fields)})"
            " ENGINE = ReplacingMergeTree ORDER BY (_event_us, _event_id)"
        )
        if known:
            await self._copy(known[0], table)
        await self._clickhouse.command(
            "INSERT INTO history_tables SELECT {name:String}, {project:String}, {source:String},"
            " {fields:Array(String)}, toUnixTimestamp64Micro(now64(6))",
            {
                "name": table.name,
                "project": table.project,
                "source": table.source,
                "fields": [f"{name}:{kind}" for name, kind in table.fields],
            },
        )

    async def _copy(self, old: Mapping[str, Any], table: Table) -> None:
        """What was known under the previous contract; a field that is new, or of a new type, is null there."""
        shared = [name for name, kind in table.fields if f"{name}:{kind}" in old["fields"]]
        columns = ", ".join(f"`{name}`" for name in [*(name for name, _ in SYSTEM), *shared])
        await self._clickhouse.command(
            f"INSERT INTO `{table.name}` ({columns}) SELECT {columns} FROM `{old['name']}` FINAL"
        )

    async def positions(self, table: Table) -> Mapping[int, Position]:
        """As `HistoryStore.positions`."""
        rows = await self._clickhouse.query_rows(
            "SELECT _partition AS partition, max(_offset) AS last, max(_visible_us) AS visible"
            f" FROM `{table.name}` WHERE _via = '' GROUP BY _partition"
        )
        return {int(row["partition"]): Position(int(row["last"]), int(row["visible"])) for row in rows}

    async def insert(self, table: Table, rows: pa.Table) -> None:
        """As `HistoryStore.insert`."""
        await self._clickhouse.insert_arrow(table.name, rows)

    async def read(self, table: Table, fields: Sequence[str], span: Range) -> pa.Table:
        """As `HistoryStore.read`."""
        types = dict(table.fields)
        columns = ", ".join(f"`{name}`" for name in [*(name for name, _ in SYSTEM), *fields])
        where = ["_event_us >= {from:Int64}", "_event_us < {to:Int64}", "_visible_us <= {visible:Int64}"]
        params: dict[str, Any] = {"from": span.from_us, "to": span.to_us, "visible": span.visible_to_us}
        if span.entities is not None:
            key = _key([(field, types[field]) for field in span.entity_fields])
            where.append(f"{key} IN {{entities:Array(String)}}")
            params["entities"] = list(span.entities)
        found = await self._clickhouse.query_arrow(
            f"SELECT {columns} FROM `{table.name}` FINAL WHERE {' AND '.join(where)}"
            # Sums depend on the order of their terms: equal events must give equal bytes.
            " ORDER BY _event_us, _event_id",
            params,
        )
        return found.cast(history_schema([(name, types[name]) for name in fields]))


def _key(fields: Sequence[tuple[str, str]]) -> str:
    """SQL for the text of an entity key, as `millrace.definitions.keys.composite_key` writes it."""
    parts = [f"`{field}`" if kind == FieldType.STRING else f"toString(`{field}`)" for field, kind in fields]
    if len(parts) == 1:
        return parts[0]
    escaped = [rf"replaceAll(replaceAll({part}, '\\', '\\\\'), '|', '\\|')" for part in parts]
    between = ", '|', "
    return f"concat({between.join(escaped)})"
