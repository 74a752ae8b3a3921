"""Calls with bounded retries: only of what is safe to repeat, and never past the deadline."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import grpc

from millrace.client.errors import CallFailed

T = TypeVar("T")
_PASSING = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED})
_AWAY = _PASSING | {grpc.StatusCode.DEADLINE_EXCEEDED}
_TOO_LARGE = "larger than max"  # gRPC's own words on a message over its bound, which come without a time to wait
_FIRST_BACKOFF_S = 0.02
_MAX_BACKOFF_S = 2.0


class Patience:
    """When a call that failed is made again: at most `deadline_s` after the last progress, and not before a server
    that is full has asked for it (`retry-after-ms`). Used inside a running event loop."""

    def __init__(self, what: str, deadline_s: float) -> None:
        self._what = what
        self._deadline_s = deadline_s
        self._loop = asyncio.get_running_loop()
        self.progressed()

    @property
    def remaining_s(self) -> float:
        """Seconds until the deadline, always more than 0."""
        return max(self._end_s - self._loop.time(), 0.001)

    def progressed(self) -> None:
        """Something was answered: the deadline counts from now."""
        self._end_s = self._loop.time() + self._deadline_s
        self._backoff_s = _FIRST_BACKOFF_S

    async def wait(self, error: grpc.aio.AioRpcError) -> None:
        """Until the next attempt. Raises CallFailed on a lasting error or when the deadline would be spent."""
        wait_s = self._wait_s(error)
        await asyncio.sleep(wait_s)
        self._backoff_s = min(self._backoff_s * 2, _MAX_BACKOFF_S)

    def _wait_s(self, error: grpc.aio.AioRpcError) -> float:
        asked_s = _asked_wait_s(error)
        wait_s = max(asked_s, self._backoff_s * random.uniform(0.5, 1.0))
        is_too_large = asked_s < 0 or _TOO_LARGE in (error.details() or "")
        if error.code() not in _PASSING or is_too_large or self._loop.time() + wait_s >= self._end_s:
            raise CallFailed(self._what, error, is_too_large or error.code() not in _AWAY) from error
        return wait_s


async def call_with_retries(
    what: str,
    call: Callable[[float], Awaitable[T]],
    deadline_s: float,
    on_retry: Callable[[], None] = lambda: None,
) -> T:
    """`call(remaining_s)` until it succeeds; CallFailed on a lasting error or when the deadline is spent.

    A server that is full says when to come back (`retry-after-ms`), and is believed. `on_retry` hears of each failed
    attempt that is made again.
    """
    patience = Patience(what, deadline_s)
    while True:
        try:
            return await call(patience.remaining_s)
        except grpc.aio.AioRpcError as error:
            failed = error
        await patience.wait(failed)
        on_retry()


def _asked_wait_s(error: grpc.aio.AioRpcError) -> float:
    """0 where nothing was asked for, negative where the call shall not be made again as it is."""
    metadata: Any = error.trailing_metadata() or ()  # an iterable of pairs, whatever the stubs say
    waits_ms = [float(value) for name, value in metadata if name == "retry-after-ms"]
    return min(waits_ms[0] / 1000, _MAX_BACKOFF_S) if waits_ms else 0.0
