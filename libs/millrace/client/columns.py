"""Feature values as they come from the feature store: one column per feature, plain values out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from millrace.wire.feature_store.v1 import service_pb2


@dataclass(frozen=True, slots=True)
class FeatureCells:
    """One feature of n entities: `values` (None: there is none), `statuses` as
    `millrace.wire.feature_store.v1.FeatureStatus` has them, `ages_us` in microseconds (-1: MISSING)."""

    values: Sequence[float | str | None]
    statuses: Sequence[int]
    ages_us: Sequence[int]


def read_columns(columns: Sequence[service_pb2.FeatureColumn], entities: int) -> list[FeatureCells]:
    """The columns of a reply for so many entities; ValueError when they are not as long."""
    return [_read(place, column, entities) for place, column in enumerate(columns)]


def _read(place: int, column: service_pb2.FeatureColumn, entities: int) -> FeatureCells:
    statuses = list(column.status)
    ages_us = np.frombuffer(column.age_us, dtype="<i8").tolist()
    values: list[float | str | None]
    if column.numbers or not column.texts:
        values = [None if math.isnan(v) else v for v in np.frombuffer(column.numbers, dtype="<f8").tolist()]
    else:
        present = service_pb2.PRESENT
        values = [text if status == present else None for text, status in zip(column.texts, statuses, strict=False)]
    lengths = {len(values), len(statuses), len(ages_us)}
    if lengths != {entities}:
        raise ValueError(f"column {place} has {sorted(lengths)} cells for {entities} entities")
    return FeatureCells(values, statuses, ages_us)
