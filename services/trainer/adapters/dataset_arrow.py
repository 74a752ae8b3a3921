"""Reads a snapshot's rows (Arrow IPC stream) into columns as the model's graph takes them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from services.trainer.domain.examples import ColumnSpec, Examples
from services.trainer.errors import SnapshotUnusable

OBSERVED = "observed"


def read_examples(path: Path, inputs: Sequence[ColumnSpec]) -> Examples:
    """Every row with an observed label, ordered by (moment, entity). SnapshotUnusable names a column that lacks."""
    with pa.memory_map(str(path)) as source, pa.ipc.open_stream(source) as stream:
        table = stream.read_all()
    lacking = [
        name for name in ("entity", "moment_us", "label", *(i.name for i in inputs)) if name not in table.column_names
    ]
    if lacking:
        raise SnapshotUnusable(f"the snapshot has no column {', '.join(lacking)}")
    table = table.filter(_observed(table)).sort_by([("moment_us", "ascending"), ("entity", "ascending")])
    return Examples(
        columns={i.name: _strings(table[i.name]) if i.is_string else _numbers(table[i.name]) for i in inputs},
        labels=table["label"].cast(pa.float64()).to_numpy(),
        moments_us=table["moment_us"].cast(pa.int64()).to_numpy(),
    )


def _observed(table: pa.Table) -> pa.ChunkedArray:
    known = pc.is_valid(table["label"])
    if "outcome" in table.column_names:
        known = pc.and_kleene(known, pc.equal(pc.utf8_lower(table["outcome"].cast(pa.string())), OBSERVED))
    return pc.fill_null(known, False)


def _numbers(column: pa.ChunkedArray) -> NDArray[np.float32]:
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.int8())
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.int64())
    return np.asarray(pc.fill_null(column.cast(pa.float64()), np.nan).to_numpy(), dtype=np.float32)


def _strings(column: pa.ChunkedArray) -> NDArray[Any]:
    return np.asarray(pc.fill_null(column.cast(pa.string()), "").to_numpy(), dtype=object)
