"""What a room says about itself: Room.Describe, /readyz and /metrics are three views of one board."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from typing import Protocol, runtime_checkable

import millrace
from millrace.bus.standing import Report
from millrace.bus.topics import delayed_topic
from millrace.wire.common.v1 import common_pb2

Count = Callable[[], int]


class Consumes(Protocol):
    """A worker, or who follows a topic."""

    @property
    def lag_records(self) -> int:
        """Records that wait, as far as is known."""
        ...

    @property
    def handled_records(self) -> int:
        """Records handled since start."""
        ...

    async def learn_lag(self) -> None:
        """Ask the broker what waits now. Raises BusUnavailable."""
        ...

    def hurry(self) -> None:
        """Handle at once what waits, though it is being gathered."""
        ...


@runtime_checkable
class Reports(Protocol):
    """A worker: what happened to its records, and how its partitions stand."""

    def report(self) -> Report:
        """By topic and partition, as far as is known without asking the broker."""
        ...


class StatusBoard:
    """Collects callables; counts of one kind are summed, watermarks are the minimum per project.

    Times are microseconds of the project's clock.
    """

    def __init__(self, room: str) -> None:
        self.room = room
        self.grpc_address = ""
        self.http_address = ""
        self.started = False
        self.draining = False
        self._has_been_ready = False
        self._counts: dict[str, list[Count]] = {
            k: [] for k in ("lag", "deferred", "unpublished", "busy", "handled", "dead_letters")
        }
        self._watermarks: list[Callable[[], Mapping[str, int]]] = []
        self._definitions: list[Callable[[], Mapping[str, int]]] = []
        self._consumers: list[Consumes] = []
        self._deferring: list[Consumes] = []
        self._workers: list[Reports] = []
        self._problems: dict[str, tuple[Callable[[], str], bool]] = {}

    def lag(self, count: Count) -> None:
        """Records that wait in the topics this room consumes."""
        self._counts["lag"].append(count)

    def consumes(self, consumer: Consumes, *, counted: bool = True) -> None:
        """Counts what waits for `consumer` and, unless the room counts that itself, what it has handled."""
        self._consumers.append(consumer)
        if isinstance(consumer, Reports):
            self.reports(consumer)
        self.lag(lambda: consumer.lag_records)
        if counted:
            self.handled(lambda: consumer.handled_records)

    def reports(self, worker: Reports) -> None:
        """Shows by topic and partition how `worker` stands; `consumes` does it by itself."""
        self._workers.append(worker)

    def worker_reports(self) -> list[Report]:
        """What the workers say now."""
        return [worker.report() for worker in self._workers]

    async def learn_lag(self) -> None:
        """Asks the broker what waits now, for a snapshot that misses nothing. Raises BusUnavailable."""
        await asyncio.gather(*(consumer.learn_lag() for consumer in (*self._consumers, *self._deferring)))

    def hurry(self) -> None:
        """Lets what waits be handled at once, though it is being gathered."""
        for consumer in self._consumers:
            consumer.hurry()

    def deferred(self, count: Count) -> None:
        """Records that a sink has yet to write, where whoever reads the sink waits for it by itself."""
        self._counts["deferred"].append(count)

    def defers(self, consumer: Consumes) -> None:
        """Counts what waits for `consumer` as deferred: nobody hurries it."""
        self._deferring.append(consumer)
        if isinstance(consumer, Reports):
            self.reports(consumer)
        self.deferred(lambda: consumer.lag_records)

    def unpublished(self, count: Count) -> None:
        """State changes written but not yet published."""
        self._counts["unpublished"].append(count)

    def busy(self, count: Count) -> None:
        """Jobs under way that may still publish."""
        self._counts["busy"].append(count)

    def handled(self, count: Count) -> None:
        """Records handled since start; grows whenever the room did something."""
        self._counts["handled"].append(count)

    def dead_letters(self, count: Count) -> None:
        """Records given up on since start."""
        self._counts["dead_letters"].append(count)

    def watermarks(self, by_project: Callable[[], Mapping[str, int]]) -> None:
        """Per project: everything visible at or before this time has taken effect here."""
        self._watermarks.append(by_project)

    def definitions(self, by_project: Callable[[], Mapping[str, int]]) -> None:
        """Per project: the version of the definition that runs here."""
        self._definitions.append(by_project)

    def problem(self, name: str, reason: Callable[[], str], *, degrades_only: bool = False) -> None:
        """A reason why the room is not ready (or, with `degrades_only`, not at its best); "" means fine."""
        self._problems[name] = (reason, degrades_only)

    def total(self, kind: str) -> int:
        """Sum of the counts of one kind."""
        return sum(count() for count in self._counts[kind])

    def watermarks_us(self) -> dict[str, int]:
        """The least watermark per project."""
        merged: dict[str, int] = {}
        for source in self._watermarks:
            for project, value in source().items():
                merged[project] = min(value, merged.get(project, value))
        return merged

    def reasons(self) -> tuple[bool, list[str]]:
        """(ready, why not or what is degraded)."""
        ready = self.started and not self.draining
        lines = [] if ready else ["draining" if self.draining else "starting"]
        for name, (reason, degrades_only) in self._problems.items():
            text = reason()
            if text:
                lines.append(f"{name}: {text}")
                ready = ready and degrades_only
        return ready, lines

    def has_been_ready(self) -> bool:
        """Whether the room was ready once: then it has read what it follows, and knows what there is."""
        self._has_been_ready = self._has_been_ready or self.reasons()[0]
        return self._has_been_ready

    def snapshot(self) -> common_pb2.RoomStatus:
        """Everything, as the wire has it."""
        ready, reasons = self.reasons()
        definitions: dict[str, int] = {}
        for source in self._definitions:
            definitions.update(source())
        reports = self.worker_reports()
        partitions = [standing for report in reports for standing in report.partitions]
        waiting = delayed_topic(self.room)
        return common_pb2.RoomStatus(
            room=self.room,
            version=millrace.__version__,
            pid=os.getpid(),
            ready=ready,
            reasons=reasons,
            definitions=definitions,
            watermarks_us=self.watermarks_us(),
            lag_records=self.total("lag"),
            deferred_records=self.total("deferred"),
            unpublished_records=self.total("unpublished"),
            busy_jobs=self.total("busy"),
            handled_records=self.total("handled"),
            dead_letters=self.total("dead_letters"),
            oldest_s=max((standing.oldest_s for standing in partitions), default=0.0),
            retries=sum(report.tally.retries.total() for report in reports),
            delayed_records=sum(standing.lag_records for standing in partitions if standing.topic == waiting),
            grpc_address=self.grpc_address,
            http_address=self.http_address,
        )
