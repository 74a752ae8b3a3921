"""Deletion from the history tables: every table that a source ever had, whichever contract it was made for."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
from millrace.stores.clickhouse import ClickHouse
from millrace.stores.erasing import erase_rows

from services.feature_store.adapters.history_clickhouse import key_sql
from services.feature_store.handlers.schemas import SYSTEM, history_schema
from services.feature_store.ports import Table


class ClickHouseErasing:
    """An Erasing."""

    def __init__(self, clickhouse: ClickHouse) -> None:
        self._clickhouse = clickhouse

    async def touched(self, table: Table, field: str, entity: str, until_us: int, of: Sequence[str]) -> list[str]:
        """As Erasing.touched."""
        if not await self._exists(table.name):
            return []
        types = dict(table.fields)
        known = " AND ".join(f"`{name}` IS NOT NULL" for name in of)
        rows = await self._clickhouse.query_rows(
            f"SELECT DISTINCT {key_sql([(name, types[name]) for name in of])} AS other FROM `{table.name}`"
            f" WHERE {_MATCH.format(field=field)} AND {known} ORDER BY other",
            {"entity": entity, "until": until_us},
        )
        return [row["other"] for row in rows]

    async def events(
        self, table: Table, entity_fields: Sequence[str], entities: Sequence[str], from_us: int
    ) -> pa.Table:
        """As Erasing.events."""
        types = dict(table.fields)
        columns = ", ".join(f"`{name}`" for name in [*(name for name, _ in SYSTEM), *types])
        key = key_sql([(name, types[name]) for name in entity_fields])
        found = await self._clickhouse.query_arrow(
            f"SELECT {columns} FROM `{table.name}` FINAL"
            f" WHERE _event_us >= {{from:Int64}} AND {key} IN {{entities:Array(String)}}"
            " ORDER BY _partition, _offset",
            {"from": from_us, "entities": list(entities)},
        )
        return found.cast(history_schema(table.fields))

    async def erase(self, project: str, source: str, field: str, entity: str, until_us: int) -> int:
        """As Erasing.erase."""
        erased = 0
        for name in await self._tables(project, source, field):
            where = _MATCH.format(field=field)
            erased += await erase_rows(self._clickhouse, name, where, {"entity": entity, "until": until_us})
        return erased

    async def erase_reads(self, project: str, entity: str) -> int:
        """As Erasing.erase_reads."""
        where, params = (
            "project = {project:String} AND entity = {entity:String}",
            {"project": project, "entity": entity},
        )
        tables = ("sampled_reads", "checked_reads")
        return sum([await erase_rows(self._clickhouse, table, where, params) for table in tables])

    async def expire(self, project: str, source: str, before_us: int) -> int:
        """As Erasing.expire."""
        expired = 0
        for name in await self._tables(project, source, ""):
            expired += await erase_rows(self._clickhouse, name, "_visible_us < {before:Int64}", {"before": before_us})
        return expired

    async def _tables(self, project: str, source: str, field: str) -> list[str]:
        rows = await self._clickhouse.query_rows(
            "SELECT name, fields FROM history_tables FINAL"
            " WHERE project = {project:String} AND source = {source:String}",
            {"project": project, "source": source},
        )
        return [row["name"] for row in rows if not field or any(f.startswith(f"{field}:") for f in row["fields"])]

    async def _exists(self, name: str) -> bool:
        rows = await self._clickhouse.query_rows("EXISTS TABLE {name:Identifier}", {"name": name})
        return bool(rows and rows[0]["result"])


_MATCH = "toString(`{field}`) = {{entity:String}} AND _visible_us <= {{until:Int64}}"
