"""What all clients over aiokafka share: bounded calls, errors, records, ends."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from operator import itemgetter
from typing import Any, TypeVar

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import (
    KafkaError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
)

from millrace.bus.errors import BusUnavailable, MessageTooLarge
from millrace.bus.events import Batch, Record

log = logging.getLogger(__name__)

T = TypeVar("T")

_VALUE = itemgetter(1)

CALL_TIMEOUT_S = 15.0  # no broker call may hang longer; the caller retries with backoff
CLOSE_TIMEOUT_S = 5.0
PROBE_AFTER_S = 5.0  # silence after which a broker is asked whether it is still there
FETCH_BYTES = 4 * 1024 * 1024


@contextmanager
def broker_errors(what: str) -> Iterator[None]:
    """Turn aiokafka's failures into BusUnavailable, or MessageTooLarge where a repeat cannot help."""
    try:
        yield
    except (MessageSizeTooLargeError, RecordListTooLargeError) as error:
        raise MessageTooLarge(f"{what}: {error}") from error
    except (KafkaError, ConnectionError, TimeoutError) as error:
        raise BusUnavailable(f"{what}: {type(error).__name__}: {error}") from error
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        # aiokafka cancelled a task of its own and let us have it: nobody asked us to stop.
        raise BusUnavailable(f"{what}: given up by the client") from error


async def bounded(call: Awaitable[T], what: str, timeout_s: float = CALL_TIMEOUT_S) -> T:
    """`call` with a deadline and our errors."""
    with broker_errors(what):
        async with asyncio.timeout(timeout_s):
            return await call


@asynccontextmanager
async def admin_of(client: Mapping[str, Any]) -> AsyncIterator[AIOKafkaAdminClient]:
    """An administrator's connection for a block; `client` are a Kafka client's settings. Raises BusUnavailable."""
    admin = AIOKafkaAdminClient(**client)
    try:
        await bounded(admin.start(), "connecting")
        yield admin
    finally:
        await asyncio.shield(admin.close())


async def close_client(stop: Awaitable[None], client: AIOKafkaClient, what: str) -> None:
    """Stop a consumer or producer, and close its connections even where stopping fails or hangs."""
    stopping = asyncio.ensure_future(stop)
    done, _ = await asyncio.wait([stopping], timeout=CLOSE_TIMEOUT_S)
    if not done:
        stopping.cancel()  # not awaited: it may refuse, and there is nothing left to wait for
        log.warning("%s: not done after %.0f s; its connections are closed", what, CLOSE_TIMEOUT_S)
    elif stopping.cancelled() or stopping.exception() is not None:
        log.warning("%s: %r", what, None if stopping.cancelled() else stopping.exception())
    else:
        return
    await client.close()


def to_batches(polled: Mapping[TopicPartition, Sequence[ConsumerRecord]]) -> list[Batch]:
    """Our batches of what aiokafka's getmany answered; None values become empty bytes."""
    return [
        Batch(place.topic, place.partition, tuple(map(_to_record, records)))
        for place, records in polled.items()
        if records
    ]


def _to_record(record: ConsumerRecord) -> Record:
    headers = record.headers
    if None in map(_VALUE, headers):
        headers = tuple((name, value or b"") for name, value in headers)
    return Record(
        record.topic,
        record.partition,
        record.offset,
        record.key,
        headers,
        record.value or b"",
        record.timestamp,
    )


class Ends:
    """Asks where partitions end, over a connection of its own: a broker answers the requests of one connection in turn,
    and a consumer's connection is taken by its fetch for as long as nothing comes."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._settings = settings
        self._consumer: AIOKafkaConsumer | None = None
        self._connecting = asyncio.Lock()

    async def of(self, places: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        """The offset after the last record of each. Raises BusUnavailable."""
        consumer = await self._connected()
        try:
            return await bounded(consumer.end_offsets(list(places)), "asking for the ends") if places else {}
        except BusUnavailable:
            if self._consumer is consumer:
                await self.stop()
            raise

    async def stop(self) -> None:
        """Close; the next question connects again."""
        async with self._connecting:  # nobody may come to a connection that was opened behind our back
            consumer, self._consumer = self._consumer, None
            if consumer is not None:
                await close_client(consumer.stop(), consumer._client, "closing who asks for ends")

    async def _connected(self) -> AIOKafkaConsumer:
        async with self._connecting:
            if self._consumer is None:
                consumer = AIOKafkaConsumer(enable_auto_commit=False, **self._settings)
                try:
                    await bounded(consumer.start(), "connecting")
                except BaseException:
                    await close_client(consumer.stop(), consumer._client, "closing who asks for ends")
                    raise
                self._consumer = consumer
            return self._consumer
