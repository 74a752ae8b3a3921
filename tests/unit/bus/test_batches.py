"""Messages packed into batches: each once, in order per partition, within the bounds; too large is told first."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiokafka.errors import MessageSizeTooLargeError
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.record.default_records import DefaultRecordBatch
from hypothesis import given
from hypothesis import strategies as st
from millrace.bus.batches import partition_of, send_packed
from millrace.bus.events import MAX_MESSAGE_BYTES, Event, Message
from millrace.bus.memory import MemoryBroker

BATCH_BYTES = 2_000


@dataclass
class Recorder:
    """Takes packed batches as a producer does, and reads them as a broker would."""

    partitions: int = 3
    sent: list[tuple[str, int, bytes]] = field(default_factory=list)

    async def partitions_for(self, topic: str) -> set[int]:
        return set(range(self.partitions))

    def create_batch(self) -> BatchBuilder:
        return BatchBuilder(BATCH_BYTES, 0)

    async def send_batch(self, batch: BatchBuilder, topic: str, *, partition: int) -> asyncio.Future[Any]:
        assert batch.closed()
        self.sent.append((topic, partition, bytes(batch._build())))
        done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done

    def records(self) -> dict[tuple[str, int], list[tuple[bytes | None, bytes]]]:
        found: dict[tuple[str, int], list[tuple[bytes | None, bytes]]] = {}
        for topic, partition, raw in self.sent:
            batch = DefaultRecordBatch(raw)
            assert batch.validate_crc()
            found.setdefault((topic, partition), []).extend((record.key, record.value or b"") for record in batch)
        return found


def message(topic: str, key: bytes | None, data: bytes, partition: int | None = None) -> Message:
    return Message(topic, Event("i", "t", "s", data), key, partition)


messages = st.builds(
    message,
    topic=st.sampled_from(["a", "b"]),
    key=st.none() | st.binary(max_size=8),
    data=st.binary(max_size=BATCH_BYTES + 500),
    partition=st.none() | st.integers(0, 2),
)


@given(st.lists(messages, min_size=1, max_size=40))
def test_every_message_goes_once_and_in_order(wanted: list[Message]) -> None:
    producer = Recorder()
    waiting = asyncio.run(send_packed(producer, wanted))  # type: ignore[arg-type]  # as much of a producer as is used
    assert len(waiting) == len(producer.sent) <= len(wanted)
    found = producer.records()
    assert sum(map(len, found.values())) == len(wanted)
    for topic in ("a", "b"):
        for partition in range(3):
            there = [m for m in wanted if m.topic == topic and m.key is not None and _place(m) == partition]
            keyed = [(m.key, m.event.data) for m in there]
            got = found.get((topic, partition), [])
            assert [pair for pair in got if pair[0] is not None] == keyed


def _place(message: Message) -> int:
    """Where the bus's twin puts it."""
    return MemoryBroker()._partition_of(message, 3)


def test_what_is_too_large_is_told_before_anything_is_sent() -> None:
    producer = Recorder()
    large = message("a", b"k", b"x" * MAX_MESSAGE_BYTES)
    with pytest.raises(MessageSizeTooLargeError, match=f"at most {MAX_MESSAGE_BYTES}"):
        asyncio.run(send_packed(producer, [message("a", b"k", b"small"), large]))  # type: ignore[arg-type]
    header = Message("a", Event("i", "t", "s", b"", extensions={"x": "y" * MAX_MESSAGE_BYTES}), b"k")
    with pytest.raises(MessageSizeTooLargeError):
        asyncio.run(send_packed(producer, [header]))  # type: ignore[arg-type]
    assert producer.sent == []


def test_without_a_key_any_partition_will_do() -> None:
    assert {partition_of(message("a", None, b""), [4, 5]) for _ in range(64)} == {4, 5}
