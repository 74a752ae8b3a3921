"""Closed loops: one client after the other's answer, or many at once; and what is said of their times."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import cycle

import numpy as np

Call = Callable[[bytes], Awaitable[object]]


@contextmanager
def undisturbed() -> Iterator[None]:
    """A block in which this process collects no garbage: its pauses are not the latency of who is asked."""
    was_enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


async def in_turn(call: Call, requests: Sequence[bytes], count: int) -> list[float]:
    """Seconds of each of `count` calls, one after the other."""
    taken, clock = [], time.perf_counter
    for _, request in zip(range(count), cycle(requests), strict=False):
        started = clock()
        await call(request)
        taken.append(clock() - started)
    return taken


async def at_once(
    calls: Sequence[Call], requests: Sequence[bytes], clients: int, count: int
) -> tuple[float, list[float]]:
    """`clients` closed loops share `count` calls. Returns calls per second and the seconds of each call."""
    waiting, taken, clock = iter(range(count)), [], time.perf_counter

    async def client(number: int) -> None:
        call = calls[number % len(calls)]
        for i in waiting:
            started = clock()
            await call(requests[i % len(requests)])
            taken.append(clock() - started)

    started = clock()
    await asyncio.gather(*(client(number) for number in range(clients)))
    return count / (clock() - started), taken


def percentile_ms(seconds: Sequence[float], percent: float) -> float:
    """The nearest rank, in milliseconds."""
    return float(np.percentile(seconds, percent, method="higher")) * 1000
