"""Deletion from ClickHouse tables, so that the bytes go, too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from millrace.stores.clickhouse import ClickHouse

# How long parts that a deletion has replaced lie on the disk before the cleaner may take them. Not at once: ClickHouse
# does not force a new part to the disk, and the old one is what a power cut leaves.
REPLACED_PARTS_S = 60
CLEANED_US = 30 * 60_000_000  # the cleaner of a table that rests comes by every 10 minutes when nobody calls it


async def erase_rows(
    clickhouse: ClickHouse, table: str, where: str, params: Mapping[str, Any], *, instead: str = "DELETE"
) -> int:
    """Deletes the rows of a MergeTree table and waits for it; how many. Nothing is rewritten where none match. With an
    `UPDATE column = ...` for `instead` the rows stay, without what was in that column.

    The parts that held them are rewritten; the cleaner takes the old ones from the disk within `CLEANED_US`. Raises
    StoreUnavailable.
    """
    rows = await clickhouse.query_rows(f"SELECT count() AS found FROM `{table}` WHERE {where}", params)
    found = int(rows[0]["found"])
    if found:
        quick = f"old_parts_lifetime = {REPLACED_PARTS_S}, finished_mutations_to_keep = 1"
        await clickhouse.command(f"ALTER TABLE `{table}` MODIFY SETTING {quick}")
        await clickhouse.command(f"ALTER TABLE `{table}` {instead} WHERE {where} SETTINGS mutations_sync = 2", params)
        # ClickHouse keeps the text of the last mutation: let that be one that names nobody.
        await clickhouse.command(f"ALTER TABLE `{table}` DELETE WHERE 0 SETTINGS mutations_sync = 2")
    return found
