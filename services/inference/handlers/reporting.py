"""serving.status: what this replica serves, at every change and every few seconds. Only the newest word counts."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from millrace.bus.errors import BusUnavailable
from millrace.bus.events import Event, Message, event_type, new_id
from millrace.bus.ports import Bus
from millrace.runtime.clock import wall_us
from millrace.wire.inference.v1 import events_pb2

from .metrics import Metrics
from .releases import READY, Releases, VariantState
from .serving import Serving

log = logging.getLogger(__name__)
TOPIC = "serving.status"
TYPE = event_type("inference", "serving", "reported")


class Reporter:
    """Publishes one status per model; a broker that is away costs reports, and the next one says it all."""

    def __init__(
        self,
        bus: Bus,
        serving: Serving,
        metrics: Metrics,
        *,
        replica: str,
        every_s: float,
        spool: Callable[[], tuple[int, int]],
    ) -> None:
        self._bus = bus
        self._serving = serving
        self._metrics = metrics
        self._replica = replica
        self._every_s = every_s
        self._spool = spool
        self._changed = asyncio.Event()

    @property
    def unpublished(self) -> int:
        """1 while a change is not reported."""
        return int(self._changed.is_set())

    def changed(self) -> None:
        """Something changed: report soon."""
        self._changed.set()

    async def run(self, releases: Releases) -> None:
        """Until cancelled."""
        while True:
            messages = [self._message(status, releases) for status in self.statuses(releases)]
            was_set = self._changed.is_set()
            self._changed.clear()
            try:
                await self._bus.publish(messages)
            except BusUnavailable as error:
                log.warning("serving.status is not published: %s", error)
                if was_set:
                    self._changed.set()
                await asyncio.sleep(min(1.0, self._every_s))
                continue
            await self._wait()

    def statuses(self, releases: Releases) -> list[events_pb2.ServingStatus]:
        """One per model; variants of the plan that serves, and of a newer one that is being loaded or failed."""
        spooled, dropped = self._spool()
        made = []
        for model, state in releases.states.items():
            live = self._serving.models.get(model)
            known = {v: VariantState(v, READY) for v in live.loaded} if live else {}
            known.update(state.variants)
            made.append(
                events_pb2.ServingStatus(
                    replica=self._replica,
                    project=state.plan.project,
                    model=model,
                    epoch=live.plan.epoch if live else (0 if state.plan.variants else state.plan.epoch),
                    variants=[
                        events_pb2.VariantStatus(version=s.version, state=s.state, reason=s.reason)
                        for _, s in sorted(known.items())
                    ],
                    reported_us=wall_us(),
                    spooled_records=spooled,
                    dropped_records=dropped,
                    requests=self._metrics.requests,
                    failures=self._metrics.failures,
                )
            )
        return made

    def _message(self, status: events_pb2.ServingStatus, releases: Releases) -> Message:
        plan = releases.states[status.model].plan
        event = Event(
            id=new_id(),
            type=TYPE,
            source=f"inference/{self._replica}",
            data=status.SerializeToString(),
            subject=self._replica,
            time_us=status.reported_us,
            causation_id=plan.event_id,
        )
        return Message(TOPIC, event, key=self._replica.encode())

    async def _wait(self) -> None:
        """Until a change, at most the longest silence."""
        try:
            async with asyncio.timeout(self._every_s):  # wait_for can swallow a cancellation in Python 3.11
                await self._changed.wait()
        except TimeoutError:
            return
