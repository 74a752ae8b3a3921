"""How two ways to do one job are timed side by side."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

REPETITIONS = 7  # per way; enough for a spread, few enough for a coffee
MAX_SECONDS = 15.0  # of one measurement: further repetitions are left out, never below MIN_REPETITIONS
MIN_REPETITIONS = 5


@dataclass(frozen=True)
class Way:
    """One way to do the job: a name, and the job. The job returns nothing that is looked at while it is timed."""

    name: str
    run: Callable[[], Any]


@dataclass(frozen=True)
class Job:
    """The same work in our way and in a peer's; `items` of `unit` are done by one run of either."""

    name: str
    items: int
    unit: str
    ours: Way
    peer: Way


@dataclass(frozen=True)
class Measurement:
    """Processor seconds of each run, ours and the peer's, of one process on one core; pairs ran one after the other."""

    job: Job
    ours_s: tuple[float, ...]
    peer_s: tuple[float, ...]

    @property
    def ratios(self) -> tuple[float, ...]:
        """How many times as long the peer took, pair by pair."""
        return tuple(peer / ours for ours, peer in zip(self.ours_s, self.peer_s, strict=True))

    def rates(self, seconds: tuple[float, ...]) -> tuple[float, ...]:
        """Items per second of each run."""
        return tuple(self.job.items / taken for taken in seconds)


def measure(job: Job) -> Measurement:
    """Runs both ways in turns, after one run of each that is not counted."""
    for way in (job.ours, job.peer):
        way.run()
    started = time.perf_counter()
    ours_s: list[float] = []
    peer_s: list[float] = []
    for repetition in range(REPETITIONS):
        if repetition >= MIN_REPETITIONS and time.perf_counter() - started > MAX_SECONDS:
            break
        # Who goes first changes, so that neither always finds the caches warm.
        for way, taken in ((job.ours, ours_s), (job.peer, peer_s))[:: 1 if repetition % 2 else -1]:
            taken.append(_seconds(way))
    return Measurement(job, tuple(ours_s), tuple(peer_s))


def _seconds(way: Way) -> float:
    """Processor time: what other processes do on the machine counts less than it would by the wall."""
    started = time.process_time()
    way.run()
    return time.process_time() - started
