"""What a handler asks for while it handles one batch, and how records that fail become dead letters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import millrace
from millrace.bus.errors import MalformedEvent
from millrace.bus.events import (
    KEPT_PAYLOAD_BYTES,
    Earlier,
    Event,
    Message,
    Record,
    derive_id,
    event_type,
)
from millrace.bus.topics import deadletter_topic
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
    group: str = ""
    messages: list[Message] = field(default_factory=list)
    rejected: int = 0

    def publish(self, message: Message) -> None:
        """To be produced after the handler returns and before the offset is committed."""
        self.messages.append(message)

    def reject(self, record: Record, error: str, reason: str) -> None:
        """To the room's dead letters; `error` names the class of failure, `reason` is a sentence for a person."""
        letter = dead_letter(self.room, record, error, reason, self.attempts, self.now_us(), group=self.group)
        self.messages.append(letter)
        self.rejected += 1


def dead_letter(
    room: str, record: Record, error: str, reason: str, attempts: int, now_us: int, *, group: str = ""
) -> Message:
    """The message that takes `record` out of the way, with everything needed to hand it back. Of one that came back
    before it names the first place and the first failure, and counts all attempts; `attempts` are those of this time.

    Of a payload larger than `KEPT_PAYLOAD_BYTES` only the beginning is kept, for a person to look at; `payload_bytes`
    says how long it was, and `reason` that it was cut.
    """
    topic, partition, offset = record.first_place
    place = f"{topic}:{partition}:{offset}"
    earlier = record.earlier or Earlier()
    try:
        cause = record.event.id[:_KEPT_HEADER_BYTES]
    except MalformedEvent:
        cause = place
    payload, key = record.data[:KEPT_PAYLOAD_BYTES], (record.key or b"")[:_KEPT_KEY_BYTES]
    reason = reason[:_KEPT_REASON_CHARACTERS]
    if len(payload) < len(record.data):
        reason += f" (of {len(record.data)} bytes the first {len(payload)} are kept)"
    letter = DeadLetter(
        room=room,
        topic=topic,
        partition=partition,
        offset=offset,
        error=error,
        reason=reason,
        attempts=earlier.attempts + attempts,
        first_failed_us=earlier.first_failed_us or now_us,
        last_failed_us=now_us,
        handler_version=millrace.__version__,
        group=group,
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
        subject=place,
        time_us=now_us,
        causation_id=cause,
    )
    return Message(deadletter_topic(room), event, key=None if record.key is None else key)
