"""Records that come back: what they carry, when they are due, and under which topic the room's handler sees them.

A record comes back in one of two ways, both with its first topic, place and attempts in headers: through
`retry.<room>`, where a person hands dead letters back, and through `delayed.<room>`, where a worker whose effects
commute puts what it shall try again later. There one partition holds one delay, so that the first is always due first.
"""

from __future__ import annotations

from dataclasses import dataclass

from msgspec import structs

from millrace.bus.events import RETRY_TOPIC_HEADER, Batch, Earlier, Event, Message, Record
from millrace.bus.topics import delayed_topic, retry_topic
from millrace.wire.common.v1.common_pb2 import DeadLetter

_PARTITION = "retry_partition"
_OFFSET = "retry_offset"
_ATTEMPTS = "retry_attempts"
_FIRST_FAILED = "retry_first_failed_us"
_NOT_BEFORE = "retry_not_before_us"
_GROUP = "retry_group"  # who alone handles it again
_FROM = "retry_from"  # the group that gave it up, though all of the room's may handle it again
_STEP = "retry_step"
_ERROR = "retry_error"
_OURS = frozenset(
    (RETRY_TOPIC_HEADER, _PARTITION, _OFFSET, _ATTEMPTS, _FIRST_FAILED, _NOT_BEFORE, _GROUP, _STEP, _ERROR, _FROM)
)
_ERROR_CHARACTERS = 500


@dataclass(frozen=True, slots=True)
class Delays:
    """Declared by a worker whose effects commute: the order of two records, also of one key, does not matter to it.

    A record that failed `max_attempts` times in place waits for `steps_s[0]`, then for `steps_s[1]` and so on, and
    becomes a dead letter when it fails after the last. Where nothing of a batch succeeds the failure is more likely
    the store's than the records': the batch then waits in place, and gives up its first record every `in_place_s`. So
    does one that would become a dead letter.
    """

    steps_s: tuple[float, ...] = (5.0, 30.0, 120.0, 600.0)
    in_place_s: float = 30.0
    probes: int = 16  # attempts on parts of a batch that may fail, with no success, before the store is held to blame


@dataclass(frozen=True, slots=True)
class Member:
    """Whose work it is: the room's name in topics, and its consumer group."""

    room: str
    group: str


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a record could not be handled, how often it was tried this time, and since when."""

    error: Exception
    attempts: int
    first_failed_us: int


def delayed(record: Record, member: Member, partition: int, not_before_us: int, failure: Failure) -> Message:
    """The message that lets `record` wait in a partition of its room's delayed topic: the same event, with what is
    known of it in headers."""
    topic, first_partition, offset = record.first_place
    earlier = record.earlier or Earlier()
    known = {
        RETRY_TOPIC_HEADER: topic,
        _PARTITION: str(first_partition),
        _OFFSET: str(offset),
        _ATTEMPTS: str(earlier.attempts + failure.attempts),
        _FIRST_FAILED: str(earlier.first_failed_us or failure.first_failed_us),
        _NOT_BEFORE: str(not_before_us),
        _STEP: str(earlier.delays + 1),
        _GROUP: member.group,
        _ERROR: f"{type(failure.error).__name__}: {failure.error}"[:_ERROR_CHARACTERS],
    }
    kept = tuple((name, value) for name, value in record.headers if name not in _OURS)
    event = _Verbatim("", "", "", record.data, raw=kept + tuple((name, text.encode()) for name, text in known.items()))
    return Message(delayed_topic(member.room), event, key=record.key, partition=partition)


def handing_back(letter: DeadLetter) -> dict[str, str]:
    """The headers of a dead letter's record on its way back through `retry.<room>`. Its delays begin again."""
    kept = {name: value for name, value in letter.headers.items() if name not in _OURS}
    return kept | {
        RETRY_TOPIC_HEADER: letter.topic,
        _PARTITION: str(letter.partition),
        _OFFSET: str(letter.offset),
        _ATTEMPTS: str(letter.attempts),
        _FIRST_FAILED: str(letter.first_failed_us),
        _FROM: letter.group,
    }


def split_due(batch: Batch, member: Member, now_us: int) -> tuple[Batch | None, Batch | None]:
    """(what may be handled, what has to wait) of a batch. What another group delayed does not make this one wait."""
    if batch.topic != delayed_topic(member.room):
        return batch, None
    for index, record in enumerate(batch.records):
        if due_us(record) > now_us and record.header(_GROUP) in ("", member.group):
            return (batch.cut(0, index) if index else None), batch.cut(index, len(batch.records))
    return batch, None


def due_us(record: Record) -> int:
    """When the record may be tried again, microseconds; 0: at once."""
    return _number(record, _NOT_BEFORE)


def came_back(batch: Batch, member: Member) -> list[Batch]:
    """The batches that the member's handler shall see: of a topic by which records come back, each run of records
    under its first topic; what another group of the room delayed is left out."""
    if batch.topic not in (retry_topic(member.room), delayed_topic(member.room)):
        return [batch]
    runs: list[list[Record]] = []
    for record in batch.records:
        if record.header(_GROUP) not in ("", member.group):
            continue
        restored = _restored(record, batch.topic)
        if runs and runs[-1][0].topic == restored.topic:
            runs[-1].append(restored)
        else:
            runs.append([restored])
    return [Batch(run[0].topic, batch.partition, tuple(run), via=batch.topic) for run in runs]


def _restored(record: Record, via: str) -> Record:
    """As it was at first."""
    kept = tuple((name, value) for name, value in record.headers if name not in _OURS)
    earlier = Earlier(
        partition=_number(record, _PARTITION, -1),
        offset=_number(record, _OFFSET, -1),
        attempts=_number(record, _ATTEMPTS),
        first_failed_us=_number(record, _FIRST_FAILED),
        delays=_number(record, _STEP),
        group=record.header(_GROUP) or record.header(_FROM),
    )
    topic = record.header(RETRY_TOPIC_HEADER) or via
    return structs.replace(record, topic=topic, headers=kept, via=via, earlier=earlier, _event=[])


@dataclass(frozen=True, slots=True)
class _Verbatim(Event):
    """A record's own headers: a foreign one must not gain an identity on its way, a binary one not be recoded."""

    raw: tuple[tuple[str, bytes], ...] = ()

    def to_headers(self) -> list[tuple[str, bytes]]:
        """As they came."""
        return list(self.raw)


def _number(record: Record, header: str, otherwise: int = 0) -> int:
    text = record.header(header)
    return int(text) if text.lstrip("-").isdigit() else otherwise
