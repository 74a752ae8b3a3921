"""A lane is the one ordered way of a source to its data topic: repeats are dropped, times stamped, acks awaited.

Whatever waits while the broker answers goes out together next, so single events share round trips. Heartbeats take the
same way, which is why they never overtake an event.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from aiokafka.partitioner import murmur2
from millrace.bus.events import Message
from millrace.bus.ports import Bus
from millrace.bus.topics import data_topic
from millrace.runtime.errors import RoomError, Unavailable

from services.ingestion.domain.contracts import Contract, Refusal, Row, Violation
from services.ingestion.domain.expectations import Finding
from services.ingestion.domain.ids import RecentIds
from services.ingestion.domain.profiles import Window, window_at
from services.ingestion.domain.times import visible_us
from services.ingestion.errors import LaneFull
from services.ingestion.handlers import messages
from services.ingestion.handlers.judge import Judged
from services.ingestion.handlers.watch import SourceWatch
from services.ingestion.ports import Tails

log = logging.getLogger(__name__)

MAX_APPEND_EVENTS = 4_000  # of one produce: bounds what one failure makes uncertain
MAX_EMPTY_WINDOWS = 64  # accounts of nothing after a long jump of the clock; older ones would tell nobody anything
RETRY_AFTER_MS = 50
GATHER_S = 0.002  # between small appends: at 1,250 single events a second it halves what broker and client do for each
SMALL_EVENTS = 64  # an append of fewer is worth gathering
OBSERVED_AT_ONCE = 256  # events of small appends whose profile is taken together: numpy's cost is per call
OBSERVED_BYTES = 1024 * 1024  # that they may hold meanwhile
BEFORE_THE_CLOCK_US = -1  # where events are counted that nobody can place: the window that ends at 0

ACCEPTED, DUPLICATE, QUARANTINED = "accepted", "duplicate", "quarantined"


class Outcome(NamedTuple):
    """What became of one event."""

    id: str
    kind: str
    field: str = ""
    reason: str = ""


@dataclass(slots=True)
class Flow:
    """Calls that come one behind the other: where one has failed, those behind it fail as well."""

    failure: Exception | None = None


@dataclass(slots=True)
class _Work:
    """Events of one call, then a heartbeat at `heartbeat_us` (0: none) for partitions whose last time is before
    `idle_us`: one produce, so no time is told without the events that came before it."""

    done: asyncio.Future[list[Outcome]]
    events: Sequence[Judged] = ()
    origin: tuple[str, str] = ("", "")
    heartbeat_us: int = 0
    idle_us: int = 0
    flow: Flow | None = None


@dataclass(slots=True)
class _Append:
    """One produce under way."""

    messages: list[Message] = field(default_factory=list)
    outcomes: list[list[Outcome]] = field(default_factory=list)
    fresh: dict[str, None] = field(default_factory=dict)
    counted: list[Judged] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class MostWaiting:
    """What may wait for the broker in one lane."""

    events: int
    size_bytes: int


Count = Callable[["Lane", Sequence[Outcome], int], None]


def no_count(lane: Lane, outcomes: Sequence[Outcome], unknown_fields: int) -> None:
    """Counts nothing."""


CountFindings = Callable[["Lane", Sequence[Finding]], None]


def no_findings(lane: Lane, findings: Sequence[Finding]) -> None:
    """Counts nothing."""


class Lane:
    """Appends to `data.<project>.<source>`; `open` first. Used from one event loop."""

    def __init__(
        self, project: str, contract: Contract, bus: Bus, tails: Tails, recent_ids: int, most: MostWaiting
    ) -> None:
        self.project = project
        self.contract = contract
        self.window_width_us = 0
        self.closed_windows: deque[Window] = deque(maxlen=4 * MAX_EMPTY_WINDOWS)
        self.handled_events = 0
        self.waiting_events = 0
        self.count: Count = no_count
        self.count_findings: CountFindings = no_findings
        self.watch = SourceWatch(contract.source)
        self._topic = data_topic(project, contract.source.name)
        self._bus = bus
        self._tails = tails
        self._recent_ids = recent_ids
        self._most = most
        self._waiting_bytes = 0
        self._queue: deque[_Work] = deque()
        self._wake = asyncio.Event()
        self._ids = RecentIds(recent_ids)
        self._last_us: dict[int, int] = {}
        self._uncertain_messages = 0
        self._task: asyncio.Task[None] | None = None
        self._is_closed = False
        self._appended_s = 0.0
        self._window: Window | None = None
        self._unobserved: list[Judged] = []
        self._unobserved_bytes = 0

    @property
    def window(self) -> Window | None:
        """The open window, with everything that was appended so far."""
        self._observe()
        return self._window

    @window.setter
    def window(self, window: Window | None) -> None:
        self._window = window

    def forget(self, texts: Collection[str]) -> None:
        """The open window and the open days show none of these texts any more."""
        window = self.window
        for broken in window.broken.values() if window is not None else ():
            if broken.example in texts:
                broken.example = ""
        self.watch.forget(texts)

    @property
    def name(self) -> str:
        """The source's name."""
        return self.contract.source.name

    async def open(self) -> None:
        """Reads what the topic already holds and starts. Raises BusUnavailable."""
        await self._recover(self._recent_ids)
        self._task = asyncio.create_task(self._run(), name=f"lane {self._topic}")

    async def close(self) -> None:
        """Ends after the work that waits was done; what fails is told to its callers."""
        if self._task is None:
            return
        self._is_closed = True
        try:
            await self._enqueue(_Work(_future()))  # behind everything that waits
        except RoomError as error:
            log.warning("closing %s: %s", self._topic, error)
        self._task.cancel()
        await asyncio.wait([self._task])

    async def append(
        self, events: Sequence[Judged], origin: tuple[str, str] = ("", ""), then_us: int = 0
    ) -> list[Outcome]:
        """Outcomes in the order of `events`, once all are acknowledged; with `then_us` every partition is told that
        time right behind them. Raises LaneFull, BusUnavailable."""
        self.require_room(events)
        return await self._submit(_Work(_future(), events, origin, then_us, then_us + 1))

    def submit(
        self, events: Sequence[Judged], origin: tuple[str, str], flow: Flow | None
    ) -> asyncio.Future[list[Outcome]]:
        """As `append`, answered later: what is submitted next comes behind it. After a failure in the same `flow`
        nothing is appended. Raises LaneFull, Unavailable."""
        self.require_room(events)
        self._require_open()
        return self._enqueue(_Work(_future(), events, origin, flow=flow))

    def require_room(self, events: Sequence[Judged]) -> None:
        """Raises LaneFull when with these too much would wait for the broker. Where nothing waits anything may."""
        if not events or not self.waiting_events:
            return
        many = self.waiting_events + len(events) > self._most.events
        if many or self._waiting_bytes + _size(events) > self._most.size_bytes:
            waiting = f"{self.waiting_events} events of {self._waiting_bytes} bytes"
            raise LaneFull(f"{waiting} wait for {self._topic}", retry_after_ms=RETRY_AFTER_MS)

    async def heartbeat(self, now_us: int, idle_us: int) -> None:
        """Tells the time to the partitions whose last record is older than `idle_us`, behind all that was appended
        before. Raises BusUnavailable."""
        await self._submit(_Work(_future(), heartbeat_us=now_us, idle_us=idle_us))

    async def cut(self) -> int:
        """A visible time between what was accepted before the call and what comes after it: each later event gets a
        later one, in this process and in the next. 0 where nothing was appended yet. Raises BusUnavailable."""
        await self._submit(_Work(_future()))  # behind everything that waits
        last_us = max(self._last_us.values(), default=0)
        if last_us:
            await self.heartbeat(last_us + 1, last_us + 1)
        return last_us

    def behind(self, now_us: int) -> bool:
        """Whether some partition has not been told a time as late as `now_us`."""
        return any(last < now_us for last in self._last_us.values())

    def ends_window(self, now_us: int) -> bool:
        """Whether `roll` has something to do."""
        return self.window is None or self.window.end_us <= now_us

    def roll(self, now_us: int) -> None:
        """Closes the windows that end at or before `now_us`. What came before the clock's first move counts in the
        first window."""
        width = self.window_width_us
        if self.window is not None and self.window.end_us <= 0:
            first = window_at(now_us, width)
            self.window.start_us, self.window.end_us = first.start_us, first.end_us
        if self.window is None or (self.window.end_us <= now_us and not self.window.events and self._is_far(now_us)):
            self.window = window_at(now_us, width)
            self.watch.begin(now_us)
            return
        while self.window.end_us <= now_us:
            self.window.findings = self.watch.close(self.window)
            self.count_findings(self, self.window.findings)
            self.closed_windows.append(self.window)
            self.window = Window(self.window.end_us, self.window.end_us + width)
            if self._is_far(now_us):
                self.window = window_at(now_us - MAX_EMPTY_WINDOWS * width, width)

    def window_state(self) -> dict[str, Any] | None:
        """The open window, to be kept; None when there is none."""
        return None if self.window is None else {**self.window.to_state(), "watch": self.watch.to_state()}

    def resume_window(self, state: Mapping[str, Any]) -> None:
        """Goes on with the window that `window_state` gave. Before `open`."""
        self.window = Window.from_state(state)
        self.watch.resume(state.get("watch", {}))

    def _is_far(self, now_us: int) -> bool:
        return (
            self.window is not None and now_us - self.window.start_us > (MAX_EMPTY_WINDOWS + 1) * self.window_width_us
        )

    async def _submit(self, work: _Work) -> list[Outcome]:
        self._require_open()
        return await self._enqueue(work)

    def _require_open(self) -> None:
        if self._is_closed:
            raise Unavailable(f"{self._topic} has just been closed by a new definition: repeat")

    def _enqueue(self, work: _Work) -> asyncio.Future[list[Outcome]]:
        self._queue.append(work)
        self.waiting_events += len(work.events)
        self._waiting_bytes += _size(work.events)
        self._wake.set()
        return work.done

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._queue:
                await self._gather()
                await self._append_next()
                self._appended_s = asyncio.get_running_loop().time()

    async def _gather(self) -> None:
        """Lets single events that follow each other closely go together. After a pause nothing is held up."""
        rest_s = self._appended_s + GATHER_S - asyncio.get_running_loop().time()
        if rest_s > 0 and self.waiting_events < SMALL_EVENTS:
            await asyncio.sleep(rest_s)

    async def _append_next(self) -> None:
        works = self._take()
        if not works:
            return
        try:
            if self._uncertain_messages:
                await self._recover(self._uncertain_messages)
            append = self._prepare(works)
            if append.messages:
                self._uncertain_messages = len(append.messages)  # until the broker says so
                await self._bus.publish(append.messages)
                self._uncertain_messages = 0
            self._account(append)
        except Exception as error:
            failure = error if isinstance(error, RoomError) else Unavailable(f"{self._topic}: {error}")
            log.warning("append to %s failed: %s", self._topic, error, exc_info=failure is not error)
            self._resolve(works, failure)
        else:
            self._resolve(works, append.outcomes)

    def _take(self) -> list[_Work]:
        """The next works of one produce; none where those that waited come behind a failure."""
        works: list[_Work] = []
        events = 0
        while self._queue and (not works or events + len(self._queue[0].events) <= MAX_APPEND_EVENTS):
            work = self._queue.popleft()
            if work.flow is not None and work.flow.failure is not None:
                self._resolve([work], work.flow.failure)
                continue
            works.append(work)
            events += len(work.events)
        return works

    def _resolve(self, works: Sequence[_Work], result: list[list[Outcome]] | Exception) -> None:
        for i, work in enumerate(works):
            self.waiting_events -= len(work.events)
            self._waiting_bytes -= _size(work.events)
            if work.flow is not None and isinstance(result, Exception):
                work.flow.failure = result
            if work.done.done():  # its caller went away
                continue
            if isinstance(result, Exception):
                work.done.set_exception(result)
            else:
                work.done.set_result(result[i])

    def _prepare(self, works: Sequence[_Work]) -> _Append:
        append = _Append()
        for work in works:
            append.outcomes.append([self._prepare_event(judged, work.origin, append) for judged in work.events])
            if work.heartbeat_us:
                self._prepare_heartbeat(work, append)
        return append

    def _prepare_heartbeat(self, work: _Work, append: _Append) -> None:
        for partition, last_us in self._last_us.items():
            if last_us < work.idle_us:
                told_us = max(work.heartbeat_us, last_us)
                self._last_us[partition] = told_us
                append.messages.append(messages.heartbeat(self.project, self.name, partition, told_us))

    def _prepare_event(self, judged: Judged, origin: tuple[str, str], append: _Append) -> Outcome:
        verdict = judged.verdict
        if isinstance(verdict, Refusal):
            append.counted.append(judged)
            letter = messages.quarantined(self.project, self.name, judged, verdict, judged.wanted_us, origin)
            append.messages.append(letter)
            first = verdict.violations[0]
            return Outcome(judged.id, QUARANTINED, first.field, first.reason)
        if judged.id in self._ids or judged.id in append.fresh:
            return Outcome(judged.id, DUPLICATE)
        append.fresh[judged.id] = None
        append.counted.append(judged)
        append.messages.append(self._stamped(judged, verdict, origin))
        return Outcome(judged.id, ACCEPTED)

    def _stamped(self, judged: Judged, row: Row, origin: tuple[str, str]) -> Message:
        # Kafka's own default partitioning, said aloud: equal keys of different sources land in equal partitions.
        partition = (murmur2(row.key.encode()) & 0x7FFFFFFF) % len(self._last_us)
        at_us = visible_us(judged.wanted_us, row.event_us, self._last_us[partition])
        self._last_us[partition] = at_us
        kind = self.contract.source.event_type
        return messages.data(self._topic, partition, kind, judged, row.key, row.event_us, at_us, origin)

    def _account(self, append: _Append) -> None:
        for event_id in append.fresh:
            self._ids.add(event_id)
        counted = append.counted
        unknown = sum(len(j.verdict.unknown) for j in counted if isinstance(j.verdict, Row))
        outcomes = [outcome for call in append.outcomes for outcome in call]
        self.handled_events += len(outcomes)
        self.count(self, outcomes, unknown)
        self.watch.take(counted)
        self._unobserved += counted
        self._unobserved_bytes += _size(counted)
        if len(self._unobserved) >= OBSERVED_AT_ONCE or self._unobserved_bytes >= OBSERVED_BYTES:
            self._observe()

    def _observe(self) -> None:
        """Adds what was appended since the last time to the open window."""
        counted = self._unobserved
        if not counted:
            return
        self._unobserved, self._unobserved_bytes = [], 0
        if self._window is None:
            self._window = window_at(counted[0].wanted_us or BEFORE_THE_CLOCK_US, self.window_width_us)
        window = self._window
        window.events += len(counted)
        for judged in counted:
            if isinstance(judged.verdict, Refusal):
                window.refuse(judged.verdict.violations)
            elif judged.verdict.unknown:
                window.count([Violation(name, "unknown", "not declared") for name in judged.verdict.unknown])
        number = self.contract.number
        window.profile(
            {
                name: np.array([number(j.value, name) for j in counted], dtype=np.float64)
                for name in self.contract.numeric
            }
        )

    async def _recover(self, ids: int) -> None:
        """Takes last times and the newest ids from the topic itself: at the start, and after an append of unknown
        outcome, whose messages are the newest if they are there."""
        partitions = await self._bus.partitions(self._topic)
        tail = await self._tails.read(self._topic, ids)
        self._ids.restore(tail.ids)
        self._last_us = {p: max(tail.last_us.get(p, 0), self._last_us.get(p, 0)) for p in partitions}
        self._uncertain_messages = 0


def _size(events: Sequence[Judged]) -> int:
    return sum([len(judged.body) for judged in events])


def _future() -> asyncio.Future[list[Outcome]]:
    return asyncio.get_running_loop().create_future()
