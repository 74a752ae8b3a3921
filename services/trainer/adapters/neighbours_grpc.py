"""How failures of a gRPC neighbour become ours."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import grpc

from services.trainer.errors import NeighbourRefused, NeighbourUnavailable

_PASSING = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.CANCELLED,
}


def status_of(error: NeighbourRefused) -> grpc.StatusCode | None:
    """The status that the neighbour answered with."""
    cause = error.__cause__
    return cause.code() if isinstance(cause, grpc.aio.AioRpcError) else None


@contextmanager
def neighbour(room: str) -> Iterator[None]:
    """Calls to `room` go inside; NeighbourUnavailable where asking again may help, else NeighbourRefused."""
    try:
        yield
    except grpc.aio.AioRpcError as error:
        words = f"{room}: {error.code().name.lower()}: {error.details()}"
        raise (NeighbourUnavailable if error.code() in _PASSING else NeighbourRefused)(words) from error
