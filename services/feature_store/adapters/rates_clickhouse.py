"""How many events of a source there were lately, from its history table."""

from __future__ import annotations

from millrace.stores.clickhouse import ClickHouse

from services.feature_store.ports import Table

DAY_US = 86_400_000_000
HOUR_US = 3_600_000_000


class ClickHouseRates:
    """An EventRates. The range is the tables' order, so that only its end is read; repeats are counted once."""

    def __init__(self, clickhouse: ClickHouse) -> None:
        self._clickhouse = clickhouse

    async def per_hour(self, table: Table, until_us: int) -> float | None:
        """As `EventRates.per_hour`; a source younger than a day is counted since its first event there."""
        there = await self._clickhouse.query_rows(f"EXISTS TABLE `{table.name}`")
        if not there or not there[0]["result"]:
            return None  # nothing was consumed yet
        rows = await self._clickhouse.query_rows(
            f"SELECT uniqExact(_event_id) AS events, min(_event_us) AS first FROM `{table.name}`"
            " WHERE _event_us >= {from:Int64} AND _event_us < {to:Int64}",
            {"from": until_us - DAY_US, "to": until_us},
        )
        events, first = int(rows[0]["events"]), int(rows[0]["first"])
        return events / (max(until_us - first, 1) / HOUR_US) if events else None
