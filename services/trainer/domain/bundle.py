"""The bundle beside a model: what serving and monitoring must know about it, as canonical JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.trainer.domain.examples import Columns, ColumnSpec, select
from services.trainer.domain.gate import canonical_json
from services.trainer.domain.metrics import Floats
from services.trainer.domain.parts import THRESHOLD

BINS = 20
MAX_VALUES = 200
GOLDEN_ROWS = 16
GOLDEN_TOLERANCE = 1e-4
OTHER = "__other__"


def golden_rows(rows: int) -> list[int]:
    """Which of `rows` rows are kept as golden: spread evenly, the newest among them."""
    return [int(r) for r in np.unique(np.linspace(0, rows - 1, min(rows, GOLDEN_ROWS)).round())] if rows else []


def golden(columns: Columns, rows: Sequence[int], outputs: NDArray[Any]) -> dict[str, Any]:
    """Raw inputs and the answers that every server of this model must give to them."""
    return {
        "inputs": {name: [_plain(v) for v in values] for name, values in select(columns, list(rows)).items()},
        "outputs": [float(v) for v in outputs],
        "tolerance": GOLDEN_TOLERANCE,
    }


def reference(columns: Columns) -> dict[str, Any]:
    """The distribution of every input as trained on."""
    return {name: _strings(v) if v.dtype == object else _numbers(v) for name, v in columns.items()}


def histogram(values: Floats) -> dict[str, Any]:
    """Edges and counts of about 20 bins of equal numbers; few distinct values get a bin each. The outer bins hold all
    that lies beyond them when other values are counted."""
    distinct = np.unique(values)
    if len(distinct) == 0:
        return {"edges": [], "counts": []}
    if len(distinct) <= BINS:
        middles = (distinct[1:] + distinct[:-1]) / 2
        edges = np.concatenate(([distinct[0] - 0.5], middles, [distinct[-1] + 0.5]))
    else:
        edges = np.unique(np.quantile(values, np.linspace(0, 1, BINS + 1)))
    counts = np.histogram(values, edges)[0]
    return {"edges": [float(e) for e in edges], "counts": [int(c) for c in counts]}


def bundle_json(
    facts: Mapping[str, Any],
    inputs: Sequence[ColumnSpec],
    *,
    trained_on: Columns,
    labels: Floats,
    outputs: Floats,
    golden_part: Mapping[str, Any],
) -> str:
    """The whole bundle; `facts` names project, model, task, output, definition_version and metrics."""
    bundle = {
        "format": "millrace.bundle/1",
        **facts,
        "inputs": [{"name": i.name, "datatype": i.datatype} for i in inputs],
        "golden": golden_part,
        "reference": reference(trained_on),
        "reference_output": histogram(outputs),
        "reference_label": {"mean": float(labels.mean()), "rows": len(labels)},
        "threshold": THRESHOLD,
    }
    return canonical_json(bundle)


def _numbers(values: NDArray[Any]) -> dict[str, Any]:
    known = values[np.isfinite(values)].astype(np.float64)
    return {"kind": "number", **histogram(known), "nulls": int(len(values) - len(known))}


def _strings(values: NDArray[Any]) -> dict[str, Any]:
    distinct, counts = np.unique(values.astype(str), return_counts=True)
    order = [i for i in np.argsort(-counts, kind="stable") if distinct[i] != ""]
    kept = {str(distinct[i]): int(counts[i]) for i in order[:MAX_VALUES]}
    other = int(sum(int(counts[i]) for i in order[MAX_VALUES:]))
    nulls = int((values == "").sum())
    return {"kind": "string", "values": kept | ({OTHER: other} if other else {}), "nulls": nulls}


def _plain(value: Any) -> float | str | None:
    if isinstance(value, str):
        return value or None
    return None if math.isnan(float(value)) else float(value)
