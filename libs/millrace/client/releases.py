"""Act when a model is released or rolled back: an async iterator over the topic `models.releases`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

from millrace.bus.errors import BusUnavailable
from millrace.bus.events import Record
from millrace.bus.kafka import KafkaBus
from millrace.bus.ports import Bus, Reader
from millrace.wire.registry.v1 import events_pb2

TOPIC = "models.releases"
POLL_RECORDS = 500
POLL_WAIT_MS = 500
_BACKOFF_S = 0.5


@dataclass(frozen=True, slots=True)
class Release:
    """A model's new serving plan and the event that carried it."""

    plan: events_pb2.ServingPlan
    event_id: str
    causation_id: str


class Releases:
    """`async for release in Releases(bootstrap)`; plans that are not newer than the last one seen are left out.

    `from_start` also gives each model's current plan first; otherwise only what comes from now on. A broker that goes
    away is waited for. `security`: SASL and TLS, by the names of `millrace.bus.security`.
    """

    def __init__(
        self,
        bootstrap_servers: str = "",
        *,
        project: str = "",
        from_start: bool = False,
        bus: Bus | None = None,
        security: Mapping[str, str] | None = None,
    ) -> None:
        self._bus = bus or KafkaBus(bootstrap_servers, "millrace-releases", security)
        self._project = project
        self._from_start = from_start
        self._epochs: dict[str, int] = {}

    async def __aiter__(self) -> AsyncIterator[Release]:
        silent = not self._from_start
        while True:
            reader = self._bus.reader([TOPIC])
            try:
                await reader.start()
                async for release in self._read(reader, silent):
                    yield release
            except BusUnavailable:
                # What was seen before is known by its epoch, so reading again from the start repeats nothing.
                silent = silent and not self._epochs
                await asyncio.sleep(_BACKOFF_S)
            finally:
                await reader.stop()

    async def _read(self, reader: Reader, silent: bool) -> AsyncIterator[Release]:
        while True:
            if silent and await reader.behind() == 0:
                silent = False
            for batch in await reader.poll(POLL_RECORDS, POLL_WAIT_MS):
                for record in batch.records:
                    release = self._newer(record)
                    if release is not None and not silent:
                        yield release

    def _newer(self, record: Record) -> Release | None:
        if not record.data:
            return None
        plan = events_pb2.ServingPlan.FromString(record.data)
        if plan.epoch <= self._epochs.get(plan.model, -1) or self._project not in ("", plan.project):
            return None
        self._epochs[plan.model] = plan.epoch
        return Release(plan, record.event.id, record.event.causation_id)
