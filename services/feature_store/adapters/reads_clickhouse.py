"""Sampled online reads and what came of them, in ClickHouse. Keyed by read: a repeat changes nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
from millrace.stores.clickhouse import ClickHouse

from services.feature_store.domain.consistency import (
    BAD,
    Cell,
    CheckedRead,
    Finding,
    SampledRead,
    Standing,
)
from services.feature_store.domain.values import Position
from services.feature_store.ports import Example, ReadCounts, Tally

_READ = pa.schema(
    [
        ("id", pa.string()),
        ("project", pa.string()),
        ("definition_version", pa.int64()),
        ("entity", pa.string()),
        ("logged_us", pa.int64()),
    ]
)
_SAMPLED = pa.schema([*_READ, ("features", pa.string()), ("cells", pa.string()), ("standings", pa.string())])
_CHECKED = pa.schema(
    [
        *_READ,
        ("skipped", pa.string()),
        ("features", pa.list_(pa.string())),
        ("as_of_us", pa.list_(pa.int64())),
        ("outcomes", pa.list_(pa.int64())),
        ("differences", pa.list_(pa.float64())),
        ("details", pa.list_(pa.string())),
    ]
)
# One row per (read, feature); the read's columns come before the arrays'.
_JOINED = (
    "FROM checked_reads FINAL ARRAY JOIN features AS feature, as_of_us AS at_us, outcomes AS outcome,"
    " differences AS difference, details AS detail"
    " WHERE project = {project:String} AND at_us >= {from:Int64} AND at_us < {to:Int64}"
)


class ClickHouseReads:
    """A ReadLog."""

    def __init__(self, clickhouse: ClickHouse) -> None:
        self._clickhouse = clickhouse

    async def append(self, reads: Sequence[SampledRead]) -> None:
        """As `ReadLog.append`."""
        rows = [
            _read(read)
            | {
                "features": json.dumps(read.features),
                "cells": json.dumps([_cell(cell) for cell in read.cells]),
                "standings": json.dumps({k: [s.as_of_us, s.positions] for k, s in read.standings.items()}),
            }
            for read in reads
        ]
        await self._clickhouse.insert_arrow("sampled_reads", pa.Table.from_pylist(rows, schema=_SAMPLED))

    async def pending(self, since_us: int, until_us: int, limit: int) -> list[SampledRead]:
        """As `ReadLog.pending`."""
        rows = await self._clickhouse.query_rows(
            "SELECT * FROM sampled_reads WHERE logged_us >= {since:Int64} AND logged_us < {until:Int64}"
            " AND id NOT IN (SELECT id FROM checked_reads WHERE logged_us >= {since:Int64})"
            " ORDER BY logged_us, id LIMIT 1 BY id LIMIT {limit:Int64}",
            {"since": since_us, "until": until_us, "limit": limit},
        )
        return [_sampled(row) for row in rows]

    async def record(self, checked: Sequence[CheckedRead]) -> None:
        """As `ReadLog.record`."""
        rows = [
            _read(one.read)
            | {
                "skipped": one.skipped,
                "features": [f.feature for f in one.findings],
                "as_of_us": [f.as_of_us for f in one.findings],
                "outcomes": [int(f.outcome) for f in one.findings],
                "differences": [f.difference for f in one.findings],
                "details": [_detail(f) for f in one.findings],
            }
            for one in checked
        ]
        await self._clickhouse.insert_arrow("checked_reads", pa.Table.from_pylist(rows, schema=_CHECKED))

    async def tallies(self, project: str, from_us: int, to_us: int) -> list[Tally]:
        """As `ReadLog.tallies`."""
        rows = await self._clickhouse.query_rows(
            "SELECT feature, toString(toDate(fromUnixTimestamp64Micro(at_us, 'UTC'))) AS day, outcome,"
            f" count() AS n, max(difference) AS largest {_JOINED} GROUP BY feature, day, outcome ORDER BY feature, day",
            {"project": project, "from": from_us, "to": to_us},
        )
        found: dict[tuple[str, str], tuple[dict[int, int], float]] = {}
        for row in rows:
            counts, largest = found.get((row["feature"], row["day"]), ({}, 0.0))
            counts[int(row["outcome"])] = int(row["n"])
            found[row["feature"], row["day"]] = counts, max(largest, float(row["largest"]))
        return [Tally(feature, day, counts, largest) for (feature, day), (counts, largest) in found.items()]

    async def examples(self, project: str, from_us: int, to_us: int, limit: int) -> list[Example]:
        """As `ReadLog.examples`."""
        rows = await self._clickhouse.query_rows(
            f"SELECT feature, entity, at_us, outcome, detail {_JOINED} AND outcome IN {{bad:Array(Int64)}}"
            " ORDER BY at_us DESC, entity, feature LIMIT {limit:Int64}",
            {"project": project, "from": from_us, "to": to_us, "bad": sorted(int(o) for o in BAD), "limit": limit},
        )
        return [
            Example(row["feature"], row["entity"], int(row["at_us"]), int(row["outcome"]), *json.loads(row["detail"]))
            for row in rows
        ]

    async def counts(self, project: str, since_us: int) -> ReadCounts:
        """As `ReadLog.counts`."""
        params = {"project": project, "since": since_us}
        [logged] = await self._clickhouse.query_rows(
            "SELECT uniqExact(id) AS n FROM sampled_reads"
            " WHERE project = {project:String} AND logged_us >= {since:Int64}",
            params,
        )
        [done] = await self._clickhouse.query_rows(
            "SELECT uniqExact(id) AS n, uniqExactIf(id, skipped != '') AS skipped FROM checked_reads"
            " WHERE project = {project:String} AND logged_us >= {since:Int64}",
            params,
        )
        skipped = int(done["skipped"])
        return ReadCounts(int(done["n"]) - skipped, skipped, max(int(logged["n"]) - int(done["n"]), 0))


def _read(read: SampledRead) -> dict[str, Any]:
    return {name: getattr(read, name) for name in _READ.names}


def _cell(cell: Cell) -> list[Any]:
    return [cell.value, cell.status, cell.age_us]


def _detail(finding: Finding) -> str:
    """Both cells, each as JSON text of its own; nothing where nothing differed."""
    if finding.outcome not in BAD:
        return ""
    return json.dumps([json.dumps(_cell(finding.online)), json.dumps(_cell(finding.offline))])


def _sampled(row: Mapping[str, Any]) -> SampledRead:
    standings = {
        name: Standing(int(as_of), {label: Position(*p) for label, p in positions.items()})
        for name, (as_of, positions) in json.loads(row["standings"]).items()
    }
    return SampledRead(
        id=row["id"],
        project=row["project"],
        definition_version=int(row["definition_version"]),
        entity=row["entity"],
        logged_us=int(row["logged_us"]),
        features=tuple(json.loads(row["features"])),
        cells=tuple(Cell(*cell) for cell in json.loads(row["cells"])),
        standings=standings,
    )
