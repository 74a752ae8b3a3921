"""Doubles of what lies outside the room: history, labels, models, in lists."""

import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import pyarrow as pa
from millrace.definitions.keys import composite_key, entity_key
from millrace.definitions.model import Project
from millrace.runtime.errors import Unavailable
from millrace.stores.errors import StoreUnavailable

from services.feature_store.domain.consistency import CheckedRead, Finding, SampledRead
from services.feature_store.domain.lineage import ModelVersion
from services.feature_store.domain.snapshot import Manifest
from services.feature_store.domain.values import Position
from services.feature_store.domain.views import MOST_PARTITIONS
from services.feature_store.handlers.schemas import history_schema, timeline_schema
from services.feature_store.ports import (
    RETRIED,
    Census,
    Example,
    Extent,
    KeptObject,
    Range,
    ReadCounts,
    Stretch,
    Table,
    Tally,
    Weight,
)

HOUR_US = 3_600_000_000


@dataclass
class ListHistory:
    """History in a list: everything that was inserted, each event once. Ranges are left to the caller's rule."""

    rows: dict[Table, list[dict]] = field(default_factory=dict)
    inserts: list[int] = field(default_factory=list)
    failures: int = 0
    timelines: list[Stretch] = field(default_factory=list)

    async def ensure(self, table: Table) -> None:
        """Nothing to create."""
        self.rows.setdefault(table, [])

    async def positions(self, table: Table) -> dict[int, Position]:
        """By what is there."""
        found: dict[int, Position] = {}
        for row in self.rows[table]:
            if not row["_via"]:
                before = found.get(row["_partition"], Position(-1, 0))
                now = Position(row["_offset"], row["_visible_us"])
                found[row["_partition"]] = Position(*map(max, before, now))
        return found

    async def insert(self, table: Table, rows: pa.Table) -> None:
        """Append; fails `failures` times first."""
        if self.failures:
            self.failures -= 1
            raise StoreUnavailable("history is away")
        self.inserts.append(rows.num_rows)
        known = {row["_event_id"] for row in self.rows.setdefault(table, [])}
        self.rows[table] += [row for row in rows.to_pylist() if row["_event_id"] not in known]

    async def count(self, table: Table, span: Range) -> int:
        """Of the range, and of the entities."""
        found = [
            composite_key([row[name] for name in span.entity_fields])
            for row in self.rows.get(table, [])
            if span.from_us <= row["_event_us"] < span.to_us and row["_visible_us"] <= span.visible_to_us
        ]
        return sum(span.entities is None or key in span.entities for key in found)

    async def read(self, table: Table, fields: Sequence[str], span: Range) -> pa.Table:
        """All events visible by the range's end."""
        rows = [row for row in self.rows.get(table, []) if row["_visible_us"] <= span.visible_to_us]
        rows.sort(key=lambda row: (row["_event_us"], row["_event_id"]))
        types = dict(table.fields)
        return pa.Table.from_pylist(rows, schema=history_schema([(name, types[name]) for name in fields]))

    async def census(self, table: Table) -> Census:
        """By what is there."""
        found: dict[int, tuple[int, int]] = {}
        rows = self.rows.get(table, [])
        for row in rows:
            if not row["_via"]:
                count, last = found.get(row["_partition"], (0, -1))
                found[row["_partition"]] = (count + 1, max(last, row["_offset"]))
        return Census(found, sum(1 for row in rows if row["_via"]))

    async def extent(self, table: Table, label: str) -> Extent | None:
        """By what is there."""
        rows = self._labelled(table, label)
        if not rows:
            return None
        return Extent(len(rows), Position(max(r["_offset"] for r in rows), max(r["_visible_us"] for r in rows)))

    async def part(self, table, fields, label, upto, entity_fields, part) -> pa.Table:
        """The events of the part."""
        types = dict(table.fields)
        rows = []
        for row in self._labelled(table, label):
            key = composite_key([row[name] for name in entity_fields])
            if row["_offset"] <= upto and key is not None and zlib.crc32(key.encode()) % part[1] == part[0]:
                rows.append(row | {"_seq": row["_offset"] * MOST_PARTITIONS + row["_partition"], "_identity": 0})
        schema = timeline_schema([(name, types[name]) for name in fields])
        return pa.Table.from_pylist(rows, schema=schema.append(pa.field("_event_id", pa.string())))

    def _labelled(self, table: Table, label: str) -> list[dict]:
        rows = self.rows.get(table, [])
        if label == RETRIED:
            return [row for row in rows if row["_via"]]
        return [row for row in rows if not row["_via"] and row["_partition"] == int(label)]

    async def weigh(self, table: Table, fields: Sequence[str], stretch: Stretch) -> Weight:
        """Eight bytes a cell."""
        rows = len(self._within(table, stretch))
        return Weight(rows, rows * 8 * len(fields))

    async def cuts(self, table: Table, stretch: Stretch, pieces: int) -> list[int]:
        """Every so many events."""
        times = sorted(row["_event_us"] for row in self._within(table, stretch))
        return sorted({times[len(times) * i // pieces] for i in range(1, pieces)}) if times else []

    async def timeline(self, table: Table, fields: Sequence[str], stretch: Stretch) -> pa.Table:
        """The events of the stretch."""
        self.timelines.append(stretch)
        types = dict(table.fields)
        rows = [
            {
                **row,
                "_seq": row["_offset"] * MOST_PARTITIONS + row["_partition"],
                "_identity": zlib.crc32(row["_event_id"].encode()),
            }
            for row in self._within(table, stretch)
        ]
        return pa.Table.from_pylist(rows, schema=timeline_schema([(name, types[name]) for name in fields]))

    def _within(self, table: Table, stretch: Stretch) -> list[dict]:
        part, parts = stretch.part
        return [
            row
            for row in self.rows.get(table, [])
            if stretch.from_us <= row["_event_us"] < stretch.to_us
            and row["_visible_us"] <= stretch.visible_to_us
            and zlib.crc32(str([row[f] for f in stretch.entity_fields]).encode()) % parts == part
            and (
                not stretch.after
                if row["_via"]
                else stretch.after.get(row["_partition"], -1)
                < row["_offset"]
                <= stretch.upto.get(row["_partition"], -1)
            )
        ]


@dataclass
class ListErasing:
    """Deletion from a ListHistory."""

    history: ListHistory

    async def touched(self, table, field, entity, until_us, of):
        """As Erasing.touched."""
        found = {composite_key([r[name] for name in of]) for r in self._matching(table, field, entity, until_us)}
        return sorted(found - {None})

    async def events(self, table, entity_fields, entities, from_us):
        """As Erasing.events."""
        rows = [
            row
            for row in self.history.rows.get(table, [])
            if composite_key([row[name] for name in entity_fields]) in entities and row["_event_us"] >= from_us
        ]
        rows.sort(key=lambda row: (row["_partition"], row["_offset"]))
        return pa.Table.from_pylist(rows, schema=history_schema(table.fields))

    async def erase(self, project, source, field, entity, until_us):
        """As Erasing.erase."""
        erased = 0
        for table in self.history.rows:
            if (table.project, table.source) == (project, source):
                gone = self._matching(table, field, entity, until_us)
                erased += len(gone)
                self.history.rows[table] = [row for row in self.history.rows[table] if row not in gone]
        return erased

    async def erase_reads(self, project, entity):
        """As Erasing.erase_reads: reads are kept in the ListReads of a test, and not in history."""
        return 0

    async def expire(self, project, source, before_us):
        """As Erasing.expire."""
        expired = 0
        for table, rows in self.history.rows.items():
            if (table.project, table.source) == (project, source):
                self.history.rows[table] = [row for row in rows if row["_visible_us"] >= before_us]
                expired += len(rows) - len(self.history.rows[table])
        return expired

    def _matching(self, table, field, entity, until_us):
        rows = self.history.rows.get(table, [])
        return [r for r in rows if entity_key(r.get(field)) == entity and r["_visible_us"] <= until_us]


@dataclass
class ListSnapshots:
    """A SnapshotBook in memory."""

    manifests: dict[str, Manifest | None] = field(default_factory=dict)
    gone: dict[str, str] = field(default_factory=dict)

    async def note(self, digest, manifest):
        """As SnapshotBook.note."""
        self.manifests[digest] = manifest

    async def kept(self):
        """As SnapshotBook.kept."""
        return [KeptObject(digest, manifest) for digest, manifest in self.manifests.items() if digest not in self.gone]

    async def supersede(self, digest, by):
        """As SnapshotBook.supersede."""
        self.gone[digest] = by

    async def superseded_by(self, digest):
        """As SnapshotBook.superseded_by."""
        return self.gone.get(digest)


@dataclass
class ListReads:
    """Sampled reads in a list; results by read."""

    reads: list[SampledRead] = field(default_factory=list)
    checked: dict[str, CheckedRead] = field(default_factory=dict)

    async def append(self, reads: Sequence[SampledRead]) -> None:
        """Keep them."""
        self.reads += reads

    async def pending(self, since_us: int, until_us: int, limit: int) -> list[SampledRead]:
        """In the order logged."""
        found = [r for r in self.reads if r.id not in self.checked and since_us <= r.logged_us < until_us]
        return sorted(found, key=lambda r: (r.logged_us, r.id))[:limit]

    async def record(self, checked: Sequence[CheckedRead]) -> None:
        """Each once."""
        self.checked |= {one.read.id: one for one in checked}

    async def tallies(self, project: str, from_us: int, to_us: int) -> list[Tally]:
        """By feature; all on one day."""
        found: dict[str, Counter[int]] = {}
        largest: dict[str, float] = {}
        for finding in self.findings(project):
            if from_us <= finding.as_of_us < to_us:
                found.setdefault(finding.feature, Counter())[int(finding.outcome)] += 1
                largest[finding.feature] = max(finding.difference, largest.get(finding.feature, 0.0))
        return [Tally(name, "2024-01-01", dict(counts), largest[name]) for name, counts in sorted(found.items())]

    async def examples(self, project: str, from_us: int, to_us: int, limit: int) -> list[Example]:
        """None: those are the store's own affair."""
        return []

    async def counts(self, project: str, since_us: int) -> ReadCounts:
        """Of all."""
        skipped = sum(bool(one.skipped) for one in self.checked.values())
        return ReadCounts(len(self.checked) - skipped, skipped, len(self.reads) - len(self.checked))

    def findings(self, project: str = "shop") -> list[Finding]:
        """Of all checked reads."""
        return [f for one in self.checked.values() if one.read.project == project for f in one.findings]


@dataclass
class ListSpine:
    """Labelled examples from a list of (entity, moment)."""

    examples: list[tuple[str, int]] = field(default_factory=list)

    async def spine(self, project: str, from_us: int, to_us: int, as_of_us: int) -> pa.Table:
        """All of them, in no particular order."""
        entities, moments = zip(*self.examples, strict=True) if self.examples else ((), ())
        size = len(entities)
        return pa.table(
            {
                "entity": pa.array(entities, pa.string()),
                "moment_us": pa.array(moments, pa.int64()),
                "label": pa.array([float(int(entity[1:]) % 2) for entity in entities], pa.float64()),
                "outcome": pa.array(["observed"] * size, pa.string()),
                "origin": pa.array(["late_truth"] * size, pa.string()),
                "confidence": pa.array([1.0] * size, pa.float64()),
                "visible_us": pa.array(moments, pa.int64()),
            }
        )


@dataclass
class ListShadows:
    """Kept shadows in a dictionary, name to project."""

    kept: dict[str, str] = field(default_factory=dict)

    async def drop(self, project: str) -> list[str]:
        """Those of the project."""
        names = sorted(name for name, owner in self.kept.items() if owner == project)
        for name in names:
            del self.kept[name]
        return names


@dataclass
class ListRates:
    """Rates from the list of history."""

    history: ListHistory

    async def per_hour(self, table: Table, until_us: int) -> float | None:
        """Over the day before."""
        rows = self.history.rows.get(table, [])
        times = [r["_event_us"] for r in rows if until_us - 24 * HOUR_US <= r["_event_us"] < until_us]
        return len(times) / ((until_us - min(times)) / HOUR_US) if times else None


@dataclass
class ListModels:
    """What a registry would say, from lists; `problem` is raised instead."""

    projects: dict[int, Project] = field(default_factory=dict)
    known: list[ModelVersion] = field(default_factory=list)
    problem: str = ""

    async def definitions(self, project: str) -> dict[int, Project]:
        """By version."""
        if self.problem:
            raise Unavailable(self.problem)
        return self.projects

    async def versions(self, project: str, models: Sequence[str]) -> list[ModelVersion]:
        """Of these models."""
        return [version for version in self.known if version.model in models]
