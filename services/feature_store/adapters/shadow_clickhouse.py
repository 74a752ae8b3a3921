"""History rows of a shadow beside the live ones, by event and column, in the offsets that were replayed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from millrace.stores.clickhouse import ClickHouse

from services.feature_store.domain.shadow import EXAMPLES, Difference, row_difference
from services.feature_store.handlers.schemas import SYSTEM
from services.feature_store.ports import Table

_BOTH_SIDES = """
SELECT {what} FROM
  (SELECT _event_us, _event_id, 1 AS here, cityHash64({columns}) AS content FROM {live} FINAL WHERE {where}) AS l
  FULL OUTER JOIN
  (SELECT _event_us, _event_id, 1 AS here, cityHash64({columns}) AS content FROM {shadow} FINAL WHERE {where}) AS s
  USING (_event_us, _event_id)
"""
_COUNTS = (
    "countIf(l.here = 1 AND s.here = 1 AND l.content = s.content) AS equal,"
    " countIf(l.here = 1 AND s.here = 1 AND l.content != s.content) AS differing,"
    " countIf(l.here = 1 AND s.here = 0) AS missing, countIf(l.here = 0 AND s.here = 1) AS extra"
)


def shadow_database(live: str, name: str) -> str:
    """Where the tables of a shadow are."""
    return f"{live}_shadow_{name}"


class ShadowTables:
    """Compares the tables of one project. `clickhouse` is the shadow's own database."""

    def __init__(self, clickhouse: ClickHouse, live: str, shadow: str) -> None:
        self._clickhouse = clickhouse
        self._live, self._shadow = live, shadow

    async def compare(self, table: Table, spans: Mapping[int, tuple[int, int]]) -> Difference:
        """Rows of the offsets `[start, end)` by partition. Raises StoreUnavailable."""
        difference = Difference(f"{table.source} ({table.name})")
        there = await self._clickhouse.query_rows(
            "SELECT database FROM system.tables WHERE name = {name:String} AND database IN {both:Array(String)}",
            {"name": table.name, "both": [self._live, self._shadow]},
        )
        absent = {self._live, self._shadow} - {row["database"] for row in there}
        if absent:
            difference.why = f"there is no table {table.name} in {', '.join(sorted(absent))}"
            difference.not_compared = sum(end - start for start, end in spans.values())
            return difference
        (counts,) = await self._ask(table, spans, _COUNTS)
        for name in ("equal", "differing", "missing", "extra"):
            setattr(difference, name, int(counts[name]))
        if not difference.is_same:
            difference.examples = await self._examples(table, spans)
        return difference

    async def drop(self) -> None:
        """Delete the shadow's database."""
        await self._clickhouse.command(f"DROP DATABASE IF EXISTS {self._shadow}")

    async def _ask(
        self, table: Table, spans: Mapping[int, tuple[int, int]], what: str, more: str = ""
    ) -> list[dict[str, Any]]:
        sql = _BOTH_SIDES.format(
            what=what,
            columns=f"toString(tuple({', '.join(_columns(table))}))",
            live=f"`{self._live}`.`{table.name}`",
            shadow=f"`{self._shadow}`.`{table.name}`",
            where=_where(spans),
        )
        return await self._clickhouse.query_rows(sql + more)

    async def _examples(self, table: Table, spans: Mapping[int, tuple[int, int]]) -> list[str]:
        rows = await self._ask(
            table,
            spans,
            "_event_us, _event_id, l.here AS live, s.here AS shadow",
            f" WHERE l.content != s.content OR l.here != s.here ORDER BY _event_us, _event_id LIMIT {EXAMPLES}",
        )
        return [await self._example(table, row) for row in rows]

    async def _example(self, table: Table, row: Mapping[str, Any]) -> str:
        event = str(row["_event_id"])
        if not (row["live"] and row["shadow"]):
            return f"event {event}: only {'live' if row['live'] else 'in the shadow'}"
        columns = ", ".join(_columns(table))
        sides = []
        for database in (self._live, self._shadow):
            found = await self._clickhouse.query_rows(
                f"SELECT {columns} FROM `{database}`.`{table.name}` FINAL"
                " WHERE _event_us = {at:Int64} AND _event_id = {id:String}",
                {"at": row["_event_us"], "id": event},
            )
            sides.append(found[0])
        return row_difference(event, sides[0], sides[1])


def _columns(table: Table) -> Sequence[str]:
    return [f"`{name}`" for name, _ in [*SYSTEM, *table.fields]]


def _where(spans: Mapping[int, tuple[int, int]]) -> str:
    """Rows that came by the source's own topic, in the offsets asked for. Numbers alone: nothing to be bound."""
    inside = " OR ".join(
        f"(_partition = {int(p)} AND _offset >= {int(start)} AND _offset < {int(end)})"
        for p, (start, end) in sorted(spans.items())
    )
    return f"_via = '' AND ({inside or '0'})"
