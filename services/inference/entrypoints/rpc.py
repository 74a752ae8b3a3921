"""millrace.inference.v1.Inference: predictions by entity key, singly and as a stream."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

import grpc
from millrace.runtime.errors import RoomError
from millrace.wire.common.v1 import common_pb2
from millrace.wire.inference.v1 import service_pb2, service_pb2_grpc

from services.inference.domain.deadline import Deadline, deadline_of
from services.inference.domain.tensors import Cell
from services.inference.handlers.predict import Answer, Answers, Item, Predictor

DeadlineFor = Callable[[float | None], Deadline]
Context = grpc.aio.ServicerContext[Any, Any]


class InferenceService(service_pb2_grpc.InferenceServicer):
    """Decodes, calls, encodes."""

    def __init__(self, predictor: Predictor, deadline_for: DeadlineFor, *, stream_window: int) -> None:
        self._predictor = predictor
        self._deadline_for = deadline_for
        self._stream_window = stream_window

    async def Predict(self, request: service_pb2.PredictRequest, context: Context) -> service_pb2.PredictReply:
        """One batch."""
        return await self._predict(request, self._deadline_for(context.time_remaining()))

    async def PredictStream(
        self, request_iterator: AsyncIterator[service_pb2.PredictRequest], context: Context
    ) -> AsyncIterator[service_pb2.PredictReply]:
        """Replies in the order of the requests, a bounded number of them worked on at a time.

        A request that is refused as a whole gets a reply whose answers carry the error; the stream goes on.
        """
        window: asyncio.Queue[asyncio.Task[service_pb2.PredictReply] | None] = asyncio.Queue(self._stream_window)
        reading = asyncio.create_task(self._read_ahead(request_iterator, window, context))
        try:
            while (task := await window.get()) is not None:
                yield await task
            await reading
        finally:
            reading.cancel()
            while not window.empty():
                task = window.get_nowait()
                if task is not None:
                    task.cancel()

    async def _read_ahead(
        self,
        requests: AsyncIterator[service_pb2.PredictRequest],
        window: asyncio.Queue[asyncio.Task[service_pb2.PredictReply] | None],
        context: Context,
    ) -> None:
        try:
            async for request in requests:
                # The stream's deadline bounds every request; one that names none gets the default for itself.
                deadline = self._deadline_for(context.time_remaining())
                await window.put(asyncio.create_task(self._predict_or_explain(request, deadline)))
        finally:
            with suppress(asyncio.CancelledError):
                await window.put(None)

    async def _predict_or_explain(
        self, request: service_pb2.PredictRequest, deadline: Deadline
    ) -> service_pb2.PredictReply:
        try:
            return await self._predict(request, deadline)
        except RoomError as error:
            told = f"{error.code}: {error}"
            answers = [service_pb2.Answer(entity=i.entity, error=told) for i in request.items]
            return service_pb2.PredictReply(request_id=request.request_id, answers=answers)

    async def _predict(self, request: service_pb2.PredictRequest, deadline: Deadline) -> service_pb2.PredictReply:
        items = [_item(i) for i in request.items]
        return encode(await self._predictor.predict(request.project, items, request.request_id, deadline))


def deadlines(default_ms: int, max_ms: int) -> DeadlineFor:
    """A function from what a caller asks (seconds from now, None: nothing) to the deadline that is kept."""

    def deadline_for(asked_s: float | None) -> Deadline:
        return deadline_of(asked_s, time.monotonic(), default_s=default_ms / 1_000, max_s=max_ms / 1_000)

    return deadline_for


def encode(answers: Answers) -> service_pb2.PredictReply:
    """The reply as it crosses the wire."""
    reply = service_pb2.PredictReply(request_id=answers.request_id)
    reply.answers.extend([_encode(answers, a) for a in answers.answers])
    return reply


def _encode(answers: Answers, answer: Answer) -> service_pb2.Answer:
    made = service_pb2.Answer(
        prediction_id=answer.prediction_id,
        entity=answer.entity,
        outputs=answer.outputs,
        model=answers.model,
        version=answer.version,
        variant=answer.variant,
        error=answer.error,
        epoch=answers.epoch,
    )
    if answer.outputs:
        made.value = answer.outputs[0]
    if answer.features is not None:
        facts = zip(answers.names, answer.features.statuses, answer.features.ages_us, strict=True)
        made.features.extend([_feature(n, s, a) for n, s, a in facts])
    return made


def _feature(name: str, status: Any, age_us: int) -> service_pb2.AnswerFeature:
    return service_pb2.AnswerFeature(name=name, status=status, age_us=age_us)


def _item(item: service_pb2.PredictItem) -> Item:
    columns = item.request.columns if item.HasField("request") else None
    request = {name: _cell(value) for name, value in columns.items()} if columns else None
    return Item(item.entity, item.moment_us, request)


def _cell(value: common_pb2.Value) -> Cell:
    kind = value.WhichOneof("kind")
    return getattr(value, kind) if kind else None


def register(service: InferenceService) -> Callable[[Any], None]:
    """What RoomProcess.add_grpc takes."""
    return lambda server: service_pb2_grpc.add_InferenceServicer_to_server(service, server)  # type: ignore[no-untyped-call]
