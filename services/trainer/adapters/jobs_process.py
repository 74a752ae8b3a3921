"""Runs jobs in processes of their own on this machine, one thread each, with low priority."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

from services.trainer.domain.job import JobResult
from services.trainer.errors import JobFailed
from services.trainer.ports import JobProgress

log = logging.getLogger(__name__)

JOB_MODULE = "services.trainer.entrypoints.job"
LOOK_AGAIN_S = 0.2
END_GRACE_S = 5.0
MAX_REASON = 300


class ProcessJobs:
    """`threads` bounds each math library in the job, `nice` is its priority, `deadline_s` is wall time for one job.

    With `warm` one process is kept ready whose libraries are imported: that is most of the time of a usual job.
    """

    def __init__(self, *, threads: int, nice: int, deadline_s: float, warm: bool = False) -> None:
        self._threads = threads
        self._nice = nice
        self._deadline_s = deadline_s
        self._warm = warm
        self._spare: asyncio.subprocess.Process | None = None

    async def keep_ready(self) -> None:
        """Starts the spare process, if one is wanted and there is none."""
        if self._warm and (self._spare is None or self._spare.returncode is not None):
            self._spare = await self._spawn()

    async def stop(self) -> None:
        """Ends the spare process."""
        spare, self._spare = self._spare, None
        if spare is not None:
            await _end(spare)

    async def run(self, folder: Path, on_progress: Callable[[JobProgress], Awaitable[None]]) -> JobResult:
        """Does the job in `folder`; JobFailed when it ends without a result. Cancelling ends the process."""
        result = folder / "result.json"
        result.unlink(missing_ok=True)
        (folder / "progress.jsonl").unlink(missing_ok=True)
        (folder / "log.txt").touch()
        process = await self._take()
        try:
            await _tell(process, f"{folder}\n")
            await self._follow(process, folder / "progress.jsonl", on_progress)
        finally:
            await _end(process)
        await self.keep_ready()
        if process.returncode != 0 or not result.exists():
            raise JobFailed(f"the job ended with status {process.returncode}: {_last_words(folder / 'log.txt')}")
        return JobResult.from_json(result.read_text(encoding="utf-8"))

    async def _take(self) -> asyncio.subprocess.Process:
        spare, self._spare = self._spare, None
        return spare if spare is not None and spare.returncode is None else await self._spawn()

    async def _spawn(self) -> asyncio.subprocess.Process:
        words = [str(self._nice), *(["warm"] if self._warm else [])]
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", JOB_MODULE, *words, stdin=asyncio.subprocess.PIPE, env=self._environment()
        )

    async def _follow(
        self, process: asyncio.subprocess.Process, path: Path, on_progress: Callable[[JobProgress], Awaitable[None]]
    ) -> None:
        ended = asyncio.ensure_future(process.wait())
        deadline = asyncio.get_running_loop().time() + self._deadline_s
        told = JobProgress()
        while not ended.done():
            await asyncio.wait([ended], timeout=LOOK_AGAIN_S)
            progress = read_progress(path)
            if progress != told:
                told = progress
                await on_progress(progress)
            if asyncio.get_running_loop().time() > deadline:
                ended.cancel()
                raise JobFailed(f"the job took longer than {self._deadline_s:g} s")

    def _environment(self) -> dict[str, str]:
        names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
        # Jobs use the CPU; without this torch looks for devices for a second.
        return {**os.environ, **dict.fromkeys(names, str(self._threads)), "CUDA_VISIBLE_DEVICES": ""}


def read_progress(path: Path) -> JobProgress:
    """What the whole lines of a progress file say."""
    if not path.exists():
        return JobProgress()
    lines = path.read_text(encoding="utf-8").split("\n")[:-1]  # the last line may be half written
    steps = [json.loads(line) for line in lines]
    curve: list[tuple[int, float, float]] = []
    for step in steps:
        if step["step"] == "epoch":
            kept = curve if step["epoch"] > 1 else []  # a second net begins: the curve is that of the last one
            curve = [*kept, (step["epoch"], step["train_loss"], step["validation_loss"])]
    return JobProgress(max((s["share"] for s in steps), default=0.0), tuple(curve))


async def _tell(process: asyncio.subprocess.Process, line: str) -> None:
    """Writes to the process; one that is gone is noticed when its end is awaited."""
    if process.stdin is None:
        return
    process.stdin.write(line.encode())
    with contextlib.suppress(ConnectionError):
        await process.stdin.drain()


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    process.terminate()
    try:
        await asyncio.wait_for(process.wait(), END_GRACE_S)
    except TimeoutError:
        process.kill()
        await process.wait()


def _last_words(path: Path) -> str:
    lines = [line for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return lines[-1][:MAX_REASON] if lines else "it said nothing"
