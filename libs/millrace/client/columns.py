"""Feature values as they come from the feature store: column by column, plain values out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from millrace.wire.feature_store.v1 import service_pb2

_PRESENT, _MISSING = service_pb2.PRESENT, service_pb2.MISSING


@dataclass(frozen=True, slots=True)
class FeatureCells:
    """One feature of n entities: `values` (None: there is none), `statuses` as
    `millrace.wire.feature_store.v1.FeatureStatus` has them, `ages_us` in microseconds (-1: MISSING)."""

    values: Sequence[float | str | None]
    statuses: Sequence[int]
    ages_us: Sequence[int]


def read_columns(columns: service_pb2.FeatureColumns, entities: int) -> list[FeatureCells]:
    """The features of a reply for so many entities; ValueError when they are not as long."""
    features = len(columns.is_text)
    shape = (features, entities)
    try:
        statuses = np.frombuffer(columns.status, dtype="u1").reshape(shape).tolist()
        looked_up = max(columns.age_of, default=-1) + 1
        ages_us = np.frombuffer(columns.ages_us, dtype="<i8").reshape(looked_up, entities).tolist()
        numbers = np.frombuffer(columns.numbers, dtype="<f8").reshape(columns.is_text.count(0), entities).tolist()
        texts = np.array(columns.texts, dtype=object).reshape(features - len(numbers), entities).tolist()
    except ValueError as error:
        raise ValueError(f"a reply of {features} features does not have {entities} cells in each: {error}") from error
    cells = []
    for is_text, own, age_of in zip(columns.is_text, statuses, columns.age_of, strict=True):
        values, ages = (texts if is_text else numbers).pop(0), ages_us[age_of]
        if own.count(_PRESENT) < entities:  # hardly ever: nothing is looked at one by one without need
            values = [value if status == _PRESENT else None for value, status in zip(values, own, strict=True)]
            ages = [-1 if status == _MISSING else age for age, status in zip(ages, own, strict=True)]
        cells.append(FeatureCells(values, own, ages))
    return cells
