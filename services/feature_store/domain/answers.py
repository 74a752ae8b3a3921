"""From what a view holds of some entities to values with status and age: one rule for online reads and for history."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import Any

import numpy as np
from millrace.aggregates import NEVER_US, read_latest, read_windows
from millrace.definitions.keys import composite_key
from millrace.definitions.model import FieldType

from services.feature_store.domain.inputs import Feature, InputsPlan, Lookup
from services.feature_store.domain.values import Status, as_number
from services.feature_store.domain.views import CompiledView


@dataclass(frozen=True, slots=True)
class Reading:
    """A view for n entities as of `at_us` (int64[n], or int64[1] for all of them).

    `values` is [columns, n], float64 with NaN or objects with None for null; `newest_us` is the event time of the
    newest known event (NEVER_US: none).
    """

    values: np.ndarray
    newest_us: np.ndarray
    at_us: np.ndarray


@dataclass(frozen=True, slots=True)
class Judged:
    """A view's columns with what is to be said of them: `values` and `status` are [columns, n], `age_us` is [n]: how
    old the entity's newest event is, -1 where none is known.

    A value that is not PRESENT is NaN or None; one that is MISSING has no age.
    """

    values: np.ndarray
    status: np.ndarray
    age_us: np.ndarray

    def at(self, places: np.ndarray) -> Judged:
        """The entities at `places`; a place of -1 (a join through null) is MISSING."""
        if not self.status.shape[1]:
            shape = (self.status.shape[0], len(places))
            nothing = None if self.values.dtype == object else np.nan
            return Judged(np.full(shape, nothing), np.full(shape, _MISSING), np.full(len(places), -1))
        spread = Judged(self.values[:, places], self.status[:, places], self.age_us[places])
        nowhere = places < 0
        if nowhere.any():
            spread.values[:, nowhere] = None if self.values.dtype == object else np.nan
            spread.status[:, nowhere] = _MISSING
            spread.age_us[nowhere] = -1
        return spread

    def column(self, column: int) -> Cells:
        """One column."""
        status = self.status[column]
        return Cells(self.values[column], status, np.where(status == _MISSING, -1, self.age_us))


@dataclass(frozen=True, slots=True)
class Cells:
    """One column of an answer for n entities: each is [n], an age is -1 where the value is MISSING."""

    values: np.ndarray
    status: np.ndarray
    age_us: np.ndarray


@dataclass(frozen=True, slots=True)
class Stored:
    """What the store holds of n entities in a view: `rows[e]` are entity e's packed rows, one per partition. It is
    read as of `at_us`."""

    rows: Sequence[Sequence[bytes | None]]
    at_us: int


def read_rows(view: CompiledView, rows: Sequence[Sequence[bytes | None]], at_us: int) -> Reading:
    """The view as of `at_us` from packed rows, as `Stored` has them. Raises RowError."""
    return _read_alike([view], [Stored(rows, at_us)])[0]


def read_all(stored: Mapping[Lookup, Stored]) -> dict[Lookup, Reading]:
    """As `read_rows` for each lookup; those whose rows are of one form are read together. Raises RowError."""
    forms: dict[Hashable, list[Lookup]] = {}
    for lookup in stored:
        forms.setdefault(lookup.view.form, []).append(lookup)
    readings: dict[Lookup, Reading] = {}
    for lookups in forms.values():
        together = _read_alike([lookup.view for lookup in lookups], [stored[lookup] for lookup in lookups])
        readings.update(zip(lookups, together, strict=True))
    return readings


def _read_alike(views: Sequence[CompiledView], stored: Sequence[Stored]) -> list[Reading]:
    """A reading for each of some views of one form."""
    sizes = [len(one.rows) for one in stored]
    ats = [np.array([one.at_us], dtype=np.int64) for one in stored]
    first = views[0]
    if first.layout is None:
        found = read_latest([(view.latest_layout, one.rows) for view, one in zip(views, stored, strict=True)])
        return [Reading(columns, newest, at) for (columns, newest), at in zip(found, ats, strict=True)]
    moments = {one.at_us for one in stored}
    values, newest = read_windows(
        first.layout,
        [parts for one in stored for parts in one.rows],
        at_us=moments.pop() if len(moments) == 1 else np.repeat(np.concatenate(ats), sizes),
        windows_us=first.view.windows_us,
        hop_us=first.view.hop_us,
    )
    values = values.reshape(len(first.view.columns), -1)
    spans = [slice(end - size, end) for size, end in zip(sizes, accumulate(sizes), strict=True)]
    return [Reading(values[:, span], newest[span], at) for span, at in zip(spans, ats, strict=True)]


class Judge:
    """The rule of status and age for some views together, made once: for few entities the number of calls of numpy is
    what costs, and it is the same for five views as for one.

    A view with a TTL is silent about an entity that was never heard of (MISSING) or not within the TTL (EXPIRED); one
    without lets its counts say 0. A null value is MISSING.
    """

    def __init__(self, views: Sequence[CompiledView]) -> None:
        widths = [len(view.view.columns) for view in views]
        ttl_us = [view.view.ttl_us for view in views]
        self._view_of = np.repeat(np.arange(len(views)), widths)
        self._spans = [slice(end - width, end) for width, end in zip(widths, np.cumsum(widths).tolist(), strict=True)]
        self._expires = any(ttl_us)
        self._ttl_us = np.array([ttl or _EVER_US for ttl in ttl_us], dtype=np.int64)[:, np.newaxis]
        self._silent = np.array([bool(v.view.ttl_us or not v.view.is_windowed) for v in views])[:, np.newaxis]

    def __call__(self, readings: Sequence[Reading]) -> list[Judged]:
        """One per view. All readings are of equally many entities and have values of one type."""
        # One view alone can be a whole block of a training set: nothing of its size is copied without need.
        values = np.concatenate([r.values for r in readings]) if len(readings) > 1 else readings[0].values
        newest_us = np.array([reading.newest_us for reading in readings])
        at_us = np.array([reading.at_us for reading in readings])
        status = np.where(is_null(values), _MISSING, _PRESENT)
        heard = newest_us != NEVER_US
        age_us = np.maximum(at_us - np.where(heard, newest_us, at_us), 0)
        everyone = bool(heard.all())
        if not everyone:
            status[self._spread(~heard & self._silent)] = _MISSING
        if self._expires:
            status[self._spread(heard & (age_us > self._ttl_us))] = _EXPIRED
        if self._expires or not everyone:
            age_us[~heard] = -1
            nothing: Any = None if values.dtype == object else np.nan
            values = np.where(status == _PRESENT, values, nothing)
        return [Judged(values[span], status[span], age) for span, age in zip(self._spans, age_us, strict=True)]

    def _spread(self, of_views: np.ndarray) -> np.ndarray:
        """[views, n] as [columns, n]."""
        if len(of_views) == 1:
            return np.broadcast_to(of_views, (len(self._view_of), of_views.shape[1]))
        return of_views[self._view_of]


_judge_of = lru_cache(maxsize=256)(Judge)


def judge(view: CompiledView, reading: Reading) -> Judged:
    """Status and age of one view's columns."""
    return _judge_of((view,))([reading])[0]


def nothing_of(view: CompiledView, size: int) -> Judged:
    """What is to be said of `size` entities of a view that has nothing to say yet."""
    shape = (len(view.view.columns), size)
    values = np.full(shape, np.nan) if view.all_numbers else np.full(shape, None, dtype=object)
    return Judged(values, np.full(shape, _MISSING), np.full(size, -1))


def judge_all(readings: Mapping[Lookup, Reading]) -> dict[Lookup, Judged]:
    """Status and age of each lookup's columns; those that can be are judged together."""
    alike: dict[tuple[bool, int], list[Lookup]] = {}
    for lookup, reading in readings.items():
        values = reading.values
        alike.setdefault((values.dtype == object, values.shape[1]), []).append(lookup)
    judged: dict[Lookup, Judged] = {}
    for lookups in alike.values():
        together = _judge_of(tuple(lookup.view for lookup in lookups))
        judged.update(zip(lookups, together([readings[lookup] for lookup in lookups]), strict=True))
    return judged


_EVER_US = np.iinfo(np.int64).max
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

    `status` is uint8[features, n], `ages_us` int64[lookups, n] as in Judged, of which `plan.age_of` has each feature's
    place; `numbers` is float64[features that are numbers, n] with NaN for null, `texts` a list of n texts for each
    other feature, "" for null.
    """

    status: np.ndarray
    ages_us: np.ndarray
    numbers: np.ndarray
    texts: list[list[str]]

    def of(self, span: slice) -> Block:
        """Some of the entities."""
        status, ages_us, numbers = self.status[:, span], self.ages_us[:, span], self.numbers[:, span]
        return Block(status, ages_us, numbers, [texts[span] for texts in self.texts])


def blocked(plan: InputsPlan, judged: Mapping[Lookup, Judged]) -> Block:
    """The cells of all features. Taken view by view: for few entities the number of calls is what costs."""
    size = next((view.status.shape[1] for view in judged.values()), 0)
    status = np.empty((len(plan.features), size), dtype="u1")
    ages_us = np.empty((len(plan.parts), size), dtype="<i8")
    values = np.empty((len(plan.features), size), dtype="<f8")
    for place, (lookup, part) in enumerate(plan.parts.items()):
        view = judged[lookup]
        ages_us[place] = view.age_us
        status[part.places] = view.status[part.columns]
        values[part.numbers] = view.values[part.number_columns]  # None becomes NaN
    texts = [
        ["" if value is None else str(value) for value in judged[feature.lookup].values[feature.column]]
        for feature in plan.texts
    ]
    return Block(status, ages_us, values[plan.is_text == 0] if plan.texts else values, texts)


def assemble(plan: InputsPlan, judged: Mapping[Lookup, Judged]) -> list[Cells]:
    """One column of cells per feature."""
    return [judged[feature.lookup].column(feature.column) for feature in plan.features]
