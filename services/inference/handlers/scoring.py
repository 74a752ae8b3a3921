"""Scoring a question: the chosen variant, then who stands in for it; every outcome leaves a log record."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

from services.inference.domain.deadline import Deadline
from services.inference.domain.tensors import CellMismatch, TensorMismatch
from services.inference.errors import ScoringFailed
from services.inference.ports import PredictionLog

from .metrics import Metrics
from .questions import KeyQuestion, Question
from .running import Runner
from .serving import Loaded

Scores = Mapping[int, list[float]]


@dataclass(frozen=True, slots=True)
class Scored:
    """What one row got."""

    loaded: Loaded
    outputs: Sequence[float] = ()
    error: str = ""


class Scorer:
    """Scores rows and writes what happened to the log."""

    def __init__(self, runner: Runner, log: PredictionLog, metrics: Metrics) -> None:
        self._runner = runner
        self._log = log
        self._metrics = metrics

    async def answer(
        self, question: Question, chosen: Loaded, indexes: Sequence[int], deadline: Deadline
    ) -> dict[int, Scored]:
        """Row -> what it got, from `chosen` or a fallback. Raises TooLate."""
        results: dict[int, Scored] = {}
        remaining = list(indexes)
        for loaded in chain([chosen], question.live.fallbacks(chosen)):
            scores, failures = await self.score(question, loaded, remaining, deadline)
            for index, outputs in scores.items():
                results[index] = Scored(loaded, outputs)
                question.records.append(question.record(loaded, index, answered=True, outputs=outputs))
                question.settled.add(index)
            for index, error in failures.items():
                results[index] = Scored(loaded, error=error)
                question.records.append(question.record(loaded, index, answered=False, error=error))
            self._metrics.rows(question.live.plan.model, loaded, question.door, len(scores), len(failures))
            if loaded is not chosen and scores:
                self._metrics.fell_back(question.live.plan.model, chosen, len(scores))
            question.tried.update((loaded.version, index) for index in (*scores, *failures))
            remaining = [i for i in failures if i not in question.misfit]
            if not remaining:
                break
        question.settled.update(indexes)
        return results

    async def score(
        self, question: Question, loaded: Loaded, indexes: Sequence[int], deadline: Deadline
    ) -> tuple[Scores, dict[int, str]]:
        """(row -> outputs, row -> why there are none) of one variant. Raises TooLate."""
        failures: dict[int, str] = {}
        model = question.live.plan.model
        if isinstance(question, KeyQuestion) and not loaded.is_by_key:
            return {}, dict.fromkeys(indexes, f"version {loaded.version} takes tensors only")
        try:
            try:
                feeds = question.feeds(loaded, indexes)
            except CellMismatch:
                assert isinstance(question, KeyQuestion)
                failures = question.misfits(loaded, indexes)
                question.misfit.update(failures)
                indexes = [i for i in indexes if i not in failures]
                if not indexes:
                    return {}, failures
                feeds = question.feeds(loaded, indexes)
            with self._metrics.run(model, loaded):
                outputs = await self._runner.scores(loaded, feeds, len(indexes), deadline)
        except (ScoringFailed, TensorMismatch) as error:
            return {}, {**failures, **dict.fromkeys(indexes, str(error))}
        scores = {i: row for i, row in zip(indexes, outputs.tolist(), strict=True) if all(map(math.isfinite, row))}
        unfit = f"version {loaded.version} gave a number that is not finite"
        failures.update({i: unfit for i in indexes if i not in scores})
        return scores, failures

    def write(self, question: Question) -> None:
        """Everything the question left so far goes to the log, before its answer leaves."""
        self._log.append(question.records)
        question.records = []

    def fail_rest(self, question: Question, why: str, choose: Iterable[tuple[int, Loaded]]) -> None:
        """The request failed as a whole: rows that had a score were not answered either, and all are logged."""
        for made in question.records:
            if made.answered:
                made.answered, made.error = False, why
        rest = [(i, loaded) for i, loaded in choose if i not in question.settled]
        question.records += [question.record(loaded, i, answered=False, error=why) for i, loaded in rest]
        for _, loaded in rest:
            self._metrics.rows(question.live.plan.model, loaded, question.door, 0, 1)
