"""Predictions by entity key: features, routing per item, scores, log, shadows."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from millrace.bus.events import new_id
from millrace.runtime import trace
from millrace.runtime.errors import RoomError

from services.inference.domain.deadline import Deadline
from services.inference.domain.tensors import Cell
from services.inference.errors import BadRequest, NotByKey, TooLate
from services.inference.ports import FeatureRow, Features

from .admission import Admission
from .metrics import Metrics
from .questions import KeyQuestion
from .scoring import Scored, Scorer
from .serving import Live, Loaded, Serving
from .shadows import Shadows

DOOR = "key"


@dataclass(frozen=True, slots=True)
class Item:
    """One example asked for. `moment_us` 0: now, by the project's clock."""

    entity: str
    moment_us: int = 0
    request: Mapping[str, Cell] | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What one item got; `error` is empty where there is a value."""

    entity: str
    prediction_id: str = ""
    outputs: Sequence[float] = ()
    version: int = 0
    variant: str = ""
    error: str = ""
    features: FeatureRow | None = None


@dataclass(frozen=True, slots=True)
class Answers:
    """One reply: answers in the order of the items, names in the order of each answer's features."""

    request_id: str
    model: str
    epoch: int
    names: Sequence[str]
    answers: Sequence[Answer]


class Predictor:
    """The use case behind `millrace.wire.inference.v1.Inference`: Predict and PredictStream."""

    def __init__(
        self,
        serving: Serving,
        features: Features,
        scorer: Scorer,
        shadows: Shadows,
        metrics: Metrics,
        admission: Admission,
        *,
        request_rows: int,
    ) -> None:
        self._serving = serving
        self._features = features
        self._scorer = scorer
        self._shadows = shadows
        self._metrics = metrics
        self._admission = admission
        self._request_rows = request_rows

    async def predict(self, project: str, items: Sequence[Item], request_id: str, deadline: Deadline) -> Answers:
        """Answers one by one. Raises UnknownModel, NoPlanYet, BadRequest, Overloaded, TooLate, FeaturesUnavailable."""
        self._metrics.requests += 1
        try:
            with self._admission:
                return await self._predict(project, items, request_id or new_id(), deadline)
        except RoomError as error:
            self._metrics.refused(DOOR, error.code)
            raise

    async def _predict(self, project: str, items: Sequence[Item], request_id: str, deadline: Deadline) -> Answers:
        if not 0 < len(items) <= self._request_rows:
            raise BadRequest(f"a request has {len(items)} items; expected 1 to {self._request_rows}")
        live = self._serving.for_project(project)
        if not live.is_by_key:
            raise NotByKey(f"model {live.plan.model!r} takes tensors; ask it by the Open Inference Protocol")
        errors = self._refused_items(project, items)
        asked = [i for i in range(len(items)) if i not in errors]
        question = self._question(live, items, request_id)
        routes = {i: live.choose(items[i].entity) for i in asked}
        results: dict[int, Scored] = {}
        try:
            if asked:
                await self._fetch(question, items, asked, deadline)
                results = await self._score(question, routes, deadline)
        except (RoomError, asyncio.CancelledError) as error:
            self._scorer.fail_rest(question, str(error) or "the caller went away", routes.items())
            raise
        finally:
            self._scorer.write(question)
        self._shadows.offer(question)
        self._time(question, results)
        answers = [_answer(question, i, results.get(i), errors.get(i, "")) for i in range(len(items))]
        return Answers(request_id, live.plan.model, live.plan.epoch, question.names, answers)

    def _question(self, live: Live, items: Sequence[Item], request_id: str) -> KeyQuestion:
        now_us = 0 if all(i.moment_us for i in items) else self._serving.projects.now_us(live.plan.project)
        return KeyQuestion(
            live=live,
            log_id=request_id,
            request_id=request_id,
            door=DOOR,
            traceparent=trace.current(),
            entities=[i.entity for i in items],
            moments_us=[i.moment_us or now_us for i in items],
            names=live.features,
        )

    def _refused_items(self, project: str, items: Sequence[Item]) -> dict[int, str]:
        """Items that cannot be asked at all, and why."""
        refused: dict[int, str] = {}
        known: Mapping[str, str] | None = None
        for index, item in enumerate(items):
            if not item.entity:
                refused[index] = "entity is empty; expected the value of the project's entity key"
            elif item.request:
                known = self._serving.projects.request_inputs(project) if known is None else known
                strangers = sorted(set(item.request) - set(known.values()))
                if strangers:
                    expected = ", ".join(sorted(set(known.values()))) or "none"
                    refused[index] = f"{strangers[0]!r} is no request-time column; expected {expected}"
        return refused

    async def _fetch(
        self, question: KeyQuestion, items: Sequence[Item], asked: Sequence[int], deadline: Deadline
    ) -> None:
        """Features of all items in one call, and the request-time columns in their place."""
        live = question.live
        timeout_s = deadline.remaining_s(time.monotonic())
        if timeout_s <= 0:
            raise TooLate("the caller's deadline passed before the features were asked for")
        replayed = self._serving.projects.is_replayed(live.plan.project)
        not_before_us = max(question.moments_us[i] for i in asked) if replayed else 0
        entities = [items[i].entity for i in asked]
        found = await self._features.online(live.plan.project, entities, live.features, not_before_us, timeout_s)
        question.as_of_us = found.as_of_us
        nothing = FeatureRow({}, (), ())
        rows = [nothing] * len(items)
        cells: list[Mapping[str, Cell]] = [nothing.cells] * len(items)
        for index, row in zip(asked, found.rows, strict=True):
            rows[index] = row
            cells[index] = self._with_request(live, items[index], row.cells)
        question.features, question.cells = rows, cells

    def _with_request(self, live: Live, item: Item, cells: Mapping[str, Cell]) -> Mapping[str, Cell]:
        if not item.request:
            return cells
        known = self._serving.projects.request_inputs(live.plan.project)
        sent = {name: item.request[column] for name, column in known.items() if column in item.request}
        return {**cells, **sent}

    async def _score(
        self, question: KeyQuestion, routes: Mapping[int, Loaded], deadline: Deadline
    ) -> dict[int, Scored]:
        groups: dict[int, list[int]] = {}
        for index, loaded in routes.items():
            groups.setdefault(loaded.version, []).append(index)
        results: dict[int, Scored] = {}
        for indexes in groups.values():
            results.update(await self._scorer.answer(question, routes[indexes[0]], indexes, deadline))
        return results

    def _time(self, question: KeyQuestion, results: Mapping[int, Scored]) -> None:
        seconds = time.monotonic() - question.began_s
        for loaded in {r.loaded.version: r.loaded for r in results.values() if not r.error}.values():
            self._metrics.request(question.live.plan.model, loaded, DOOR, seconds)


def _answer(question: KeyQuestion, index: int, result: Scored | None, error: str) -> Answer:
    entity = question.entities[index]
    if result is None:
        return Answer(entity, error=error)
    loaded = result.loaded
    return Answer(
        entity,
        question.prediction_id(loaded.version, index),
        result.outputs,
        loaded.version,
        loaded.variant.role.value,
        result.error,
        question.features[index],
    )
