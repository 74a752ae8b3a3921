"""Batches over one stream: a few on the way at once, answered in order, sent again after a failure that passes.

What was sent and not answered is sent again in its order; the room recognises what it already has.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator
from typing import Any

import grpc

from millrace.client.calls import Patience
from millrace.wire.ingestion.v1 import service_pb2

Replies = AsyncGenerator[service_pb2.PublishReply, None]
MAX_UNANSWERED = 6  # requests: two more than the room works on, so that it never waits for the next


class Pipeline:
    """One order of requests. `open_call` begins a stream (an open PublishStream call); `deadline_s` bounds the time
    between two answers. `unanswered` are the requests that were taken and have no answer yet, oldest first."""

    def __init__(
        self, what: str, open_call: Callable[[], Any], deadline_s: float, on_retry: Callable[[], None] = lambda: None
    ) -> None:
        self._what = what
        self._open_call = open_call
        self._deadline_s = deadline_s
        self._on_retry = on_retry
        self.unanswered: deque[service_pb2.PublishRequest] = deque()

    async def run(self, requests: Iterator[service_pb2.PublishRequest]) -> Replies:
        """A reply per request, in order. Raises CallFailed; what then has no reply is in `unanswered`."""
        patience = Patience(self._what, self._deadline_s)
        while True:
            call = self._open_call()
            try:
                async for reply in self._attempt(call, requests, patience):
                    yield reply
                return
            except grpc.aio.AioRpcError as error:
                failed = error
            except TimeoutError:
                failed = _late(self._deadline_s)
            finally:
                call.cancel()
            await patience.wait(failed)
            self._on_retry()

    async def _attempt(self, call: Any, requests: Iterator[service_pb2.PublishRequest], patience: Patience) -> Replies:
        sent = 0
        while True:
            while sent < MAX_UNANSWERED and (request := self._next(sent, requests)) is not None:
                async with asyncio.timeout(patience.remaining_s):
                    await _write(call, request)
                sent += 1
            if not self.unanswered:
                return
            async with asyncio.timeout(patience.remaining_s):
                reply = await call.read()
            if reply is grpc.aio.EOF:  # type: ignore[attr-defined]  # missing in the stubs
                raise await _ended(call)
            self.unanswered.popleft()
            sent -= 1
            patience.progressed()
            yield reply

    def _next(self, sent: int, requests: Iterator[service_pb2.PublishRequest]) -> service_pb2.PublishRequest | None:
        """The request to send when `sent` of the unanswered ones are on the way; None at the end."""
        if sent == len(self.unanswered):
            request = next(requests, None)
            if request is None:
                return None
            self.unanswered.append(request)
        return self.unanswered[sent]


async def _write(call: Any, request: service_pb2.PublishRequest) -> None:
    """Raises AioRpcError with the stream's status where that has ended meanwhile."""
    try:
        await call.write(request)
    except asyncio.InvalidStateError:
        raise await _ended(call) from None
    except grpc.aio.AioRpcError as error:
        if error.code() is not grpc.StatusCode.INTERNAL:
            raise
        # The stream ended under the write, and gRPC has put this in the place of its status: the next one will say.
        raise _failure(grpc.StatusCode.UNAVAILABLE, "the stream ended while it was written to") from error


async def _ended(call: Any) -> grpc.aio.AioRpcError:
    """Why a stream ended before everything was answered."""
    code = await call.code()
    if code is grpc.StatusCode.OK:
        return _failure(grpc.StatusCode.UNAVAILABLE, "the stream ended before everything was answered")
    metadata = await call.trailing_metadata()
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), metadata, await call.details(), None)


def _late(deadline_s: float) -> grpc.aio.AioRpcError:
    return _failure(grpc.StatusCode.DEADLINE_EXCEEDED, f"no answer within {deadline_s:.1f} s")


def _failure(code: grpc.StatusCode, details: str) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), details, None)
