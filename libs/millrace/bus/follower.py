"""`follow`: every process reads a whole compacted topic and is ready when it has caught up."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

from millrace.bus.backoff import Backoff
from millrace.bus.draining import stop_if_cancelled
from millrace.bus.errors import BusUnavailable, NotReady, policy_of
from millrace.bus.events import Record
from millrace.bus.ports import Bus, Reader
from millrace.runtime.errors import Policy

log = logging.getLogger(__name__)

POLL_WAIT_MS = 500
POLL_RECORDS = 1000


class Follower:
    """Applies every record of `topics`, in order per partition, from the start and then as they come.

    `apply` may meet a record again after the broker was away: it ignores what is not newer. A record that `apply`
    refuses is logged, counted in `rejected_records` and shown in `problem`; the topic goes on.
    """

    def __init__(self, bus: Bus, topics: Sequence[str], apply: Callable[[Record], Awaitable[None]]) -> None:
        self._bus = bus
        self._topics = tuple(topics)
        self._apply = apply
        self._ready = asyncio.Event()
        self._reader: Reader | None = None
        self.lag_records = 1  # not zero until the ends are known
        self.handled_records = 0
        self.rejected_records = 0
        self.problem = ""
        self.state = "starting"

    @property
    def ready(self) -> bool:
        """Whether everything that was there at the start has been applied. Once true it stays true."""
        return self._ready.is_set()

    async def wait_ready(self, deadline_s: float) -> None:
        """Until caught up. Raises NotReady after `deadline_s`."""
        try:
            async with asyncio.timeout(deadline_s):
                await self._ready.wait()
        except TimeoutError:
            raise NotReady(f"{', '.join(self._topics)}: not caught up after {deadline_s:g} s ({self.state})") from None

    async def learn_lag(self) -> None:
        """Ask the broker what waits now. Raises BusUnavailable."""
        if self._reader is not None:
            self.lag_records = max(self.lag_records, await self._reader.behind())

    def hurry(self) -> None:
        """Apply at once what waits, though it is being gathered."""
        if self._reader is not None:
            self._reader.hurry()

    async def run(self) -> None:
        """Until cancelled."""
        backoff = Backoff(cap_s=1.0)
        while True:
            stop_if_cancelled()
            reader = self._bus.reader(self._topics)
            try:
                await reader.start()
                self._reader = reader
                self.state = "running"
                backoff.reset()
                await self._follow(reader)
            except BusUnavailable as error:
                self.state = f"retrying: {error}"
                log.warning("following %s: %s", ", ".join(self._topics), error)
                await backoff.wait()
            finally:
                self._reader = None
                await self._close(reader)

    async def _follow(self, reader: Reader) -> None:
        while True:
            stop_if_cancelled()
            known = await reader.behind_known()
            self.lag_records = await reader.behind() if known is None else known
            if self.lag_records == 0:
                self._ready.set()
            batches = await reader.poll(POLL_RECORDS, POLL_WAIT_MS)
            self.lag_records = max(self.lag_records, sum(len(batch.records) for batch in batches))
            for batch in batches:
                for record in batch.records:
                    await self._apply_one(record)

    async def _apply_one(self, record: Record) -> None:
        backoff = Backoff()
        while True:
            stop_if_cancelled()
            try:
                await self._apply(record)
                break
            except Exception as error:
                place = f"{record.topic}:{record.partition}:{record.offset}"
                if policy_of(error) is Policy.CRASH:
                    raise
                self.problem = f"{place}: {type(error).__name__}: {error}"
                if policy_of(error) is not Policy.RETRY:
                    log.exception("record %s cannot be applied", place)
                    self.rejected_records += 1
                    break
                log.warning("record %s: %s; again", place, error)
                await backoff.wait()
        self.handled_records += 1

    async def _close(self, reader: Reader) -> None:
        try:
            await reader.stop()
        except BusUnavailable as error:
            log.warning("closing the reader of %s: %s", ", ".join(self._topics), error)
