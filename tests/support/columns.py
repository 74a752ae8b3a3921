"""Replies of a feature store: written by a test, and read by one."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
from millrace.client.columns import FeatureCells, read_columns
from millrace.wire.feature_store.v1 import service_pb2

Cell = tuple[float | str | None, int, int]  # value, status, age


def columns(features: Sequence[Sequence[Cell]]) -> service_pb2.FeatureColumns:
    """A row of cells per feature, one per entity; a feature is text where one of its values is."""
    made = service_pb2.FeatureColumns()
    for cells in features:
        values, statuses, ages_us = zip(*cells, strict=True) if cells else ((), (), ())
        is_text = any(isinstance(value, str) for value in values)
        made.is_text += bytes([is_text])
        made.status += bytes(statuses)
        made.age_of.append(len(made.age_of))  # each has ages of its own
        made.ages_us += np.array(ages_us, dtype="<i8").tobytes()
        if is_text:
            made.texts.extend("" if value is None else str(value) for value in values)
        else:
            numbers = [math.nan if value is None else float(value) for value in values]
            made.numbers += np.array(numbers, dtype="<f8").tobytes()
    return made


def cells_of(reply, entities: int) -> dict[str, FeatureCells]:
    """The cells of each feature of a reply for so many entities."""
    return dict(zip(reply.features, read_columns(reply.columns, entities), strict=True))


def assert_same(online: dict[str, FeatureCells], history: dict[str, FeatureCells]) -> None:
    """Statuses and ages exactly, texts and whole numbers exactly, others to 1e-9."""
    assert list(online) == list(history)
    for name, a in online.items():
        b = history[name]
        assert (a.statuses, a.ages_us) == (b.statuses, b.ages_us), name
        for one, other in zip(a.values, b.values, strict=True):
            if isinstance(one, float) and not one.is_integer():
                assert one == pytest.approx(other, rel=1e-9, abs=1e-12), name
            else:
                assert one == other, name
