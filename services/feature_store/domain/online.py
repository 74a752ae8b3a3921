"""What a batch of events does to the packed rows of a view."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from millrace.aggregates import NEVER_US, Latest, Lifted, merge_rows, window_start

from services.feature_store.domain.views import CompiledView, Row, Selection, sequence


@dataclass(slots=True)
class Events:
    """Decoded events of one partition in the order of their offsets; int64 arrays as long as `rows`."""

    rows: list[Row]
    ids: list[str]
    event_us: np.ndarray
    visible_us: np.ndarray
    offsets: np.ndarray
    partition: int

    def __len__(self) -> int:
        return len(self.rows)

    def after(self, offset: int) -> Events:
        """The events beyond `offset`."""
        if not len(self) or self.offsets[0] > offset:
            return self
        return self.take(np.flatnonzero(self.offsets > offset))

    def take(self, places: np.ndarray) -> Events:
        """The events at `places`."""
        chosen = places.tolist()
        return Events(
            [self.rows[i] for i in chosen],
            [self.ids[i] for i in chosen],
            self.event_us[places],
            self.visible_us[places],
            self.offsets[places],
            self.partition,
        )

    def unseen(self, seen: set[str]) -> Events:
        """The first event of each id that is not in `seen`."""
        first: dict[str, int] = {}
        for place, one in enumerate(self.ids):
            if one not in seen:
                first.setdefault(one, place)
        return self.take(np.array(list(first.values()), dtype=np.int64))

    @classmethod
    def none(cls) -> Events:
        """No events."""
        nothing = np.zeros(0, dtype=np.int64)
        return cls([], [], nothing, nothing, nothing, 0)

    def late(self, lateness_us: int) -> list[int]:
        """Places of the events that became visible more than `lateness_us` after they happened."""
        return np.flatnonzero(self.visible_us - self.event_us > lateness_us).tolist()


@dataclass(frozen=True, slots=True)
class Decoded:
    """One batch: its events, the newest heartbeat in it (0: none), its last offset, heartbeats and rejects included.

    `label` names the partition in the online store; `via` the retry topic that handed the records back, if one did.
    """

    events: Events
    heartbeat_us: int
    last_offset: int
    label: str
    via: str = ""


def new_rows(view: CompiledView, events: Events, chosen: Selection, old: dict[str, bytes | None]) -> dict[str, bytes]:
    """Entity to packed row, for the entities whose row changes; `old` holds the rows of all chosen entities.

    Tiles that no window can reach any more are dropped, `lateness` after they left the longest one, by the time at
    which the row's own newest event became visible: what a row holds depends on the log, not on how batches were cut.
    Raises ExpressionError, RowError.
    """
    if not chosen.entities:
        return {}
    if view.layout is None:
        return _latest_rows(view, events, chosen, old)
    entities = list(dict.fromkeys(chosen.entities))
    place_of = {entity: i for i, entity in enumerate(entities)}
    event_us = events.event_us[chosen.places]
    seq = sequence(events.offsets[chosen.places], events.partition)
    rows = [events.rows[i] for i in chosen.places.tolist()]
    owner = np.array([place_of[e] for e in chosen.entities], dtype=np.int64)
    packed = merge_rows(
        view.layout,
        [old[entity] for entity in entities],
        Lifted(owner, event_us, view.lift(rows, event_us, seq)),
        hop_us=view.view.hop_us,
        keep_from_us=keep_from_us(view, owner, events.visible_us[chosen.places], len(entities)),
    )
    return dict(zip(entities, packed, strict=True))


def keep_from_us(view: CompiledView, owner: np.ndarray, visible_us: np.ndarray, rows: int) -> np.ndarray:
    """int64[rows]: the tiles of each row that start before then are dropped; `owner` is the row of each event."""
    newest_us = np.full(rows, NEVER_US, dtype=np.int64)
    np.maximum.at(newest_us, owner, visible_us)
    return window_start(newest_us, max(view.view.windows_us), view.view.hop_us) - view.lateness_us


def _latest_rows(
    view: CompiledView, events: Events, chosen: Selection, old: dict[str, bytes | None]
) -> dict[str, bytes]:
    newest: dict[str, tuple[int, int, int]] = {}
    seq = sequence(events.offsets, events.partition).tolist()
    event_us = events.event_us.tolist()
    for place, entity in zip(chosen.places.tolist(), chosen.entities, strict=True):
        mine = (event_us[place], seq[place], place)
        if entity not in newest or mine > newest[entity]:
            newest[entity] = mine
    layout = view.latest_layout
    changed: dict[str, bytes] = {}
    for entity, (at_us, number, place) in newest.items():
        row = old[entity]
        if row is None or layout.order(row) < (at_us, number):
            changed[entity] = layout.pack(Latest(at_us, number, view.latest(events.rows[place])))
    return changed
