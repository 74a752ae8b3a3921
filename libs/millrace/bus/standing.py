"""How the partitions of a worker stand: what waits, and for how long."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from millrace.bus.delays import Member
from millrace.bus.events import TopicPartition


@dataclass(slots=True)
class Tally:
    """What happened since start, by the topic that a record came from at first."""

    handled: Counter[str] = field(default_factory=Counter)
    retries: Counter[str] = field(default_factory=Counter)
    delayed: Counter[str] = field(default_factory=Counter)
    dead_letters: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class Standing:
    """One partition. `oldest_s` is the age, by its timestamp, of the oldest record that was read and is not handled;
    0 where there is none."""

    topic: str
    partition: int
    lag_records: int
    oldest_s: float


@dataclass(frozen=True, slots=True)
class Report:
    """What a worker says of itself."""

    member: Member
    tally: Tally
    partitions: Sequence[Standing]


def standings(
    places: Iterable[TopicPartition],
    following: Mapping[TopicPartition, int],
    ends: Mapping[TopicPartition, int],
    oldest_us: Mapping[TopicPartition, int],
    now_us: int,
) -> list[Standing]:
    """Of each of `places`: `following` are the offsets to handle next, `ends` those after the last record."""
    return [
        Standing(
            topic=place[0],
            partition=place[1],
            lag_records=max(0, ends.get(place, 0) - following[place]) if place in following else 0,
            oldest_s=max(0.0, (now_us - oldest_us[place]) / 1_000_000) if place in oldest_us else 0.0,
        )
        for place in sorted(places)
    ]
