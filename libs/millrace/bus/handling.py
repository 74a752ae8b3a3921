"""One batch from the handler's hands to acknowledged messages: attempts, the poison cut out, delays, dead letters."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace

from millrace.bus.backoff import Backoff
from millrace.bus.delays import Delays, Failure, Member, delayed
from millrace.bus.draining import stop_if_cancelled
from millrace.bus.effects import Effects
from millrace.bus.errors import BusUnavailable, MessageTooLarge, NotConsumed, policy_of
from millrace.bus.events import Batch, Earlier, Record, TopicPartition
from millrace.bus.ports import Bus
from millrace.bus.standing import Tally
from millrace.runtime.errors import Policy

log = logging.getLogger(__name__)

Handle = Callable[[Batch, Effects], Awaitable[None]]


class Stopping(Exception):
    """The worker is asked to stop while a batch waits to be tried again."""


class _NothingSucceeds(Exception):
    """So many parts of a batch failed, and none succeeded, that the store is held to blame."""


@dataclass(slots=True)
class _Parted:
    """A batch that is tried in parts: what succeeded, and how many parts failed before anything did."""

    effects: Effects
    succeeded: bool
    failures: int = 0
    failed: list[tuple[Record, Exception]] = field(default_factory=list)


class Handling:
    """Takes the effect of one batch at a time per partition; several partitions may call it side by side.

    At most `parallel` calls of the handler run at once. One that waits to be tried again holds no place.
    """

    def __init__(
        self,
        bus: Bus,
        member: Member,
        handle: Handle,
        *,
        max_attempts: int,
        parallel: int,
        delays: Delays | None,
        now_us: Callable[[], int],
    ) -> None:
        self._bus = bus
        self._member = member
        self._handle = handle
        self._max_attempts = max_attempts
        self._may_delay = delays is not None
        self._patience = delays or Delays()
        self._now_us = now_us
        self._places = asyncio.Semaphore(parallel)
        self._succeeded_s = 0.0
        self.delay_partitions = 1
        self.stop = asyncio.Event()
        self.tally = Tally()
        self.troubles: dict[TopicPartition, str] = {}

    async def work(self, batch: Batch) -> None:
        """1. effects, 2. produce. Raises Stopping, and what the handler raised with policy CRASH."""
        place = (batch.position_topic, batch.partition)
        effects = self._effects()
        try:
            await self._take_effect(batch, effects)
            try:
                await self._produce(batch, effects)
            except MessageTooLarge:
                await self._produce_alone(batch)
        finally:
            self.troubles.pop(place, None)
        self.tally.handled[batch.topic] += len(batch.records)

    async def turn_away(self, batch: Batch) -> None:
        """Of a topic that the group does not read (any more): what this group once gave up is nobody else's to miss."""
        error = NotConsumed(
            f"{self._member.group} does not read {batch.topic} (any more): its source is gone from the project, or its"
            " definition had not arrived yet; hand it back when it is read"
        )
        effects = self._effects()
        for record in batch.records:
            if record.earlier is not None and record.earlier.group == self._member.group:
                self._reject(record, effects, error, 0)
        try:
            await self._produce(batch, effects)
        finally:
            self.troubles.pop((batch.position_topic, batch.partition), None)

    def _effects(self, attempts: int = 1) -> Effects:
        return Effects(self._member.room, self._now_us, attempts, self._member.group)

    async def _try(self, batch: Batch, effects: Effects, attempts: int) -> None:
        """One attempt; its effects are taken when it succeeds."""
        taken = self._effects(attempts)
        async with self._places:
            await self._handle(batch, taken)
        self._succeeded_s = time.monotonic()
        effects.messages.extend(taken.messages)
        effects.rejected += taken.rejected

    async def _take_effect(self, batch: Batch, effects: Effects, spent_attempts: int = 0) -> None:
        """Handle `batch`, into `effects`; a poison in it is cut out."""
        backoff, attempts, failed_us = Backoff(), spent_attempts, 0
        since_s = probe_s = time.monotonic()
        while True:
            attempts += 1
            try:
                return await self._try(batch, effects, attempts)
            except Exception as error:
                policy = policy_of(error)
                if policy is Policy.CRASH:
                    raise
                failed_us = failed_us or self._now_us()
                out_of_attempts = attempts >= self._max_attempts
                if policy is Policy.REJECT or (out_of_attempts and policy is None and not self._may_delay):
                    return await self._cut(batch, effects, error, attempts)
                if not self._may_delay:
                    attempts -= policy is Policy.RETRY  # repeated for ever, and not counted
                elif out_of_attempts and time.monotonic() >= probe_s:
                    in_place_s = 0.0 if self._is_between_delays(batch) else self._patience.in_place_s
                    outlasted = time.monotonic() - since_s >= in_place_s
                    failure = Failure(error, attempts, failed_us)
                    rest = await self._give_way(batch, effects, failure, since_s, outlasted)
                    if rest is None:
                        return None
                    if outlasted:
                        batch, since_s = rest, time.monotonic()
                    probe_s = since_s + in_place_s
                await self._pause(batch, backoff, error)

    def _is_between_delays(self, batch: Batch) -> bool:
        """Whether it was delayed before and may be again: then it need not wait here for others to succeed."""
        done = (batch.records[0].earlier or Earlier()).delays
        return 0 < done < len(self._patience.steps_s)

    async def _cut(self, batch: Batch, effects: Effects, error: Exception, attempts: int) -> None:
        """Halve a batch that cannot be handled; a record that stands alone goes to the dead letters."""
        if len(batch.records) == 1:
            self._reject(batch.records[0], effects, error, attempts)
            return
        for half in _halves(batch):
            await self._take_effect(half, effects, spent_attempts=attempts)

    def _reject(self, record: Record, effects: Effects, error: Exception, attempts: int) -> None:
        log.warning("record %s:%d:%d rejected: %s", *record.first_place, error)
        reject = self._effects(attempts)
        reject.reject(record, type(error).__name__, str(error))
        effects.messages.extend(reject.messages)
        effects.rejected += 1

    async def _give_way(
        self, batch: Batch, effects: Effects, failure: Failure, since_s: float, outlasted: bool
    ) -> Batch | None:
        """Let the records wait that fail by themselves. What is left of the batch: all of it when nothing succeeds, as
        while a store is away; without its first record when that lasts too long; else nothing."""
        parted = _Parted(self._effects(failure.attempts), succeeded=self._succeeded_s > since_s)
        try:
            await self._part(batch, parted, failure)
        except _NothingSucceeds:
            parted.succeeded = False
        if parted.succeeded:
            for record, error in parted.failed:
                self._delay(record, parted.effects, replace(failure, error=error))
            effects.messages.extend(parted.effects.messages)
            effects.rejected += parted.effects.rejected
            return None
        if not outlasted:
            return batch
        self._delay(batch.records[0], effects, failure)
        return batch.cut(1, len(batch.records)) if len(batch.records) > 1 else None

    async def _part(self, batch: Batch, parted: _Parted, failure: Failure) -> None:
        """Of a batch that failed: each half by itself, down to the records. Raises _NothingSucceeds."""
        if len(batch.records) == 1:
            if policy_of(failure.error) is Policy.REJECT:
                self._reject(batch.records[0], parted.effects, failure.error, failure.attempts)
            else:
                parted.failed.append((batch.records[0], failure.error))
            return
        for half in _halves(batch):
            try:
                await self._try(half, parted.effects, failure.attempts)
                parted.succeeded = True
            except Exception as error:
                if policy_of(error) is Policy.CRASH:
                    raise
                if self.stop.is_set():
                    raise Stopping from error
                parted.failures += 1
                if parted.failures >= self._patience.probes and not parted.succeeded:
                    raise _NothingSucceeds from error
                await self._part(half, parted, replace(failure, error=error))

    def _delay(self, record: Record, effects: Effects, failure: Failure) -> None:
        """To the next delay, or to the dead letters after the last."""
        step = (record.earlier or Earlier()).delays
        if step >= len(self._patience.steps_s):
            self._reject(record, effects, failure.error, failure.attempts)
            return
        wait_s = self._patience.steps_s[step]
        partition = min(step, self.delay_partitions - 1)
        not_before_us = self._now_us() + int(wait_s * 1_000_000)
        effects.messages.append(delayed(record, self._member, partition, not_before_us, failure))
        self.tally.delayed[record.topic] += 1
        log.warning("record %s:%d:%d waits for %.0f s: %s", *record.first_place, wait_s, failure.error)

    async def _produce_alone(self, batch: Batch) -> None:
        """Of messages refused together: each batch's by themselves, down to the record whose own is too large.
        That one goes to the dead letters; the others are handled again, and their messages keep their ids."""
        effects = self._effects()
        await self._take_effect(batch, effects)
        try:
            await self._produce(batch, effects)
        except MessageTooLarge as error:
            if len(batch.records) > 1:
                for half in _halves(batch):
                    await self._produce_alone(half)
                return
            refused = self._effects()
            refused.reject(batch.records[0], type(error).__name__, str(error))
            await self._produce(batch, refused)

    async def _produce(self, batch: Batch, effects: Effects) -> None:
        backoff = Backoff()
        while effects.messages:
            try:
                await self._bus.publish(effects.messages)
                break
            except BusUnavailable as error:
                await self._pause(batch, backoff, error)
        self.tally.dead_letters[batch.topic] += effects.rejected

    async def _pause(self, batch: Batch, backoff: Backoff, error: Exception) -> None:
        """Wait before the next attempt. Raises Stopping when the worker is asked to stop."""
        stop_if_cancelled()
        self.tally.retries[batch.topic] += 1
        self.troubles[batch.position_topic, batch.partition] = f"{type(error).__name__}: {error}"
        log.warning("group %s retries: %s: %s", self._member.group, type(error).__name__, error)
        await wait_or_stop(backoff, self.stop)


async def wait_or_stop(backoff: Backoff, stop: asyncio.Event) -> None:
    """The next delay. Raises Stopping when `stop` is set before it is over."""
    waiting = asyncio.ensure_future(backoff.wait())
    stopping = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait([waiting, stopping], return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()
        stopping.cancel()
    if stop.is_set():
        raise Stopping


def _halves(batch: Batch) -> tuple[Batch, Batch]:
    middle = len(batch.records) // 2
    return batch.cut(0, middle), batch.cut(middle, len(batch.records))
