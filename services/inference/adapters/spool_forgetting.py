"""One entity out of the prediction log's spool: not told any more, and its file deleted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from millrace.runtime.errors import Unavailable
from millrace.runtime.forgetting import Obeyed
from millrace.wire.ingestion.v1.forgetting_pb2 import Forget

from .log_relay import LogRelay
from .log_spool import Spool

PATIENCE_S = 10.0
LOOK_AGAIN_S = 0.05


class SpoolForgetting:
    """Obeys requests; what the spool holds of the entity is skipped by the relay, which knows them by then."""

    def __init__(self, spool: Spool, relay: LogRelay, now_us: Callable[[], int]) -> None:
        self._spool = spool
        self._relay = relay
        self._now_us = now_us

    async def obey(self, request: Forget) -> Obeyed:
        """Idempotent. Raises Unavailable while the broker does not take what lies in the same files."""
        done = Obeyed()
        if request.phase == Forget.DONE or not request.HasField("example"):
            return done
        until = self._spool.turn()
        waiting = self._spool.unpublished_records
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + PATIENCE_S
        while not self._spool.has_left(until):
            if loop.time() > deadline_s:
                raise Unavailable(f"{self._spool.unpublished_records} records wait in the spool: {self._relay.problem}")
            self._relay.wake()
            await asyncio.sleep(LOOK_AGAIN_S)
        how = f"{waiting} records went through the relay, which leaves out the entity's; their files are deleted"
        done.add("inference: spool", 0, self._now_us(), how)
        return done
