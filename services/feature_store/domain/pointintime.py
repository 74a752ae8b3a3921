"""A view at many (entity, moment) pairs, from its source's history, by the kernel's rule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from millrace.aggregates import NEVER_US, Events, latest_index, window_values

from services.feature_store.domain.answers import Reading
from services.feature_store.domain.views import CompiledView, Row, sequence


@dataclass(frozen=True, slots=True)
class History:
    """Events of one source in any order; int64 arrays as long as `rows`."""

    rows: list[Row]
    event_us: np.ndarray
    visible_us: np.ndarray
    offsets: np.ndarray
    partitions: np.ndarray


def read_history(
    view: CompiledView,
    keys: Sequence[str | None],
    moments_us: np.ndarray,
    history: History,
    *,
    as_happened: bool = False,
) -> Reading:
    """The view at each (key, moment); a key of None finds nothing. Raises ExpressionError."""
    chosen = view.select(history.rows)
    codes = {entity: code for code, entity in enumerate(dict.fromkeys(chosen.entities))}
    spine = np.array([-1 if key is None else codes.get(key, len(codes)) for key in keys], dtype=np.int64)
    rows = [history.rows[i] for i in chosen.places.tolist()]
    seq = sequence(history.offsets[chosen.places], history.partitions[chosen.places])
    entity = np.array([codes[e] for e in chosen.entities], dtype=np.int64)
    events = Events(entity, history.event_us[chosen.places], history.visible_us[chosen.places], seq)
    newest = latest_index(spine, moments_us, events, as_happened=as_happened)
    newest_us = np.full(len(spine), NEVER_US, dtype=np.int64)
    newest_us[newest >= 0] = events.event_us[newest[newest >= 0]]
    if view.layout is None:
        return Reading(_latest_columns(view, rows, newest), newest_us, moments_us)
    values = window_values(
        spine,
        moments_us,
        events,
        view.columns(rows),
        view.view.aggregates,
        view.view.windows_us,
        view.view.hop_us,
        as_happened=as_happened,
    )
    return Reading(values.reshape(len(view.view.columns), len(spine)), newest_us, moments_us)


def _latest_columns(view: CompiledView, rows: list[Row], newest: np.ndarray) -> np.ndarray:
    """The columns of the rows at `newest` (-1: none); each row is worked out once, however many moments want it."""
    wanted, inverse = np.unique(newest, return_inverse=True)
    columns = np.empty((len(view.view.columns), len(wanted)), dtype=object)
    for place, row in enumerate(wanted.tolist()):
        if row >= 0:
            columns[:, place] = view.latest(rows[row])
    return columns[:, inverse]
