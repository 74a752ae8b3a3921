"""Stopping: no cancellation is lost, and work in hand may finish."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable

log = logging.getLogger(__name__)

DRAIN_DEADLINE_S = 10.0  # work in hand may go on for this long after the stop signal


def stop_if_cancelled() -> None:
    """Raise CancelledError when our task was asked to stop.

    For the top of endless loops: on Python 3.11 `asyncio.wait_for`, which aiokafka uses, loses a cancellation that
    arrives together with its answer, and a loop that relies on exceptions alone would then never end.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


async def finish_in_hand(work: Awaitable[None], what: str) -> None:
    """Await `work`. When we are cancelled meanwhile: let it finish for a while, then be cancelled."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        done, _ = await asyncio.wait([task], timeout=DRAIN_DEADLINE_S)
        if not done:
            task.cancel()
            await asyncio.wait([task])
        if not task.cancelled() and task.exception() is not None:
            log.info("%s stops with work unfinished: %s", what, task.exception())
        raise
