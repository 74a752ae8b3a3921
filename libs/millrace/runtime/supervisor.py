"""Background tasks that are started again when they crash, with capped backoff, and whose crashes are shown."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from millrace.runtime.errors import Policy
from millrace.runtime.status import StatusBoard

log = logging.getLogger(__name__)
FIRST_BACKOFF_S = 0.2
MAX_BACKOFF_S = 15.0  # long enough to spare a store that is down, short enough to be back soon after it


class Supervisor:
    """Runs named coroutines until they return or the process drains.

    An error with Policy.CRASH calls `give_up`; any other is logged, shown on the board and followed by a restart.
    """

    def __init__(self, status: StatusBoard, give_up: Callable[[BaseException], None]) -> None:
        self._status = status
        self._give_up = give_up
        self._runs: dict[str, Callable[[], Awaitable[None]]] = {}
        self._failures: dict[str, str] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self.restarts = 0

    def add(self, name: str, run: Callable[[], Awaitable[None]]) -> None:
        """Registers a task; before or after `start`."""
        self._runs[name] = run
        self._status.problem(name, lambda: self._failures.get(name, ""))
        if self._tasks:
            self._tasks.append(asyncio.create_task(self._keep(name, run), name=name))

    def start(self) -> None:
        """Starts everything that was added."""
        self._tasks = [asyncio.create_task(self._keep(name, run), name=name) for name, run in self._runs.items()]

    async def stop(self, deadline_s: float) -> None:
        """Cancels in reverse order; a task may drain the batch in hand within the deadline."""
        for task in reversed(self._tasks):
            task.cancel()
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=deadline_s)
            for task in late:
                log.warning("task %s did not drain within %.1f s", task.get_name(), deadline_s)

    async def _keep(self, name: str, run: Callable[[], Awaitable[None]]) -> None:
        backoff_s = FIRST_BACKOFF_S
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            try:
                await run()
                self._failures.pop(name, None)
                return
            except Exception as error:
                log.exception("task %s crashed", name)
                self._failures[name] = f"{type(error).__name__}: {error}"
                if getattr(error, "policy", None) is Policy.CRASH:
                    self._give_up(error)
                    return
            if loop.time() - began > MAX_BACKOFF_S:
                backoff_s = FIRST_BACKOFF_S
            await asyncio.sleep(backoff_s)
            backoff_s = min(backoff_s * 2, MAX_BACKOFF_S)
            self.restarts += 1
            self._failures[name] = ""
