"""From what a view holds of some entities to values with status and age: one rule for online reads and for history."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from millrace.aggregates import NEVER_US, read_windows
from millrace.definitions.keys import composite_key
from millrace.definitions.model import FieldType

from services.feature_store.domain.inputs import Feature, InputsPlan, Lookup
from services.feature_store.domain.values import Status, as_number
from services.feature_store.domain.views import CompiledView


@dataclass(frozen=True, slots=True)
class Reading:
    """A view for n entities as of `at_us` (int64[n]).

    `values` is [columns, n], float64 with NaN or objects with None for null; `newest_us` is the event time of the
    newest known event (NEVER_US: none).
    """

    values: np.ndarray
    newest_us: np.ndarray
    at_us: np.ndarray


@dataclass(frozen=True, slots=True)
class Judged:
    """A view's columns with what is to be said of them: `values`, `status` and `age_us` are [columns, n].

    A value that is not PRESENT is NaN or None, an age that is not known is -1.
    """

    values: np.ndarray
    status: np.ndarray
    age_us: np.ndarray

    def at(self, places: np.ndarray) -> Judged:
        """The entities at `places`; a place of -1 (a join through null) is MISSING."""
        if not self.status.shape[1]:
            shape = (self.status.shape[0], len(places))
            nothing = None if self.values.dtype == object else np.nan
            return Judged(np.full(shape, nothing), np.full(shape, Status.MISSING, dtype=np.int8), np.full(shape, -1))
        spread = Judged(self.values[:, places], self.status[:, places], self.age_us[:, places])
        nowhere = places < 0
        if nowhere.any():
            spread.values[:, nowhere] = None if self.values.dtype == object else np.nan
            spread.status[:, nowhere] = Status.MISSING
            spread.age_us[:, nowhere] = -1
        return spread

    def column(self, column: int) -> Cells:
        """One column."""
        return Cells(self.values[column], self.status[column], self.age_us[column])


@dataclass(frozen=True, slots=True)
class Cells:
    """One column of an answer for n entities, as in Judged."""

    values: np.ndarray
    status: np.ndarray
    age_us: np.ndarray


def read_rows(view: CompiledView, rows: Sequence[Sequence[bytes | None]], at_us: int) -> Reading:
    """The view as of `at_us` from packed rows; `rows[e]` holds entity e's, one per partition. Raises RowError."""
    at = np.full(len(rows), at_us, dtype=np.int64)
    if view.layout is not None:
        values, newest = read_windows(
            view.layout, rows, at_us=at_us, windows_us=view.view.windows_us, hop_us=view.view.hop_us
        )
        return Reading(values.reshape(len(view.view.columns), len(rows)), newest, at)
    columns, newest = view.latest_layout.read(rows)
    return Reading(columns, newest, at)


def judge(view: CompiledView, reading: Reading) -> Judged:
    """Status and age of a view's columns.

    A view with a TTL is silent about an entity that was never heard of (MISSING) or not within the TTL (EXPIRED); one
    without lets its counts say 0. A null value is MISSING.
    """
    newest, ttl_us = reading.newest_us, view.view.ttl_us
    heard = newest != NEVER_US
    everyone = bool(heard.all())
    age = np.maximum(reading.at_us - (newest if everyone else np.where(heard, newest, reading.at_us)), 0)
    status = np.where(is_null(reading.values), _MISSING, _PRESENT)
    values = reading.values
    if not everyone and (ttl_us or not view.view.is_windowed):
        status[:, ~heard] = _MISSING
    if ttl_us:
        status[:, heard & (age > ttl_us)] = _EXPIRED
    if ttl_us or not everyone:
        age = np.where(heard, age, -1)
        values = values.copy()
        values[status != _PRESENT] = None if values.dtype == object else np.nan
    return Judged(values, status, np.where(status == _MISSING, -1, age))


# As numbers: numpy looks an enumeration's member up slowly.
_PRESENT, _MISSING, _EXPIRED = (np.int8(status) for status in (Status.PRESENT, Status.MISSING, Status.EXPIRED))


def is_null(values: np.ndarray) -> np.ndarray:
    """Where there is no value."""
    nothing: Any = None
    return np.equal(values, nothing) if values.dtype == object else np.isnan(values)


def join_keys(lookup: Lookup, judged: Mapping[Lookup, Judged]) -> list[str | None]:
    """The entity keys that a joined lookup's carriers hold; None where one of them is not PRESENT."""
    parts = [judged[carrier].column(column).values.tolist() for carrier, column in lookup.carriers]
    return [composite_key(values) for values in zip(*parts, strict=True)]


def typed(feature: Feature, cells: Cells) -> list[Any]:
    """The values as the feature's type has them: text, or float; None for null."""
    gone = is_null(cells.values)
    convert = str if feature.type is FieldType.STRING else as_number
    return [None if g else convert(v) for v, g in zip(cells.values.tolist(), gone.tolist(), strict=True)]


@dataclass(frozen=True, slots=True)
class Block:
    """All cells of an answer for n entities, as the wire has them.

    `status` (uint8) and `age_us` (int64) are [features, n]; `numbers` is float64[features that are numbers, n] with NaN
    for null, `texts` a list of n texts for each other feature, "" for null.
    """

    status: np.ndarray
    age_us: np.ndarray
    numbers: np.ndarray
    texts: list[list[str]]

    def of(self, span: slice) -> Block:
        """Some of the entities."""
        status, age_us, numbers = self.status[:, span], self.age_us[:, span], self.numbers[:, span]
        return Block(status, age_us, numbers, [texts[span] for texts in self.texts])


def blocked(plan: InputsPlan, judged: Mapping[Lookup, Judged]) -> Block:
    """The cells of all features. Taken view by view: for few entities the number of calls is what costs."""
    size = next((view.status.shape[1] for view in judged.values()), 0)
    status = np.empty((len(plan.features), size), dtype="u1")
    age_us = np.empty((len(plan.features), size), dtype="<i8")
    values = np.empty((len(plan.features), size), dtype="<f8")
    for lookup, part in plan.parts.items():
        view = judged[lookup]
        status[part.places] = view.status[part.columns]
        age_us[part.places] = view.age_us[part.columns]
        if len(part.numbers):
            values[part.numbers] = view.values[part.number_columns].astype(np.float64)  # None becomes NaN
    texts = [
        ["" if value is None else str(value) for value in judged[feature.lookup].values[feature.column]]
        for feature in plan.texts
    ]
    return Block(status, age_us, values[plan.is_text == 0] if plan.texts else values, texts)


def assemble(plan: InputsPlan, judged: Mapping[Lookup, Judged]) -> list[Cells]:
    """One column of cells per feature."""
    return [judged[feature.lookup].column(feature.column) for feature in plan.features]
