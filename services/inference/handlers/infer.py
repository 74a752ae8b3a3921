"""Raw tensors: one variant answers the whole request, chosen by plan or named by the caller."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from millrace.bus.events import new_id
from millrace.runtime import trace
from millrace.runtime.errors import RoomError

from services.inference.domain.deadline import Deadline
from services.inference.domain.tensors import Array, TensorMismatch, TensorSpec, check_feeds, row_count
from services.inference.errors import BadRequest, ScoringFailed

from .admission import Admission
from .metrics import Metrics
from .questions import LOGGED_ELEMENTS, TensorQuestion
from .running import Runner, as_scores
from .scoring import Scorer
from .serving import Live, Loaded, Serving
from .shadows import Shadows

DOOR = "oip"


@dataclass(frozen=True, slots=True)
class Inference:
    """What a caller with tensors asks. BYTES tensors hold `bytes`; `datatypes` are those the caller declared."""

    model: str
    version: str
    request_id: str
    routing_key: str
    tensors: Mapping[str, Array]
    datatypes: Mapping[str, str]
    outputs: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Inferred:
    """What it got. `is_sticky`: the same routing key meets the same variant again."""

    model: str
    version: int
    request_id: str
    outputs: Sequence[tuple[TensorSpec, Array]]
    is_sticky: bool
    prediction_id: str  # of the only row; empty when there are several


class Inferrer:
    """The use case behind ModelInfer, on both gRPC and HTTP."""

    def __init__(
        self,
        serving: Serving,
        runner: Runner,
        scorer: Scorer,
        shadows: Shadows,
        metrics: Metrics,
        admission: Admission,
        *,
        request_rows: int,
    ) -> None:
        self._serving = serving
        self._runner = runner
        self._scorer = scorer
        self._shadows = shadows
        self._metrics = metrics
        self._admission = admission
        self._request_rows = request_rows

    async def infer(self, asked: Inference, deadline: Deadline) -> Inferred:
        """The outputs asked for. Raises UnknownModel, NoPlanYet, BadRequest, Overloaded, TooLate, ScoringFailed."""
        self._metrics.requests += 1
        try:
            with self._admission:
                return await self._infer(asked, deadline)
        except RoomError as error:
            self._metrics.refused(DOOR, error.code)
            raise

    async def _infer(self, asked: Inference, deadline: Deadline) -> Inferred:
        live = self._serving.for_model(asked.model)
        named = self._serving.version_of(asked.model, asked.version)
        request_id = asked.request_id or new_id()
        chosen = named or live.choose(asked.routing_key or request_id)
        names = _wanted(chosen, asked.outputs)
        question = self._question(live, chosen, asked, request_id)
        try:
            loaded, arrays = await self._run(question, chosen, names, deadline, may_fall_back=named is None)
        except (RoomError, asyncio.CancelledError) as error:
            routes = [(i, chosen) for i in range(question.rows)]
            self._scorer.fail_rest(question, str(error) or "the caller went away", routes)
            raise
        finally:
            self._scorer.write(question)
        self._shadows.offer(question)
        self._metrics.request(live.plan.model, loaded, DOOR, time.monotonic() - question.began_s)
        specs = {s.name: s for s in loaded.session.outputs}
        return Inferred(
            live.plan.model,
            loaded.version,
            asked.request_id,
            [(specs[name], array) for name, array in zip(names, arrays, strict=True)],
            is_sticky=bool(asked.routing_key) or named is not None,
            prediction_id=question.prediction_id(loaded.version, 0) if question.rows == 1 else "",
        )

    def _question(self, live: Live, chosen: Loaded, asked: Inference, request_id: str) -> TensorQuestion:
        inputs = chosen.session.inputs
        try:
            check_feeds(inputs, {n: (asked.datatypes[n], a.shape) for n, a in asked.tensors.items()})
        except TensorMismatch as error:
            raise BadRequest(str(error)) from None
        rows = row_count(inputs, asked.tensors)
        if not 0 < rows <= self._request_rows:
            raise BadRequest(f"a request has {rows} rows; expected 1 to {self._request_rows}")
        return TensorQuestion(
            live=live,
            # A caller's request ids need not be unique among callers: the predictions' ids must be.
            log_id=new_id(),
            request_id=request_id,
            door=DOOR,
            traceparent=trace.current(),
            entities=[asked.routing_key] * rows,
            moments_us=[0] * rows,
            tensors={n: _as_text(n, a) if asked.datatypes[n] == "BYTES" else a for n, a in asked.tensors.items()},
            datatypes=asked.datatypes,
            is_batched=any(s.shape and s.shape[0] == -1 for s in inputs),
        )

    async def _run(
        self, question: TensorQuestion, chosen: Loaded, names: Sequence[str], deadline: Deadline, *, may_fall_back: bool
    ) -> tuple[Loaded, list[Array]]:
        """(who answered, the named outputs); all rows or none."""
        candidates = [chosen, *question.live.fallbacks(chosen)] if may_fall_back else [chosen]
        failure: RoomError | None = None
        for loaded in candidates:
            try:
                arrays = await self._run_one(question, loaded, names, deadline)
            except (ScoringFailed, TensorMismatch, BadRequest) as error:
                failure = failure or (error if isinstance(error, RoomError) else ScoringFailed(str(error)))
                self._note(question, loaded, [], str(error))
                continue
            if loaded is not chosen:
                self._metrics.fell_back(question.live.plan.model, chosen, question.rows)
            return loaded, arrays
        question.settled.update(range(question.rows))
        assert failure is not None
        raise failure

    async def _run_one(
        self, question: TensorQuestion, loaded: Loaded, names: Sequence[str], deadline: Deadline
    ) -> list[Array]:
        logged = loaded.bundle.output
        asked = list(dict.fromkeys([*_wanted(loaded, names), logged]))
        feeds = question.feeds(loaded, range(question.rows))
        with self._metrics.run(question.live.plan.model, loaded):
            arrays = await self._runner.outputs(loaded, feeds, asked, question.rows, deadline)
        by_name = dict(zip(asked, arrays, strict=True))
        self._note(question, loaded, _logged_rows(loaded, by_name[logged], question.rows), "")
        question.settled.update(range(question.rows))
        return [by_name[name] for name in names]

    def _note(self, question: TensorQuestion, loaded: Loaded, rows: Sequence[Sequence[float]], error: str) -> None:
        """One log record per row."""
        for index in range(question.rows):
            outputs = rows[index] if rows else ()
            question.records.append(question.record(loaded, index, answered=not error, outputs=outputs, error=error))
            question.tried.add((loaded.version, index))
        done, failed = (0, question.rows) if error else (question.rows, 0)
        self._metrics.rows(question.live.plan.model, loaded, DOOR, done, failed)


def _wanted(loaded: Loaded, outputs: Sequence[str]) -> list[str]:
    """The outputs asked for; all when none is named. Raises BadRequest."""
    known = [s.name for s in loaded.session.outputs]
    strangers = [name for name in outputs if name not in known]
    if strangers:
        raise BadRequest(f"output {strangers[0]!r} is not known; expected {', '.join(known)}")
    return list(dict.fromkeys(outputs)) or known


def _logged_rows(loaded: Loaded, output: Array, rows: int) -> list[list[float]]:
    """The first output row by row, as far as a log record holds it; text has no place there."""
    if output.dtype.kind not in "fiub":
        return [[] for _ in range(rows)]
    return as_scores(loaded, output, rows)[:, :LOGGED_ELEMENTS].tolist()  # type: ignore[no-any-return]


def _as_text(name: str, array: Array) -> Array:
    """An object array of `bytes` as one of `str`, which is what the engine takes."""
    try:
        texts = [value.decode() for value in array.ravel().tolist()]
    except UnicodeDecodeError as error:
        raise BadRequest(f"input {name!r} is not UTF-8: {error}; expected text") from None
    made = np.empty(len(texts), dtype=object)
    made[:] = texts
    return made.reshape(array.shape)
