"""From the spool to the topic `predictions`: in order, again until acknowledged, then forgotten."""

from __future__ import annotations

import asyncio
import logging

from millrace.bus.backoff import Backoff
from millrace.bus.errors import BusUnavailable
from millrace.bus.ports import Bus
from millrace.runtime.forgotten import Forgotten

from .log_records import is_forgotten, message_of
from .log_spool import Chunk, Spool

log = logging.getLogger(__name__)
LINGER_S = 0.02  # a batch of what arrives meanwhile costs the broker and us much less than single records


class LogRelay:
    """Publishes what the spool holds. A crash between publishing and remembering repeats records under their ids."""

    def __init__(
        self, spool: Spool, bus: Bus, *, source: str, batch_records: int, forgotten: Forgotten | None = None
    ) -> None:
        self._forgotten = forgotten if forgotten is not None else Forgotten()
        self._spool = spool
        self._bus = bus
        self._source = source
        self._batch_records = batch_records
        self._written = asyncio.Event()
        self.published_records = 0
        self.problem = ""

    def wake(self) -> None:
        """Something was written."""
        self._written.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self._written.clear()
            await self.drain()
            await self._written.wait()
            await asyncio.sleep(LINGER_S)

    async def drain(self) -> None:
        """Until the spool is empty; waits for a broker that is away."""
        while (chunk := self._spool.read(self._batch_records)) is not None:
            await self._publish(chunk)
            self._spool.commit(chunk)
            self.published_records += len(chunk.payloads)

    async def _publish(self, chunk: Chunk) -> None:
        payloads = chunk.payloads
        if self._forgotten:
            payloads = [payload for payload in payloads if not is_forgotten(payload, self._forgotten)]
        messages = [message_of(payload, self._source) for payload in payloads]
        backoff = Backoff()
        while True:
            try:
                await self._bus.publish(messages)
            except BusUnavailable as error:
                if not self.problem:
                    log.warning("predictions wait in the spool: %s", error)
                self.problem = f"predictions wait in the spool: {error}"
                await backoff.wait()
            else:
                self.problem = ""
                return
