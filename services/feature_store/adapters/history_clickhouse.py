"""History in ClickHouse: one table per source and contract, keyed by event, so that a repeat changes nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
from millrace.definitions.model import FieldType
from millrace.stores.clickhouse import ClickHouse

from services.feature_store.domain.values import Position
from services.feature_store.domain.views import MOST_PARTITIONS
from services.feature_store.handlers.schemas import SYSTEM, history_schema, timeline_schema
from services.feature_store.ports import RETRIED, Census, Extent, Range, Stretch, Table, Weight

COLUMN_TYPES: dict[str, str] = {
    FieldType.STRING: "Nullable(String)",
    FieldType.NUMBER: "Nullable(Float64)",
    FieldType.INTEGER: "Nullable(Int64)",
    FieldType.BOOLEAN: "Nullable(Bool)",
    FieldType.TIMESTAMP: "Nullable(Int64)",
}
_SYSTEM_TYPES = {pa.int64(): "Int64", pa.string(): "String"}


class ClickHouseHistory:
    """A HistoryStore and HistoryColumns.

    The catalogue table `history_tables` says which table holds which contract of a source.
    """

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

    async def count(self, table: Table, span: Range) -> int:
        """As `HistoryStore.count`: what lies there twice until its parts are merged counts twice."""
        where, params = _of_range(table, span)
        (row,) = await self._clickhouse.query_rows(
            f"SELECT count() AS events FROM `{table.name}` WHERE {where}", params
        )
        return int(row["events"])

    async def read(self, table: Table, fields: Sequence[str], span: Range) -> pa.Table:
        """As `HistoryStore.read`."""
        types = dict(table.fields)
        columns = ", ".join(f"`{name}`" for name in [*(name for name, _ in SYSTEM), *fields])
        where, params = _of_range(table, span)
        found = await self._clickhouse.query_arrow(
            f"SELECT {columns} FROM `{table.name}` FINAL WHERE {where}"
            # Sums depend on the order of their terms: equal events must give equal bytes.
            " ORDER BY _event_us, _event_id",
            params,
        )
        return found.cast(history_schema([(name, types[name]) for name in fields]))

    async def census(self, table: Table) -> Census:
        """As `HistoryColumns.census`."""
        rows = await self._clickhouse.query_rows(
            "SELECT _via != '' AS retried, _partition AS partition, count() AS rows, max(_offset) AS last"
            f" FROM `{table.name}` GROUP BY retried, partition"
        )
        partitions = {int(r["partition"]): (int(r["rows"]), int(r["last"])) for r in rows if not r["retried"]}
        return Census(partitions, sum(int(row["rows"]) for row in rows if row["retried"]))

    async def weigh(self, table: Table, fields: Sequence[str], stretch: Stretch) -> Weight:
        """As `HistoryColumns.weigh`."""
        where, params = _within(table, stretch)
        sizes = " + ".join(f"byteSize(`{name}`)" for name in fields)
        (row,) = await self._clickhouse.query_rows(
            f"SELECT count() AS rows, sum({sizes}) AS bytes FROM `{table.name}` WHERE {where}", params
        )
        return Weight(int(row["rows"]), int(row["bytes"] or 0))

    async def cuts(self, table: Table, stretch: Stretch, pieces: int) -> list[int]:
        """As `HistoryColumns.cuts`."""
        if pieces < 2:
            return []
        where, params = _within(table, stretch)
        levels = ", ".join(f"{i / pieces:.6f}" for i in range(1, pieces))
        (row,) = await self._clickhouse.query_rows(
            f"SELECT quantilesExact({levels})(_event_us) AS cuts FROM `{table.name}` WHERE {where}", params
        )
        return sorted({int(cut) for cut in row["cuts"]})

    async def timeline(self, table: Table, fields: Sequence[str], stretch: Stretch) -> pa.Table:
        """As `HistoryColumns.timeline`."""
        types = dict(table.fields)
        where, params = _within(table, stretch)
        columns = ", ".join(f"`{name}`" for name in fields)
        found = await self._clickhouse.query_arrow(
            f"SELECT _event_us, _visible_us, _offset * {MOST_PARTITIONS} + _partition AS _seq,"
            f" cityHash64(_event_us, _event_id) AS _identity, {columns}"
            f" FROM `{table.name}`{'' if stretch.after else ' FINAL'} WHERE {where}",
            params,
        )
        return found.cast(timeline_schema([(name, types[name]) for name in fields]))

    async def extent(self, table: Table, label: str) -> Extent | None:
        """As `HistoryParts.extent`."""
        known = await self._clickhouse.query_rows("EXISTS TABLE {name:Identifier}", {"name": table.name})
        if not known[0]["result"]:
            return None
        where, params = _of_label(label)
        (row,) = await self._clickhouse.query_rows(
            "SELECT count() AS events, max(_offset) AS last, max(_visible_us) AS visible"
            f" FROM `{table.name}` WHERE {where}",
            params,
        )
        events = int(row["events"])
        return Extent(events, Position(int(row["last"]), int(row["visible"]))) if events else None

    async def part(
        self,
        table: Table,
        fields: Sequence[str],
        label: str,
        upto: int,
        entity_fields: Sequence[str],
        part: tuple[int, int],
    ) -> pa.Table:
        """As `HistoryParts.part`."""
        types = dict(table.fields)
        where, params = _of_label(label)
        columns = ", ".join(f"`{name}`" for name in fields)
        key = key_sql([(field, types[field]) for field in entity_fields])
        found = await self._clickhouse.query_arrow(
            f"SELECT _event_us, _visible_us, _offset * {MOST_PARTITIONS} + _partition AS _seq,"
            f" cityHash64(_event_us, _event_id) AS _identity, {columns}, _event_id"
            f" FROM `{table.name}` FINAL WHERE {where} AND _offset <= {{upto:Int64}}"
            f" AND {key} IS NOT NULL AND cityHash64(assumeNotNull({key})) % {part[1]} = {part[0]}",
            params | {"upto": upto},
        )
        schema = timeline_schema([(name, types[name]) for name in fields])
        return found.cast(schema.append(pa.field("_event_id", pa.string())))


def _of_label(label: str) -> tuple[str, dict[str, Any]]:
    """SQL for the rows of one place of the online store."""
    if label == RETRIED:
        return "_via != ''", {}
    return "_via = '' AND _partition = {partition:Int64}", {"partition": int(label)}


def _of_range(table: Table, span: Range) -> tuple[str, dict[str, Any]]:
    """SQL for the events of a range, and its parameters."""
    where = ["_event_us >= {from:Int64}", "_event_us < {to:Int64}", "_visible_us <= {visible:Int64}"]
    params: dict[str, Any] = {"from": span.from_us, "to": span.to_us, "visible": span.visible_to_us}
    if span.entities is not None:
        types = dict(table.fields)
        key = key_sql([(field, types[field]) for field in span.entity_fields])
        where.append(f"{key} IN {{entities:Array(String)}}")
        params["entities"] = list(span.entities)
    return " AND ".join(where), params


def _within(table: Table, stretch: Stretch) -> tuple[str, dict[str, Any]]:
    """SQL for the events of a stretch, and its parameters."""
    where = ["_event_us >= {from:Int64}", "_event_us < {to:Int64}", "_visible_us <= {visible:Int64}"]
    params: dict[str, Any] = {"from": stretch.from_us, "to": stretch.to_us, "visible": stretch.visible_to_us}
    order = sorted(stretch.upto)
    params |= {"partitions": order, "upto": [stretch.upto[p] for p in order]}
    placed = "_offset <= transform(_partition, {partitions:Array(Int64)}, {upto:Array(Int64)}, toInt64(-1))"
    if stretch.after:
        params["after"] = [stretch.after.get(p, -1) for p in order]
        placed += " AND _offset > transform(_partition, {partitions:Array(Int64)}, {after:Array(Int64)}, toInt64(-1))"
        where.append(f"_via = '' AND {placed}")
    else:
        where.append(f"(_via != '' OR {placed})")
    part, parts = stretch.part
    if parts > 1:
        types = dict(table.fields)
        key = key_sql([(field, types[field]) for field in stretch.entity_fields])
        where.append(f"cityHash64({key}) % {parts} = {part}")
    return " AND ".join(where), params


def key_sql(fields: Sequence[tuple[str, str]]) -> str:
    """SQL for the text of an entity key, as `millrace.definitions.keys.composite_key` writes it."""
    parts = [f"`{field}`" if kind == FieldType.STRING else f"toString(`{field}`)" for field, kind in fields]
    if len(parts) == 1:
        return parts[0]
    escaped = [rf"replaceAll(replaceAll({part}, '\\', '\\\\'), '|', '\\|')" for part in parts]
    between = ", '|', "
    return f"concat({between.join(escaped)})"
