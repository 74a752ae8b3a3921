"""What is too large for the broker is refused for good, and dead letters are never too large themselves."""

import pytest
from aiokafka.errors import KafkaTimeoutError, MessageSizeTooLargeError, RecordListTooLargeError
from millrace.bus.effects import Effects, dead_letter
from millrace.bus.errors import BusUnavailable, MessageTooLarge, policy_of
from millrace.bus.events import KEPT_PAYLOAD_BYTES, MAX_MESSAGE_BYTES, Batch, Event, Message, Record, new_id
from millrace.bus.kafka_clients import broker_errors
from millrace.bus.memory import MemoryBus
from millrace.bus.ports import TopicSpec
from millrace.bus.topics import deadletter_topic
from millrace.bus.worker import Worker
from millrace.runtime.errors import Policy
from millrace.wire.common.v1.common_pb2 import DeadLetter

from tests.contract.bus.support import running
from tests.support.poll import until

BROKER_BYTES = 1024 * 1024  # message.max.bytes, unless a cluster says otherwise


def message(data: bytes) -> Message:
    return Message("t", Event(new_id(), "type", "source", data), key=b"k")


@pytest.mark.parametrize("refusal", [MessageSizeTooLargeError, RecordListTooLargeError])
def test_a_message_that_is_too_large_is_not_sent_again(refusal: type[Exception]) -> None:
    with pytest.raises(MessageTooLarge) as caught, broker_errors("publishing"):
        raise refusal("5000000 bytes")
    assert policy_of(caught.value) is Policy.REJECT
    with pytest.raises(BusUnavailable), broker_errors("publishing"):
        raise KafkaTimeoutError


async def test_the_twin_refuses_as_the_producer_does() -> None:
    bus = MemoryBus()
    with pytest.raises(MessageTooLarge):
        await bus.publish([message(bytes(MAX_MESSAGE_BYTES))])


def letter_of(record: Record, reason: str = "broken") -> tuple[Message, DeadLetter]:
    made = dead_letter("r", record, "Broken", reason, 1, 0)
    return made, DeadLetter.FromString(made.event.data)


def test_a_dead_letter_keeps_a_record_whole_if_it_fits() -> None:
    _, letter = letter_of(Record("t", 0, 7, b"k", (("a", b"b"),), bytes(KEPT_PAYLOAD_BYTES), 0))
    assert (len(letter.payload), letter.payload_bytes, letter.reason) == (KEPT_PAYLOAD_BYTES,) * 2 + ("broken",)
    assert (letter.key, dict(letter.headers)) == (b"k", {"a": "b"})


def test_a_dead_letter_of_whatever_size_fits_into_a_message() -> None:
    large = bytes(5_000_000)
    headers = tuple((f"h{n}", large) for n in range(100))
    made, letter = letter_of(Record("t", 0, 7, large, headers, large, 0), "x" * 5_000_000)
    assert letter.payload == large[:KEPT_PAYLOAD_BYTES]
    assert letter.payload_bytes == 5_000_000
    assert letter.reason.endswith(f"(of 5000000 bytes the first {KEPT_PAYLOAD_BYTES} are kept)")
    in_headers = sum(len(name) + len(value) for name, value in made.event.to_headers())
    assert len(made.event.data) + len(made.key or b"") + in_headers < BROKER_BYTES


async def test_a_worker_passes_by_what_cannot_be_published_in_a_handler() -> None:
    """Its handler publishes by itself, as ingestion does; neighbours of the oversized record are not held up."""
    bus = MemoryBus()
    await bus.ensure_topics([TopicSpec("t", 1)])
    for data in (b"1", bytes(5_000_000), b"3"):
        bus.broker.append(message(data))
    seen: list[bytes] = []

    async def forward(batch: Batch, effects: Effects) -> None:
        await bus.publish([Message("out", record.event) for record in batch.records])
        seen.extend(record.data for record in batch.records)

    worker = Worker(bus, room="r", group="g", handle=forward, topics=["t"])
    async with running(worker.run):
        await until(lambda: worker.handled_records == 3 and worker.lag_records == 0)
    assert seen == [b"1", b"3"]
    (letter,) = [DeadLetter.FromString(record.data) for record in bus.records(deadletter_topic("r"))]
    assert (letter.error, letter.offset, letter.payload_bytes) == ("MessageTooLarge", 1, 5_000_000)
