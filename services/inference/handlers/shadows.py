"""Shadows: the same rows through the versions that never answer, after the reply has left."""

from __future__ import annotations

import asyncio
import logging
import time

from services.inference.domain.deadline import Deadline

from .metrics import SHADOWED, Metrics
from .questions import Question
from .scoring import Scorer
from .serving import Loaded

log = logging.getLogger(__name__)
JOB_DEADLINE_S = 30.0  # a shadow slower than this is logged as failed


class Shadows:
    """A bounded queue and one worker; a full queue costs shadows, counted, never answers."""

    def __init__(self, scorer: Scorer, metrics: Metrics, *, max_jobs: int) -> None:
        self._scorer = scorer
        self._metrics = metrics
        self._jobs: asyncio.Queue[Question] = asyncio.Queue(max_jobs)
        self._in_hand = 0

    @property
    def busy(self) -> int:
        """Jobs waiting or in hand."""
        return self._jobs.qsize() + self._in_hand

    def offer(self, question: Question) -> None:
        """Take an answered question; never waits."""
        if not question.live.shadows:
            return
        try:
            self._jobs.put_nowait(question)
        except asyncio.QueueFull:
            self._metrics.shadow_dropped()

    async def run(self) -> None:
        """Until cancelled; what waits then is worked off first."""
        while True:
            question = await self._jobs.get()
            self._in_hand = 1
            try:
                await self._score(question)
            except Exception:
                log.exception("a shadow job failed")
            finally:
                self._in_hand = 0

    async def drain(self) -> None:
        """Work off what waits; for the end of the process."""
        while not self._jobs.empty():
            await self._score(self._jobs.get_nowait())

    async def _score(self, question: Question) -> None:
        for loaded in question.live.shadows:
            await self._score_on(question, loaded)
            self._scorer.write(question)

    async def _score_on(self, question: Question, loaded: Loaded) -> None:
        wanted = question.settled - question.misfit.keys()
        indexes = [i for i in sorted(wanted) if (loaded.version, i) not in question.tried]
        if not indexes:
            return
        question.began_s = time.monotonic()
        scores, failures = await self._scorer.score(
            question, loaded, indexes, Deadline(question.began_s + JOB_DEADLINE_S)
        )
        for index, outputs in scores.items():
            question.records.append(question.record(loaded, index, answered=False, outputs=outputs))
        for index, error in failures.items():
            question.records.append(question.record(loaded, index, answered=False, error=error))
        self._metrics.rows(question.live.plan.model, loaded, question.door, len(scores), len(failures), SHADOWED)
