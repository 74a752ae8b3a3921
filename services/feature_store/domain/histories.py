"""History tables, and the parts of them that are asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from services.feature_store.domain.values import Position


@dataclass(frozen=True, slots=True)
class Table:
    """History of one source under one contract: column name and type of each field."""

    name: str
    project: str
    source: str
    fields: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Range:
    """Which history is read. `entities` None: of every entity; otherwise those whose `entity_fields` make one of the
    keys."""

    from_us: int
    to_us: int
    visible_to_us: int
    entity_fields: tuple[str, ...] = ()
    entities: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Census:
    """What a history table holds: rows per partition and their last offset; rows handed back, and rows in all.

    Rows are counted as they lie there: a repeat that the engine has not merged yet counts twice.
    """

    partitions: Mapping[int, tuple[int, int]]
    retried: int

    @property
    def rows(self) -> int:
        """Rows in all."""
        return self.retried + sum(rows for rows, _ in self.partitions.values())


@dataclass(frozen=True, slots=True)
class Stretch:
    """A part of history for a timeline: event times in [from, to), visible by then, offsets in (after, upto].

    `part` (i, n): only entities whose hash is i modulo n. A partition that `upto` does not name is left out; rows
    handed back from the dead letters have no place in the log and come whenever `after` is empty.
    """

    upto: Mapping[int, int]
    after: Mapping[int, int]
    from_us: int
    to_us: int
    visible_to_us: int
    entity_fields: tuple[str, ...]
    part: tuple[int, int] = (0, 1)


@dataclass(frozen=True, slots=True)
class Weight:
    """How much a stretch holds; `bytes` counts the named fields alone."""

    rows: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Extent:
    """What history holds of one partition: how many events, up to which position."""

    events: int
    position: Position
