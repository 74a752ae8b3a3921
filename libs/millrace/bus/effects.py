"""What a handler asks for while it handles one batch, and how records that fail become dead letters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from msgspec import structs

from millrace.bus.errors import MalformedEvent
from millrace.bus.events import (
    KEPT_PAYLOAD_BYTES,
    RETRY_TOPIC_HEADER,
    Batch,
    Event,
    Message,
    Record,
    derive_id,
    event_type,
)
from millrace.bus.topics import deadletter_topic, retry_topic
from millrace.wire.common.v1.common_pb2 import DeadLetter

# What a dead letter keeps of a record's other parts, so that it is never larger than what the broker takes. Records of
# the platform stay far below.
_KEPT_KEY_BYTES = 32 * 1024
_KEPT_HEADERS = 32
_KEPT_HEADER_BYTES = 4 * 1024
_KEPT_REASON_CHARACTERS = 4 * 1024


@dataclass(slots=True)
class Effects:
    """Given to the handler of a batch; taken when it returns, dropped when it raises."""

    room: str
    now_us: Callable[[], int]
    attempts: int = 1
    messages: list[Message] = field(default_factory=list)
    rejected: int = 0

    def publish(self, message: Message) -> None:
        """To be produced after the handler returns and before the offset is committed."""
        self.messages.append(message)

    def reject(self, record: Record, error: str, reason: str) -> None:
        """To the room's dead letters; `error` names the class of failure, `reason` is a sentence for a person."""
        letter = dead_letter(self.room, record, error, reason, self.attempts, self.now_us())
        self.messages.append(letter)
        self.rejected += 1


def dead_letter(room: str, record: Record, error: str, reason: str, attempts: int, now_us: int) -> Message:
    """The message that takes `record` out of the way, with everything needed to hand it back.

    Of a payload larger than `KEPT_PAYLOAD_BYTES` only the beginning is kept, for a person to look at; `payload_bytes`
    says how long it was, and `reason` that it was cut.
    """
    try:
        cause = record.event.id[:_KEPT_HEADER_BYTES]
    except MalformedEvent:
        cause = f"{record.topic}:{record.partition}:{record.offset}"
    payload, key = record.data[:KEPT_PAYLOAD_BYTES], (record.key or b"")[:_KEPT_KEY_BYTES]
    reason = reason[:_KEPT_REASON_CHARACTERS]
    if len(payload) < len(record.data):
        reason += f" (of {len(record.data)} bytes the first {len(payload)} are kept)"
    letter = DeadLetter(
        room=room,
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        error=error,
        reason=reason,
        attempts=attempts,
        first_failed_us=now_us,
        key=key,
        payload=payload,
        payload_bytes=len(record.data),
        headers={
            name[:_KEPT_HEADER_BYTES]: value[:_KEPT_HEADER_BYTES].decode(errors="replace")
            for name, value in record.headers[:_KEPT_HEADERS]
        },
    )
    event = Event(
        id=derive_id(cause, f"{room}.deadletter"),
        type=event_type(room, "record", "rejected"),
        source=f"millrace/{room}",
        data=letter.SerializeToString(),
        subject=f"{record.topic}:{record.partition}:{record.offset}",
        time_us=now_us,
        causation_id=cause,
    )
    return Message(deadletter_topic(room), event, key=None if record.key is None else key)


def handed_back(batch: Batch, room: str) -> list[Batch]:
    """The batches that the room's handler shall see: of a retry topic each run of records under its first topic."""
    retry = retry_topic(room)
    if batch.topic != retry:
        return [batch]
    runs: list[list[Record]] = []
    for record in batch.records:
        topic = record.header(RETRY_TOPIC_HEADER)
        kept = tuple((name, value) for name, value in record.headers if name != RETRY_TOPIC_HEADER)
        restored = structs.replace(record, topic=topic or retry, headers=kept, via=retry, _event=[])
        if runs and runs[-1][0].topic == restored.topic:
            runs[-1].append(restored)
        else:
            runs.append([restored])
    return [Batch(run[0].topic, batch.partition, tuple(run), via=retry) for run in runs]
