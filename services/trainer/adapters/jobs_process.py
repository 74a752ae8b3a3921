"""Runs jobs in processes of their own on this machine, one thread each, with low priority."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

from millrace.runtime.forks import ForkFailed, ForkServer

from services.trainer.domain.job import JobResult
from services.trainer.errors import JobFailed
from services.trainer.ports import JobProgress

log = logging.getLogger(__name__)

JOB_MODULE = "services.trainer.entrypoints.job"
# A job that only gates does without torch, so the steps import these when they need them.
HEAVY_MODULES = ("services.trainer.adapters.network_torch", "services.trainer.adapters.graph_onnx")
LOOK_AGAIN_S = 0.2
MAX_REASON = 300


class ProcessJobs:
    """`threads` bounds each math library in the job, `nice` is its priority, `deadline_s` is wall time for one job."""

    def __init__(self, *, threads: int, nice: int, deadline_s: float) -> None:
        names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
        # Jobs use the CPU; without this torch looks for devices for a second.
        environment = {**dict.fromkeys(names, str(threads)), "CUDA_VISIBLE_DEVICES": ""}
        self._forks = ForkServer([JOB_MODULE, *HEAVY_MODULES], nice=nice, environment=environment)
        self._deadline_s = deadline_s

    def keep_ready(self) -> None:
        """Begins to import what jobs need: that is most of the time of the first one."""
        self._forks.start()

    async def run(self, folder: Path, on_progress: Callable[[JobProgress], Awaitable[None]]) -> JobResult:
        """Does the job in `folder`; JobFailed when it ends without a result. Cancelling ends the process."""
        result = folder / "result.json"
        result.unlink(missing_ok=True)
        (folder / "progress.jsonl").unlink(missing_ok=True)
        (folder / "log.txt").touch()
        job = asyncio.ensure_future(self._forks.run(f"{JOB_MODULE}:main", str(folder), deadline_s=self._deadline_s))
        try:
            await _follow(job, folder / "progress.jsonl", on_progress)
            status = await self._status(job)
        finally:
            job.cancel()
            await asyncio.wait([job])
        if status != 0 or not result.exists():
            raise JobFailed(f"the job ended with status {status}: {_last_words(folder / 'log.txt')}")
        return JobResult.from_json(result.read_text(encoding="utf-8"))

    async def _status(self, job: asyncio.Future[int]) -> int:
        try:
            return await job
        except TimeoutError:
            raise JobFailed(f"the job took longer than {self._deadline_s:g} s") from None
        except ForkFailed as error:
            raise JobFailed(str(error)) from error


async def _follow(job: asyncio.Future[int], path: Path, on_progress: Callable[[JobProgress], Awaitable[None]]) -> None:
    told = JobProgress()
    while not job.done():
        await asyncio.wait([job], timeout=LOOK_AGAIN_S)
        progress = read_progress(path)
        if progress != told:
            told = progress
            await on_progress(progress)


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


def _last_words(path: Path) -> str:
    lines = [line for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return lines[-1][:MAX_REASON] if lines else "it said nothing"
