"""The table of topics beside the broker's: what is missing, and what is kept otherwise than the table says."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from millrace.bus.ports import TopicSpec
from millrace.bus.topics import BROKER_TIME, TIME, TopicRow, TopicTable, segment_hours

OFFSETS = "__"
"""Kafka's own topics begin so."""
FOREVER_MS = -1
IN_SYNC = "min.insync.replicas"


@dataclass(frozen=True, slots=True)
class TopicState:
    """One topic as the broker keeps it. `retention_ms` -1: for ever; `segment_ms` and `replicas` 0: not known; `time`
    is Kafka's word for whose time its records carry; `in_sync` is how many replicas have a record when `acks=all` says
    so, at the least."""

    name: str
    partitions: int
    retention_ms: int
    cleanup: str
    segment_ms: int = 0
    time: str = ""
    replicas: int = 0
    in_sync: int = 1


@dataclass(frozen=True, slots=True)
class Drift:
    """One difference and its fix, a command or a sentence. `harmful` where records are lost, mixed up or not taken."""

    topic: str
    what: str
    table: str
    broker: str
    fix: str
    harmful: bool = True


def row_of(table: TopicTable, topic: str) -> TopicRow | None:
    """The row that speaks of `topic`: the exact one, else the pattern that fits."""
    for row in sorted(table.rows, key=lambda row: "{" in row.pattern):
        if re.fullmatch(re.sub(r"\\{\w+\\}", r"[^.]+", re.escape(row.pattern)), topic):
            return row
    return None


def expected(table: TopicTable, rooms: Sequence[str], present: Sequence[str]) -> list[TopicSpec]:
    """Topics that shall be there: the static ones, each room's, and those of projects that are there already."""
    specs = {spec.name: spec for spec in [*table.static(), *(s for room in rooms for s in table.for_room(room))]}
    for name in present:
        row = row_of(table, name)
        if row is not None and name not in specs:
            specs[name] = TopicSpec(name, row.partitions, row.retention_hours, row.compact, row.broker_time)
    return [specs[name] for name in sorted(specs)]


def drifts(specs: Sequence[TopicSpec], states: Mapping[str, TopicState], bootstrap: str) -> list[Drift]:
    """Every difference, by topic."""
    found: list[Drift] = []
    for spec in specs:
        state = states.get(spec.name)
        if state is None:
            fix = f"MILLRACE_KAFKA_BOOTSTRAP={bootstrap} python -m infra.kafka, or start the room that owns it"
            found.append(Drift(spec.name, "topic", "there", "missing", fix))
        else:
            found += [*_partitions(spec, state, bootstrap), *_kept(spec, state, bootstrap)]
            found += _copied(spec, state, bootstrap)
    return found


def strangers(table: TopicTable, present: Sequence[str]) -> list[str]:
    """Topics that no row speaks of, Kafka's own left out."""
    return sorted(name for name in present if not name.startswith(OFFSETS) and row_of(table, name) is None)


def _partitions(spec: TopicSpec, state: TopicState, bootstrap: str) -> list[Drift]:
    if state.partitions == spec.partitions:
        return []
    if state.partitions > spec.partitions:
        fix = f"write `partitions: {state.partitions}` into the table: partitions cannot be taken away"
        # More than the table says is how production grows; nothing goes wrong but a new cluster made of this table.
        return [Drift(spec.name, "partitions", str(spec.partitions), str(state.partitions), fix, harmful=False)]
    fix = (
        f"kafka-topics.sh --bootstrap-server {bootstrap} --alter --topic {spec.name} --partitions {spec.partitions}"
        " (while its producers and readers rest: keys change their partition)"
    )
    return [Drift(spec.name, "partitions", str(spec.partitions), str(state.partitions), fix)]


def _copied(spec: TopicSpec, state: TopicState, bootstrap: str) -> list[Drift]:
    """Where all replicas but one have fallen behind, `acks=all` means that one: what it took is lost with it."""
    if state.replicas < 2 or state.in_sync > 1:
        return []
    fix = f"{_altering(spec, bootstrap)} {IN_SYNC}=2"
    if state.replicas == 2:
        fix += " (with two replicas, either broker's absence then stops writing: three are better)"
    return [Drift(spec.name, "acknowledged by", f"2 of {state.replicas}", f"1 of {state.replicas}", fix)]


def _altering(spec: TopicSpec, bootstrap: str) -> str:
    return f"kafka-configs.sh --bootstrap-server {bootstrap} --alter --topic {spec.name} --add-config"


def _kept(spec: TopicSpec, state: TopicState, bootstrap: str) -> list[Drift]:
    alter = _altering(spec, bootstrap)
    cleanup = "compact" if spec.compact else "delete"
    found = []
    if set(state.cleanup.split(",")) != {cleanup}:
        fix = f"{alter} cleanup.policy={cleanup}"
        found.append(Drift(spec.name, "cleanup", cleanup, state.cleanup, fix))
    wanted_ms = FOREVER_MS if spec.retention_hours is None else spec.retention_hours * 3_600_000
    if not spec.compact and state.retention_ms != wanted_ms:
        longer = wanted_ms != FOREVER_MS and (state.retention_ms == FOREVER_MS or state.retention_ms > wanted_ms)
        fix = f"{alter} retention.ms={wanted_ms}"
        found.append(
            Drift(spec.name, "retention", _hours(wanted_ms), _hours(state.retention_ms), fix, harmful=not longer)
        )
    return found + _let_go(spec, state, alter)


def _let_go(spec: TopicSpec, state: TopicState, alter: str) -> list[Drift]:
    """What decides when the bytes of a record are gone."""
    found = []
    if spec.retention_hours is not None and not spec.compact:
        rolled_ms = segment_hours(spec.retention_hours * 3_600_000_000) * 3_600_000
        if state.segment_ms > rolled_ms:  # then a forgotten entity is there for longer than its proof says
            fix = f"{alter} segment.ms={rolled_ms}"
            found.append(Drift(spec.name, "segment", _hours(rolled_ms), _hours(state.segment_ms), fix))
    if spec.broker_time and state.time not in ("", BROKER_TIME):
        found.append(Drift(spec.name, "time", "the broker's", state.time, f"{alter} {TIME}={BROKER_TIME}"))
    return found


def _hours(milliseconds: int) -> str:
    return "forever" if milliseconds == FOREVER_MS else f"{milliseconds / 3_600_000:g} h"
