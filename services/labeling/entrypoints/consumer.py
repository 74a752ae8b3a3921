"""The bus's way in: which handler consumes what, in which group."""

from __future__ import annotations

from collections.abc import Mapping

from millrace.bus.events import TopicPartition
from millrace.bus.ports import Bus
from millrace.bus.topics import retry_topic
from millrace.bus.worker import Worker

from services.labeling.adapters.labels_sql import SqlLabelBook
from services.labeling.handlers.data import DataHandler, starts
from services.labeling.handlers.history import HistoryHandler
from services.labeling.handlers.messages import LABELS, ROOM

HISTORY_BATCH_RECORDS = 20_000  # large inserts are what ClickHouse likes
LABELS_GATHER_MS = 200  # a label comes hours after its example: larger batches cost fewer transactions
HISTORY_GATHER_MS = 1000  # the spine waits for the history by itself


def data_worker(bus: Bus, handler: DataHandler, book: SqlLabelBook, batch_records: int) -> Worker:
    """Data topics into labels; its topics follow the definitions."""

    async def where_we_stand(fresh: list[TopicPartition]) -> Mapping[TopicPartition, int]:
        return starts(await book.positions(), fresh, retry_topic(ROOM))

    return Worker(
        bus,
        room=ROOM,
        group=f"{ROOM}.labels",
        handle=handler.handle,
        max_records=batch_records,
        start_offsets=where_we_stand,
        gather_ms=LABELS_GATHER_MS,
    )


def history_worker(bus: Bus, handler: HistoryHandler) -> Worker:
    """Labels into the history."""
    return Worker(
        bus,
        room=ROOM,
        group=f"{ROOM}.history",
        handle=handler.handle,
        topics=[LABELS],
        max_records=HISTORY_BATCH_RECORDS,
        gather_ms=HISTORY_GATHER_MS,
    )
