"""One unary call with bounded retries: only of what is safe to repeat, and never past the deadline."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import grpc

from millrace.client.errors import CallFailed

T = TypeVar("T")
_PASSING = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED})
_FIRST_BACKOFF_S = 0.02
_MAX_BACKOFF_S = 2.0


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
    loop = asyncio.get_running_loop()
    end = loop.time() + deadline_s
    backoff_s = _FIRST_BACKOFF_S
    while True:
        try:
            return await call(max(end - loop.time(), 0.001))
        except grpc.aio.AioRpcError as error:
            wait_s = max(_asked_wait_s(error), backoff_s * random.uniform(0.5, 1.0))
            if error.code() not in _PASSING or loop.time() + wait_s >= end:
                raise CallFailed(what, error) from error
        on_retry()
        await asyncio.sleep(wait_s)
        backoff_s = min(backoff_s * 2, _MAX_BACKOFF_S)


def _asked_wait_s(error: grpc.aio.AioRpcError) -> float:
    metadata: Any = error.trailing_metadata() or ()  # an iterable of pairs, whatever the stubs say
    waits_ms = [float(value) for name, value in metadata if name == "retry-after-ms"]
    return min(waits_ms[0] / 1000, _MAX_BACKOFF_S) if waits_ms else 0.0
