"""Labels into the history, and how far the history has come."""

from __future__ import annotations

import asyncio
from typing import Any

from google.protobuf.message import DecodeError
from millrace.bus.effects import Effects
from millrace.bus.events import Batch, Record
from millrace.runtime.forgotten import Forgotten
from millrace.wire.labeling.v1 import events_pb2

from services.labeling.domain.values import Label
from services.labeling.errors import BadRecord
from services.labeling.handlers.messages import CLOCK_TYPE, LABELS, label_of
from services.labeling.ports import History, LabelBook, Projects


class HistoryHandler:
    """Consumes `labels`, in a group of its own: the history does not hold up the labels."""

    def __init__(
        self, book: LabelBook, history: History, projects: Projects, forgotten: Forgotten | None = None
    ) -> None:
        self._forgotten = forgotten if forgotten is not None else Forgotten()
        self._book = book
        self._history = history
        self._projects = projects
        self._heard: dict[tuple[str, int], int] = {}
        self._moved = asyncio.Condition()

    async def start(self) -> None:
        """Remember how far the history was."""
        self._heard = dict(await self._book.history())

    async def handle(self, batch: Batch, effects: Effects) -> None:
        """Store the labels of a batch, then what its heartbeats say. A repeat changes nothing."""
        rows: list[tuple[str, str, Label]] = []
        heard: dict[tuple[str, int], int] = {}
        for record in batch.records:
            if record.event.type == CLOCK_TYPE:
                beat = _parsed(events_pb2.LabelHeartbeat, record)
                heard[beat.project, batch.partition] = beat.visible_us
            else:
                body = _parsed(events_pb2.Label, record)
                if not self._forgotten.is_example(
                    body.key.project, body.key.entity, body.key.moment_us, record.timestamp_ms * 1000
                ):
                    rows.append((body.key.project, record.event.id, label_of(body)))
        token = f"{batch.position_topic}:{batch.partition}:{batch.records[0].offset}:{batch.last_offset}"
        await self._history.append(rows, token)
        if heard:
            await self._book.mark_history(heard)
            async with self._moved:
                self._heard.update(heard)
                self._moved.notify_all()

    def watermark_us(self, project: str) -> int:
        """Every label visible by then is in the history; -1 while a partition was never heard of."""
        return min((self._heard.get((project, p), -1) for p in self._projects.partitions(LABELS)), default=-1)

    async def wait_for(self, project: str, visible_us: int, deadline_s: float) -> bool:
        """Whether the history holds every label up to `visible_us` within the deadline."""
        async with self._moved:
            try:
                async with asyncio.timeout(deadline_s):
                    await self._moved.wait_for(lambda: self.watermark_us(project) >= visible_us)
            except TimeoutError:
                return False
        return True


def _parsed(kind: Any, record: Record) -> Any:
    try:
        return kind.FromString(record.data)
    except DecodeError as error:
        raise BadRecord(f"{record.topic}:{record.partition}:{record.offset}: {error}") from error
