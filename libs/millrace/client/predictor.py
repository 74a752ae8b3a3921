"""Ask for predictions by entity key, over several connections."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

from millrace.client.calls import call_with_retries
from millrace.runtime.channels import open_channel
from millrace.wire.common.v1 import common_pb2
from millrace.wire.inference.v1 import service_pb2, service_pb2_grpc

CHANNELS = 2  # one gRPC channel pins to one process; a second lets replicas share the load
ITEMS_PER_REQUEST = 64
MAX_IN_FLIGHT = 8  # requests on the way at once


class Predictor:
    """Async predictions of one project. `retried` counts attempts that failed and were made again."""

    def __init__(
        self, address: str, project: str, *, channels: int = CHANNELS, deadline_s: float = 10.0, token: str = ""
    ) -> None:
        self._channels = [open_channel(address, token=token) for _ in range(channels)]
        stubs: list[Any] = [service_pb2_grpc.InferenceStub(channel) for channel in self._channels]
        self._stubs = itertools.cycle(stubs)
        self._project = project
        self._deadline_s = deadline_s
        self._slots = asyncio.Semaphore(MAX_IN_FLIGHT)
        self.retried = 0

    async def __aenter__(self) -> Predictor:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.close()

    async def predict(
        self, entity: str, *, moment_us: int = 0, request: Mapping[str, Any] | None = None, request_id: str = ""
    ) -> service_pb2.Answer:
        """One prediction; `moment_us` 0 means now. `Answer.error` is set where it failed. Raises CallFailed."""
        reply = await self.ask([item(entity, moment_us, request)], request_id=request_id)
        return reply.answers[0]

    async def predict_many(
        self, entities: Sequence[str], *, moment_us: int = 0, items_per_request: int = ITEMS_PER_REQUEST
    ) -> list[service_pb2.Answer]:
        """Predictions at one moment, in the order of `entities`, over all connections at once. Raises CallFailed."""
        chunks = [entities[i : i + items_per_request] for i in range(0, len(entities), items_per_request)]
        replies = await asyncio.gather(*(self.ask([item(e, moment_us) for e in chunk]) for chunk in chunks))
        return [answer for reply in replies for answer in reply.answers]

    async def ask(self, items: Sequence[service_pb2.PredictItem], *, request_id: str = "") -> service_pb2.PredictReply:
        """One request. Raises CallFailed."""
        request = service_pb2.PredictRequest(project=self._project, items=items, request_id=request_id)
        async with self._slots:
            return await call_with_retries(
                f"predict for {self._project}",
                lambda remaining_s: next(self._stubs).Predict(request, timeout=remaining_s),
                self._deadline_s,
                self._count_retry,
            )

    def _count_retry(self) -> None:
        self.retried += 1

    async def close(self) -> None:
        """Closes the channels."""
        for channel in self._channels:
            await channel.close(None)


def item(entity: str, moment_us: int = 0, request: Mapping[str, Any] | None = None) -> service_pb2.PredictItem:
    """One item of a request; `request` are its request-time columns."""
    made = service_pb2.PredictItem(entity=entity, moment_us=moment_us)
    for name, value in (request or {}).items():
        made.request.columns[name].CopyFrom(to_value(value))
    return made


def to_value(value: Any) -> common_pb2.Value:
    """A Python value as the wire has it; None is null. TypeError for what is no cell of data."""
    if value is None:
        return common_pb2.Value()
    if isinstance(value, bool):
        return common_pb2.Value(flag=value)
    if isinstance(value, int):
        return common_pb2.Value(integer=value)
    if isinstance(value, float):
        return common_pb2.Value(number=value)
    if isinstance(value, str):
        return common_pb2.Value(text=value)
    raise TypeError(f"{type(value).__name__} is no cell of data")
