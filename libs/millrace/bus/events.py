"""CloudEvents 1.0 in Kafka's binary mode, and the records and messages that carry them."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from types import MappingProxyType
from typing import Any

import msgspec

from millrace.bus.errors import MalformedEvent

Headers = Iterable[tuple[str, bytes]]
TopicPartition = tuple[str, int]

PROTOBUF = "application/protobuf"
JSON = "application/json"
FOREIGN = "foreign"
RETRY_TOPIC_HEADER = "retry_topic"
MAX_MESSAGE_BYTES = 4 * 1024 * 1024  # no client of ours sends more in one message; a broker may take less
KEPT_PAYLOAD_BYTES = 512 * 1024  # of a record put aside: half of what a Kafka broker takes unless told otherwise

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NAMESPACE = uuid.UUID("6d696c6c-7261-4365-8000-6576656e7473")  # fixed for ever: derived ids hang on it
_SPECVERSION = ("ce_specversion", b"1.0")
_NO_EXTENSIONS: Mapping[str, str] = MappingProxyType({})


def derive_id(cause_id: str, handler: str, ordinal: int = 0) -> str:
    """The id of the `ordinal`-th event that `handler` makes of the event `cause_id`: the same at every repeat."""
    return str(uuid.uuid5(_NAMESPACE, f"{cause_id}\n{handler}\n{ordinal}"))


def new_id() -> str:
    """A fresh id that sorts by time (the layout of a version 7 UUID)."""
    milliseconds = time.time_ns() // 1_000_000
    raw = bytearray(milliseconds.to_bytes(6, "big") + os.urandom(10))
    raw[6] = (raw[6] & 0x0F) | 0x70
    raw[8] = (raw[8] & 0x3F) | 0x80
    return str(uuid.UUID(bytes=bytes(raw)))


def event_type(room: str, noun: str, verb: str, version: int = 1) -> str:
    """`millrace.<room>.<noun>.<past-tense verb>.v<version>`."""
    return f"millrace.{room}.{noun}.{verb}.v{version}"


def format_time(time_us: int) -> str:
    """RFC 3339 text in UTC with microseconds."""
    second, microsecond = divmod(time_us, 1_000_000)
    return f"{_format_second(second)}.{microsecond:06d}Z"


@lru_cache(maxsize=4096)
def _format_second(second: int) -> str:
    # Neighbouring events share their second, hardly ever their microsecond.
    return (_EPOCH + timedelta(seconds=second)).replace(tzinfo=None).isoformat(timespec="seconds")


@lru_cache(maxsize=4096)
def parse_time(text: str) -> int:
    """Microseconds since the epoch of an RFC 3339 text; MalformedEvent when it is not one or has no offset."""
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            raise ValueError("no offset")
        return (moment - _EPOCH) // timedelta(microseconds=1)
    except (ValueError, OverflowError) as error:
        raise MalformedEvent(f"ce_time {text!r} is not an RFC 3339 time with offset: {error}") from error


@dataclass(frozen=True, slots=True)
class Event:
    """A CloudEvent 1.0. `extensions` are plain headers: names in lower case, none that begins with `ce_`."""

    id: str
    type: str
    source: str
    data: bytes
    subject: str = ""
    time_us: int = 0
    causation_id: str = ""
    actor: str = ""
    traceparent: str = ""
    content_type: str = PROTOBUF
    extensions: Mapping[str, str] = field(default_factory=lambda: _NO_EXTENSIONS)

    def to_headers(self) -> list[tuple[str, bytes]]:
        """Kafka headers of the binary mode; empty optional attributes are left out."""
        headers = [
            _SPECVERSION,
            ("ce_id", self.id.encode()),
            ("ce_type", self.type.encode()),
            ("ce_source", self.source.encode()),
            ("content-type", self.content_type.encode()),
        ]
        if self.time_us:
            headers.append(("ce_time", format_time(self.time_us).encode()))
        if self.subject:
            headers.append(("ce_subject", self.subject.encode()))
        if self.causation_id:
            headers.append(("ce_causationid", self.causation_id.encode()))
        if self.actor:
            headers.append(("ce_actor", self.actor.encode()))
        if self.traceparent:
            headers.append(("traceparent", self.traceparent.encode()))
        headers += [(name, value.encode()) for name, value in self.extensions.items()]
        return headers

    @classmethod
    def from_headers(cls, headers: Headers, data: bytes) -> Event:
        """The event that `headers` describe; MalformedEvent when a required attribute is missing or not UTF-8."""
        try:
            texts = {name: value.decode() for name, value in headers}
        except UnicodeDecodeError as error:
            raise MalformedEvent(f"a header is not UTF-8: {error}") from error
        try:
            identity = (texts.pop("ce_id"), texts.pop("ce_type"), texts.pop("ce_source"))
        except KeyError as error:
            raise MalformedEvent(f"header {error.args[0]} is missing") from error
        if not all(identity):
            raise MalformedEvent("ce_id, ce_type and ce_source must not be empty")
        moment = texts.pop("ce_time", "")
        texts.pop("ce_specversion", None)
        return cls(
            *identity,
            data=data,
            time_us=parse_time(moment) if moment else 0,
            subject=texts.pop("ce_subject", ""),
            causation_id=texts.pop("ce_causationid", ""),
            actor=texts.pop("ce_actor", ""),
            traceparent=texts.pop("traceparent", ""),
            content_type=texts.pop("content-type", PROTOBUF),
            extensions=MappingProxyType(texts),
        )


@dataclass(frozen=True, slots=True)
class Message:
    """What is to be published. Without `partition` the key decides (murmur2, as Kafka's own clients do)."""

    topic: str
    event: Event
    key: bytes | None = None
    partition: int | None = None


@dataclass(frozen=True, slots=True)
class Earlier:
    """What is known of a record that came back: where it was at first, what was tried, and by which consumer group.
    -1, 0 and "": not known."""

    partition: int = -1
    offset: int = -1
    attempts: int = 0
    first_failed_us: int = 0
    delays: int = 0
    group: str = ""


class Record(msgspec.Struct, frozen=True, eq=False, gc=False):
    """What was read. A record handed back through a retry topic names its first topic in `topic` and the topic
    that it was read from in `via`; `partition` and `offset` are those of the topic it was read from, and `earlier`
    says where it was at first.

    A struct, because one is made per record and group: a frozen dataclass takes ten times as long to make.
    """

    topic: str
    partition: int
    offset: int
    key: bytes | None
    headers: Sequence[tuple[str, bytes]]
    data: bytes
    timestamp_ms: int
    via: str = ""
    earlier: Earlier | None = None
    _event: list[Event] = msgspec.field(default_factory=list)

    @property
    def event(self) -> Event:
        """The event, decoded once. A producer that sets no `ce_` header gets the type `foreign` and an id made of
        the coordinates. Raises MalformedEvent."""
        if not self._event:
            self._event.append(self._decode())
        return self._event[0]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Record) and self._facts() == other._facts()

    def _facts(self) -> tuple[Any, ...]:
        """Everything but the decoded event."""
        where = (self.topic, self.partition, self.offset, self.via)
        return (*where, self.key, tuple(self.headers), self.data, self.timestamp_ms)

    @property
    def first_place(self) -> tuple[str, int, int]:
        """Topic, partition and offset where the record was at first, as far as is known."""
        if self.earlier is None or self.earlier.offset < 0:
            return self.topic, self.partition, self.offset
        return self.topic, self.earlier.partition, self.earlier.offset

    @property
    def size_bytes(self) -> int:
        """Payload and key; headers are small, and counting them would cost more than it tells."""
        return len(self.data) + len(self.key or b"")

    @property
    def position_topic(self) -> str:
        """The topic to which `partition` and `offset` belong: the one to remember positions by."""
        return self.via or self.topic

    def header(self, name: str) -> str:
        """The text of the header `name`, or an empty string."""
        for candidate, value in self.headers:
            if candidate == name:
                return value.decode(errors="replace")
        return ""

    def _decode(self) -> Event:
        if any(name.startswith("ce_") for name, _ in self.headers):
            return Event.from_headers(self.headers, self.data)
        coordinates = ":".join(map(str, self.first_place))
        extensions = {name: value.decode(errors="replace") for name, value in self.headers}
        return Event(
            id=coordinates,
            type=FOREIGN,
            source=self.topic,
            data=self.data,
            time_us=self.timestamp_ms * 1000,
            content_type=extensions.pop("content-type", JSON),
            extensions=MappingProxyType(extensions),
        )


@dataclass(frozen=True, slots=True)
class Batch:
    """Records of one partition in the order of their offsets. `via` as in Record. `made` is where a reader may leave
    what it makes of the batch, for the other groups of the process that get the same batch."""

    topic: str
    partition: int
    records: tuple[Record, ...]
    via: str = ""
    made: dict[Any, Any] = field(default_factory=dict, compare=False, repr=False)

    @property
    def position_topic(self) -> str:
        """The topic to which `partition` and the records' offsets belong."""
        return self.via or self.topic

    @property
    def last_offset(self) -> int:
        """Offset of the last record."""
        return self.records[-1].offset

    def cut(self, start: int, stop: int) -> Batch:
        """The records `[start:stop]` as a batch of their own."""
        return self.with_records(self.records[start:stop])

    def with_records(self, records: tuple[Record, ...]) -> Batch:
        """A batch of the same place with other records."""
        return Batch(self.topic, self.partition, records, self.via)

    def portions(self, max_bytes: int) -> Iterator[Batch]:
        """The batch in order, in parts of at most `max_bytes`; a record larger than that comes alone."""
        if sum([len(record.data) + len(record.key or b"") for record in self.records]) <= max_bytes:
            yield self  # nearly always, and then it has to be cheap
            return
        start = size = 0
        for index, record in enumerate(self.records):
            if index > start and size + record.size_bytes > max_bytes:
                yield self.cut(start, index)
                start, size = index, 0
            size += record.size_bytes
        yield self.cut(start, len(self.records))
