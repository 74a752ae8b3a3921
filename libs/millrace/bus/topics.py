"""The one table of topics (`infra/kafka/topics.yaml`), read."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from millrace.bus.ports import TopicSpec

TABLE_VARIABLE = "MILLRACE_TOPICS"
TIME, BROKER_TIME = "message.timestamp.type", "LogAppendTime"  # as Kafka says it
_PLACE_IN_REPOSITORY = Path("infra") / "kafka" / "topics.yaml"


def raw_topic(project: str, source: str) -> str:
    """Where producers put events of a source."""
    return f"raw.{project}.{source}"


def data_topic(project: str, source: str) -> str:
    """Where checked and stamped events of a source are."""
    return f"data.{project}.{source}"


def deadletter_topic(room: str) -> str:
    """Records that a room could not handle."""
    return f"deadletter.{room}"


def retry_topic(room: str) -> str:
    """The way back in for a room's dead letters."""
    return f"retry.{room}"


def delayed_topic(room: str) -> str:
    """Records that a room tries again later."""
    return f"delayed.{room}"


def segment_hours(retention_us: int) -> int:
    """Hours after which a segment is closed. Kafka deletes whole segments: a record outlives its retention by one."""
    return min(24, max(1, retention_us // 3_600_000_000 // 7))


@dataclass(frozen=True, slots=True)
class TopicRow:
    """One row of the table. `pattern` may hold `{project}`, `{source}` or `{room}`."""

    pattern: str
    owner: str
    key: str
    payload: str
    readers: tuple[str, ...]
    partitions: int
    retention_hours: int | None
    compact: bool
    broker_time: bool

    def spec(self, **names: str) -> TopicSpec:
        """The topic with its names filled in."""
        return TopicSpec(
            self.pattern.format(**names), self.partitions, self.retention_hours, self.compact, self.broker_time
        )


@dataclass(frozen=True, slots=True)
class TopicTable:
    """All rows."""

    rows: tuple[TopicRow, ...]

    def static(self) -> list[TopicSpec]:
        """Topics that exist from the start."""
        return [row.spec() for row in self.rows if "{" not in row.pattern]

    def for_project(
        self, project: str, sources: Sequence[str], kept_hours: Mapping[str, int] | None = None
    ) -> list[TopicSpec]:
        """Topics that a project brings; `kept_hours` by source where it says itself how long its events are kept."""
        rows = [row for row in self.rows if "{project}" in row.pattern]
        found = []
        for source in sources:
            hours = (kept_hours or {}).get(source, 0)
            specs = [row.spec(project=project, source=source) for row in rows]
            found += [replace(spec, retention_hours=hours) for spec in specs] if hours else specs
        return found

    def for_room(self, room: str, *, delays: bool = False) -> list[TopicSpec]:
        """A room's dead letters and their way back; with `delays` also where it lets records wait."""
        rows = [row for row in self.rows if "{room}" in row.pattern]
        return [row.spec(room=room) for row in rows if delays or not row.pattern.startswith("delayed.")]


def load_topics(path: Path | None = None) -> TopicTable:
    """The table at `path`, else at $MILLRACE_TOPICS, else in the repository around the working folder or this file.

    Raises FileNotFoundError when there is none, ValueError when a row is not understood.
    """
    document = yaml.safe_load((path or _find_table()).read_text(encoding="utf-8"))
    defaults = document.get("defaults", {})
    return TopicTable(tuple(_row(pattern, {**defaults, **row}) for pattern, row in document["topics"].items()))


def _row(pattern: str, row: Mapping[str, Any]) -> TopicRow:
    retention = row["retention"]
    if not (isinstance(retention, int) or retention in ("compact", "forever")):
        raise ValueError(f"topic {pattern}: retention is hours, `compact` or `forever`, not {retention!r}")
    return TopicRow(
        pattern=pattern,
        owner=row["owner"],
        key=row["key"],
        payload=row["payload"],
        readers=tuple(row["readers"]),
        partitions=int(row["partitions"]),
        retention_hours=retention if isinstance(retention, int) else None,
        compact=retention == "compact",
        broker_time=row.get("time") == "broker",
    )


def _find_table() -> Path:
    named = os.environ.get(TABLE_VARIABLE)
    if named:
        return Path(named)
    for start in (Path.cwd(), Path(__file__).resolve().parent):
        for folder in (start, *start.parents):
            if (folder / _PLACE_IN_REPOSITORY).is_file():
                return folder / _PLACE_IN_REPOSITORY
    raise FileNotFoundError(f"no {_PLACE_IN_REPOSITORY} above the working folder; set {TABLE_VARIABLE}")
