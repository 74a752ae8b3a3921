"""The Faust stream as a child process: the newest line of its figures, restarted when it falls, gone when we go."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from services.monitor.domain.live import Live

log = logging.getLogger(__name__)

STOP_S = 3.0  # of wall time to leave its group; nothing is lost when it is ended harder
STALE_S = 10.0  # figures older than this are not shown
FIRST_BACKOFF_S, MOST_BACKOFF_S = 1.0, 60.0
LINE_BYTES = 1 << 18


class LiveStream:
    """`run` keeps the child running; `live` is what it last said."""

    def __init__(self, bootstrap: str, folder: Path) -> None:
        self._command = (sys.executable, "-m", "services.monitor.entrypoints.stream", bootstrap, str(folder))
        self._live: dict[str, Live] = {}
        self._heard_s = 0.0
        self.problem = ""
        self.restarts = 0

    def live(self) -> Mapping[str, Live]:
        """Model to its figures; empty while there are none fresh enough."""
        return self._live if time.monotonic() - self._heard_s < STALE_S else {}

    async def run(self) -> None:
        """Until cancelled. A child that falls again and again is started ever more rarely, and `problem` says so."""
        backoff_s = FIRST_BACKOFF_S
        while True:
            began_s = time.monotonic()
            code = await self._session()
            self.restarts += 1
            self.problem = f"the live stream ended with {code}; started again in {backoff_s:g} s"
            log.warning(self.problem)
            await asyncio.sleep(backoff_s)
            lasted = time.monotonic() - began_s > MOST_BACKOFF_S
            backoff_s = FIRST_BACKOFF_S if lasted else min(backoff_s * 2, MOST_BACKOFF_S)

    async def _session(self) -> int:
        child = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
            limit=LINE_BYTES,
        )
        try:
            await self._listen(child)
            return await child.wait()
        finally:
            await asyncio.shield(_end(child))

    async def _listen(self, child: asyncio.subprocess.Process) -> None:
        if child.stdout is None:
            return
        while line := await child.stdout.readline():
            try:
                figures = json.loads(line)
                self._live = {model: Live(**values) for model, values in figures.items()}
            except (ValueError, TypeError, AttributeError):
                continue  # not one of its reports: a library printed something
            self._heard_s, self.problem = time.monotonic(), ""


async def _end(child: asyncio.subprocess.Process) -> None:
    if child.returncode is not None:
        return
    if child.stdin is not None:
        child.stdin.close()
    try:
        await asyncio.wait_for(child.wait(), STOP_S)
    except TimeoutError:
        child.kill()
        await child.wait()
