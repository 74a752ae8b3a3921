"""The log of predictions and labels in ClickHouse."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from millrace.definitions.model import Task
from millrace.stores.clickhouse import ClickHouse

from services.monitor.domain import drifting, judge, performance
from services.monitor.domain.causes import Link
from services.monitor.domain.drifting import DayOfLabels, Floats, Reference
from services.monitor.domain.judge import Evidence
from services.monitor.domain.performance import Cell
from services.monitor.domain.plans import Trial
from services.monitor.ports import Columns

MOST_ROWS = 50_000  # of one trial's evidence; a judgement needs hundreds
MOST_ROWS_PER_CELL = 20_000  # of one version in one window; the interval says what that costs
FAR_US = 2**62

PREDICTIONS = pa.schema(
    [
        *((name, pa.string()) for name in ("project", "model")),
        ("version", pa.int64()),
        ("moment_us", pa.int64()),
        *((name, pa.string()) for name in ("entity", "prediction_id", "request_id", "role")),
        ("answered", pa.uint8()),
        ("error", pa.string()),
        ("output", pa.float64()),
        ("numbers", pa.map_(pa.string(), pa.float64())),
        ("texts", pa.map_(pa.string(), pa.string())),
        *((name, pa.int64()) for name in ("answered_us", "latency_us", "epoch", "as_of_us")),
        *((name, pa.string()) for name in ("door", "event_id")),
    ]
)
LABELS = pa.schema(
    [
        ("project", pa.string()),
        ("moment_us", pa.int64()),
        ("entity", pa.string()),
        ("revision", pa.int32()),
        ("outcome", pa.string()),
        ("value", pa.float64()),
        ("origin", pa.string()),
        ("confidence", pa.float64()),
        *((name, pa.int64()) for name in ("event_us", "visible_us", "matured_us")),
        ("event_id", pa.string()),
    ]
)

# A label counts from the time when it is both visible and mature. Censored ones have the value NaN.
_KNOWN_LABELS = """
SELECT entity, moment_us, argMax(value, revision) AS truth, min(greatest(visible_us, matured_us)) AS known_us
FROM labels FINAL
WHERE project = {project:String} AND moment_us >= {from_us:Int64} AND moment_us < {to_us:Int64}
  AND greatest(visible_us, matured_us) <= {now_us:Int64}
GROUP BY entity, moment_us
"""

# Per (label key, version) the last answer counts; rows without an entity have no key and count each.
_SCORED = """
SELECT request_id, entity, moment_us, output FROM predictions FINAL
WHERE project = {{project:String}} AND model = {{model:String}} AND version = {{{version}:Int64}}
  AND epoch >= {{epoch:Int64}} AND moment_us >= {{from_us:Int64}} AND moment_us < {{to_us:Int64}} AND error = ''
  {more} ORDER BY answered_us DESC LIMIT 1 BY if(entity = '', request_id, entity), moment_us
"""

_PAIRS = f"""
SELECT a.output AS ours, b.output AS theirs, ifNull(l.truth, nan) AS truth
FROM ({_SCORED.format(version="version", more="")}) AS a
INNER JOIN (
  SELECT request_id, entity, moment_us, any(output) AS output FROM predictions FINAL
  WHERE project = {{project:String}} AND model = {{model:String}} AND version = {{target:Int64}}
    AND epoch >= {{epoch:Int64}} AND moment_us >= {{from_us:Int64}} AND moment_us < {{to_us:Int64}} AND error = ''
  GROUP BY request_id, entity, moment_us
) AS b ON a.request_id = b.request_id AND a.entity = b.entity AND a.moment_us = b.moment_us
LEFT JOIN ({_KNOWN_LABELS}) AS l ON a.entity = l.entity AND a.moment_us = l.moment_us
ORDER BY ifNull(l.known_us, {FAR_US}), a.moment_us, a.entity, a.request_id LIMIT {MOST_ROWS}
"""

_ARM = f"""
SELECT a.output AS output, ifNull(l.truth, nan) AS truth
FROM ({_SCORED.format(version="version", more="AND answered = 1")}) AS a
LEFT JOIN ({_KNOWN_LABELS}) AS l ON a.entity = l.entity AND a.moment_us = l.moment_us
ORDER BY ifNull(l.known_us, {FAR_US}), a.moment_us, a.entity, a.request_id LIMIT {MOST_ROWS}
"""

_CELLS = f"""
SELECT start, version, answered, output, ifNull(l.truth, nan) AS truth, total FROM (
  SELECT *, count() OVER (PARTITION BY start, version, answered) AS total FROM (
    SELECT intDiv(moment_us, {{window_us:Int64}}) * {{window_us:Int64}} AS start, version, answered, entity, moment_us,
      output FROM predictions FINAL
    WHERE project = {{project:String}} AND model = {{model:String}} AND error = ''
      AND moment_us >= {{from_us:Int64}} AND moment_us < {{to_us:Int64}}
    ORDER BY answered_us DESC LIMIT 1 BY if(entity = '', prediction_id, entity), moment_us, version, answered
  ) ORDER BY cityHash64(entity, moment_us) LIMIT {MOST_ROWS_PER_CELL} BY start, version, answered
) AS p LEFT JOIN ({_KNOWN_LABELS}) AS l ON p.entity = l.entity AND p.moment_us = l.moment_us
"""

_INPUTS = """
SELECT intDiv(moment_us, {window_us:Int64}) * {window_us:Int64} AS start, name, bin, count() AS rows FROM (
  SELECT moment_us, name, if(isNaN(value), -1, toInt64(arrayCount(cut -> value >= cut, cuts[name]))) AS bin FROM (
    SELECT moment_us, numbers, mapFromArrays({names:Array(String)}, {cuts:Array(Array(Float64))}) AS cuts
    FROM predictions FINAL
    WHERE project = {project:String} AND model = {model:String} AND answered = 1
      AND moment_us >= {from_us:Int64} AND moment_us < {to_us:Int64}
  ) ARRAY JOIN mapKeys(numbers) AS name, mapValues(numbers) AS value WHERE mapContains(cuts, name)
) GROUP BY start, name, bin
"""

_TEXTS = """
SELECT intDiv(moment_us, {window_us:Int64}) * {window_us:Int64} AS start, name, value, count() AS rows FROM (
  SELECT moment_us, texts FROM predictions FINAL
  WHERE project = {project:String} AND model = {model:String} AND answered = 1
    AND moment_us >= {from_us:Int64} AND moment_us < {to_us:Int64}
) ARRAY JOIN mapKeys(texts) AS name, mapValues(texts) AS value WHERE has({names:Array(String)}, name)
GROUP BY start, name, value LIMIT 200000
"""

_OUTPUTS = """
SELECT intDiv(moment_us, {window_us:Int64}) * {window_us:Int64} AS start,
  toInt64(arrayCount(cut -> output >= cut, {cuts:Array(Float64)})) AS bin, count() AS rows
FROM predictions FINAL
WHERE project = {project:String} AND model = {model:String} AND version = {version:Int64} AND error = ''
  AND moment_us >= {from_us:Int64} AND moment_us < {to_us:Int64} GROUP BY start, bin
"""


class ClickHouseLog:
    """Implements ports.Log."""

    def __init__(self, store: ClickHouse) -> None:
        self._store = store

    async def add_predictions(self, columns: Columns, token: str) -> None:
        """Append."""
        await self._store.insert_arrow("predictions", pa.table(dict(columns), schema=PREDICTIONS), token)

    async def add_labels(self, columns: Columns, token: str) -> None:
        """Append."""
        await self._store.insert_arrow("labels", pa.table(dict(columns), schema=LABELS), token)

    async def evidence(self, trial: Trial, now_us: int) -> Evidence:
        """Pairs; arms only where there are no pairs to speak of; failures of the version's own requests."""
        params = _span(trial, now_us)
        pairs = await self._floats(_PAIRS, params)
        requests, failures = await self._failures(params)
        theirs = pairs["theirs"]
        if trial.role != "canary" or len(theirs):
            return Evidence(
                ours=pairs["ours"],
                theirs=theirs,
                truth=pairs["truth"],
                scale=judge.spread(theirs),
                requests=requests,
                failures=failures,
            )
        ours = await self._floats(_ARM, params)
        champion = await self._floats(_ARM, {**params, "version": trial.target})
        return Evidence(
            our_arm=ours["output"],
            our_arm_truth=ours["truth"],
            their_arm=champion["output"],
            their_arm_truth=champion["truth"],
            scale=judge.spread(champion["output"]),
            requests=requests,
            failures=failures,
        )

    async def answered_since(self, trial: Trial, since_us: int, now_us: int) -> int:
        """Rows of moments in [since, now) that the version scored without an error."""
        rows = await self._store.query_rows(
            "SELECT uniqExact(prediction_id) AS rows FROM predictions WHERE project = {project:String}"
            " AND model = {model:String} AND version = {version:Int64} AND epoch >= {epoch:Int64}"
            " AND moment_us >= {from_us:Int64} AND moment_us < {to_us:Int64} AND error = ''",
            {**_span(trial, now_us), "from_us": since_us},
        )
        return int(rows[0]["rows"])

    async def input_bins(
        self, project: str, model: str, references: Mapping[str, Reference], starts: Sequence[int], window_us: int
    ) -> dict[tuple[int, str], Floats]:
        """Counts per window and input; windows without rows are left out."""
        if not starts:
            return {}
        params = _windows(project, model, starts, window_us)
        numbers = {n: list(r.cuts) for n, r in references.items() if r.is_number and n != drifting.OUTPUT}
        texts = [n for n, r in references.items() if not r.is_number]
        found: dict[tuple[int, str], Floats] = {}
        cut = {"names": list(numbers), "cuts": list(numbers.values())}
        for key, counts in (await self._counts(_INPUTS, {**params, **cut}, "bin")).items():
            found[key] = drifting.number_bins(references[key[1]], counts)
        for key, values in (await self._counts(_TEXTS, {**params, "names": texts}, "value")).items():
            found[key] = drifting.text_bins(references[key[1]], values)
        return {key: bins for key, bins in found.items() if key[0] in set(starts)}

    async def output_bins(
        self, project: str, model: str, version: int, reference: Reference, starts: Sequence[int], window_us: int
    ) -> dict[int, Floats]:
        """Counts per window."""
        if not starts:
            return {}
        params = {**_windows(project, model, starts, window_us), "version": version, "cuts": list(reference.cuts)}
        counts: dict[int, dict[int, int]] = defaultdict(dict)
        for row in await self._store.query_rows(_OUTPUTS, params):
            counts[int(row["start"])][int(row["bin"])] = int(row["rows"])
        return {start: drifting.number_bins(reference, bins) for start, bins in counts.items() if start in set(starts)}

    async def label_days(self, project: str, from_us: int, to_us: int, now_us: int) -> list[DayOfLabels]:
        """Sums per day, oldest first; censored labels do not count."""
        rows = await self._store.query_rows(
            "SELECT intDiv(moment_us, 86400000000) * 86400000000 AS day, count() AS rows, sum(truth) AS total,"
            f" sum(truth * truth) AS squares FROM ({_KNOWN_LABELS}) WHERE NOT isNaN(truth) GROUP BY day ORDER BY day",
            {"project": project, "from_us": from_us, "to_us": to_us, "now_us": now_us},
        )
        return [DayOfLabels(int(r["day"]), int(r["rows"]), float(r["total"]), float(r["squares"])) for r in rows]

    async def performance(
        self, project: str, model: str, task: Task, window_us: int, from_us: int, to_us: int, now_us: int
    ) -> list[Cell]:
        """Metrics over at most MOST_ROWS_PER_CELL rows each, chosen by hash; `predictions` counts all of them."""
        params = {"project": project, "model": model, "window_us": window_us}
        table = await self._store.query_arrow(_CELLS, {**params, "from_us": from_us, "to_us": to_us, "now_us": now_us})
        columns = {name: table.column(name).to_numpy(zero_copy_only=False) for name in table.column_names}
        keys = np.stack([columns[name].astype(np.int64) for name in ("start", "version", "answered")], axis=1)
        cells: list[Cell] = []
        for start, version, answered in np.unique(keys, axis=0):
            chosen = (keys == (start, version, answered)).all(axis=1)
            outputs, truth = (columns[n][chosen].astype(np.float64) for n in ("output", "truth"))
            cells += performance.cells(int(start), int(version), bool(answered), outputs, truth, task)
        return cells

    async def sample(self, project: str, model: str, from_us: int, to_us: int, rows: int) -> list[dict[str, Any]]:
        """Rows of inputs with `output`."""
        found = await self._store.query_rows(
            "SELECT numbers, texts, output FROM predictions FINAL WHERE project = {project:String}"
            " AND model = {model:String} AND answered = 1 AND moment_us >= {from_us:Int64}"
            " AND moment_us < {to_us:Int64} ORDER BY cityHash64(prediction_id) LIMIT {rows:Int64}",
            {"project": project, "model": model, "from_us": from_us, "to_us": to_us, "rows": rows},
        )
        return [{**row["numbers"], **row["texts"], drifting.OUTPUT: row["output"]} for row in found]

    async def find_label(self, event_id: str) -> Link | None:
        """By its event id: the table is ordered by moment, so this reads one column of it."""
        rows = await self._store.query_rows(
            "SELECT * FROM labels WHERE event_id = {event_id:String} LIMIT 1", {"event_id": event_id}
        )
        if not rows:
            return None
        row = rows[0]
        subject = f"{row['project']}/{row['entity']}/{row['moment_us']}"
        summary = f"label of {row['entity']}: {row['outcome'].lower()} {row['value']:g}, revision {row['revision']}"
        return Link(
            event_id=event_id,
            event_type="millrace.labeling.label.matured.v1",
            topic="labels",
            source="millrace/labeling",
            subject=subject,
            time_us=row["visible_us"],
            summary=summary,
            causation_id="",
            actor="",
            project=row["project"],
        )

    async def _floats(self, sql: str, params: Mapping[str, Any]) -> dict[str, Floats]:
        table = await self._store.query_arrow(sql, params, {"join_use_nulls": 1})
        return {n: table.column(n).to_numpy(zero_copy_only=False).astype(np.float64) for n in table.column_names}

    async def _failures(self, params: Mapping[str, Any]) -> tuple[int, int]:
        rows = await self._store.query_rows(
            "SELECT count() AS requests, countIf(error != '') AS failures FROM predictions FINAL"
            " WHERE project = {project:String} AND model = {model:String} AND version = {version:Int64}"
            " AND epoch >= {epoch:Int64} AND moment_us >= {from_us:Int64} AND moment_us < {to_us:Int64}",
            params,
        )
        return int(rows[0]["requests"]), int(rows[0]["failures"])

    async def _counts(self, sql: str, params: Mapping[str, Any], what: str) -> dict[tuple[int, str], dict[Any, int]]:
        found: dict[tuple[int, str], dict[Any, int]] = defaultdict(dict)
        for row in await self._store.query_rows(sql, params):
            found[int(row["start"]), str(row["name"])][row[what]] = int(row["rows"])
        return found


def _span(trial: Trial, now_us: int) -> dict[str, Any]:
    return {
        "project": trial.project,
        "model": trial.model,
        "version": trial.version,
        "target": trial.target,
        "epoch": trial.since_epoch,
        "from_us": trial.since_us,
        "to_us": now_us,
        "now_us": now_us,
    }


def _windows(project: str, model: str, starts: Sequence[int], window_us: int) -> dict[str, Any]:
    return {
        "project": project,
        "model": model,
        "from_us": min(starts),
        "to_us": max(starts) + window_us,
        "window_us": window_us,
    }
