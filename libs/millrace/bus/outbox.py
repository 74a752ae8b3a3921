"""The outbox relay: what a transaction committed is published; what it did not commit never is."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

import msgspec

from millrace.bus.backoff import Backoff
from millrace.bus.draining import finish_in_hand, stop_if_cancelled
from millrace.bus.errors import policy_of
from millrace.bus.events import Event, Message
from millrace.bus.ports import Bus
from millrace.runtime.errors import Policy
from millrace.stores.sql import Database

log = logging.getLogger(__name__)

ROWS_PER_ROUND = 2000
LOOK_AGAIN_S = 2.0  # for rows of another process on the same database

_decode_headers = msgspec.msgpack.Decoder(list[tuple[str, bytes]]).decode


class OutboxRelay:
    """Publishes outbox rows in the order they were written, then deletes them.

    A crash between the two publishes a row again under the same event id. Rows of concurrent PostgreSQL
    transactions may change places; those of one transaction do not.
    """

    def __init__(self, database: Database, bus: Bus) -> None:
        self._database = database
        self._bus = bus
        self._turn = asyncio.Lock()
        self.published_records = 0
        self.state = "starting"

    @property
    def unpublished_records(self) -> int:
        """Rows committed and not yet published."""
        return self._database.unpublished_records

    async def run(self) -> None:
        """Until cancelled; the portion in hand is finished first."""
        backoff = Backoff()
        while True:
            stop_if_cancelled()
            self._database.outbox_changed.clear()
            try:
                await finish_in_hand(self.drain(), "outbox")
                self.state = "running"
                backoff.reset()
            except Exception as error:
                if policy_of(error) is not Policy.RETRY:
                    raise
                self.state = f"retrying: {error}"
                log.warning("outbox: %s", error)
                await backoff.wait()
                continue
            await self._wait()

    async def drain(self) -> None:
        """Publish until nothing waits. Raises BusUnavailable, StoreUnavailable."""
        while await self._round():
            pass

    async def _round(self) -> bool:
        """One portion; whether there may be more."""
        async with self._turn:
            async with self._database.read() as transaction:
                rows = await transaction.rows(
                    "SELECT seq, topic, part, message_key, headers, data FROM outbox ORDER BY seq LIMIT :limit",
                    {"limit": ROWS_PER_ROUND},
                )
            if not rows:
                return False
            await self._bus.publish([_message(row) for row in rows])
            # Only these: a row with a lower number may still be uncommitted on PostgreSQL.
            async with self._database.transaction() as transaction:
                await transaction.execute("DELETE FROM outbox WHERE seq = :seq", [{"seq": row["seq"]} for row in rows])
            self._database.mark_published(len(rows))
            self.published_records += len(rows)
            return len(rows) == ROWS_PER_ROUND

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(LOOK_AGAIN_S):
                await self._database.outbox_changed.wait()
        except TimeoutError:
            return


def _message(row: Mapping[str, Any]) -> Message:
    event = Event.from_headers(_decode_headers(row["headers"]), bytes(row["data"]))
    key = row["message_key"]
    return Message(row["topic"], event, key=None if key is None else bytes(key), partition=row["part"])
