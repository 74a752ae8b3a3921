"""Waiting for a condition with a deadline: the only way a test waits."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, overload

Result = TypeVar("Result")

SHORTEST_PAUSE_S = 0.005
LONGEST_PAUSE_S = 0.1


class DeadlinePassed(AssertionError):
    """The condition did not come true in time; the text carries its last value or error."""


@overload
async def until(predicate: Callable[[], Awaitable[Result]], deadline_s: float = ..., *, what: str = ...) -> Result: ...


@overload
async def until(predicate: Callable[[], Result], deadline_s: float = ..., *, what: str = ...) -> Result: ...


async def until(predicate: Callable[[], Any], deadline_s: float = 10.0, *, what: str = "the condition") -> Any:
    """Calls `predicate` (plain or async) until it is truthy and returns its value.

    An AssertionError inside the predicate counts as "not yet". Raises DeadlinePassed with the last value or error.
    """
    end = time.monotonic() + deadline_s
    pause_s, last = SHORTEST_PAUSE_S, None
    while True:
        try:
            value = predicate()
            if inspect.isawaitable(value):
                value = await value
            if value:
                return value
            last = repr(value)
        except AssertionError as error:
            last = f"AssertionError: {error}"
        if time.monotonic() >= end:
            raise DeadlinePassed(f"{what} did not hold within {deadline_s} s; last: {last}")
        await asyncio.sleep(pause_s)
        pause_s = min(pause_s * 1.5, LONGEST_PAUSE_S)


def until_sync(predicate: Callable[[], Result], deadline_s: float = 10.0, *, what: str = "the condition") -> Result:
    """`until` for tests without an event loop."""

    return asyncio.run(until(predicate, deadline_s, what=what))
