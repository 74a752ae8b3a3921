"""How the benchmarks read features: the one place that knows the door's request and reply."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import grpc
from millrace.wire.feature_store.v1 import service_pb2

METHOD = "/millrace.wire.feature_store.v1.FeatureStore/GetOnline"


def request(project: str, entities: Sequence[str], features: Sequence[str] = (), not_before_us: int = 0) -> bytes:
    """A read of these entities; all inputs of the project unless features are named."""
    ask = service_pb2.GetOnlineRequest(
        project=project, entities=entities, features=features, not_before_us=not_before_us
    )
    return ask.SerializeToString()


def decoded(reply: bytes) -> service_pb2.GetOnlineReply:
    """What an application does with the bytes before it can use them."""
    return service_pb2.GetOnlineReply.FromString(reply)


def call(channel: grpc.aio.Channel) -> Any:
    """The door as a callable: request bytes in, a decoded reply out."""
    return channel.unary_unary(METHOD, None, decoded)


def raw_call(channel: grpc.aio.Channel) -> Any:
    """The same with the reply's bytes."""
    return channel.unary_unary(METHOD, None, None)


def values(reply: service_pb2.GetOnlineReply, feature: str) -> list[float | None]:
    """One feature's numbers, entity by entity; None where it is not PRESENT."""
    place = list(reply.features).index(feature)
    cells = [row.values[place] for row in reply.rows]
    return [cell.value.number if cell.status == service_pb2.PRESENT else None for cell in cells]


def present(reply: service_pb2.GetOnlineReply) -> int:
    """How many values are PRESENT."""
    return sum(cell.status == service_pb2.PRESENT for row in reply.rows for cell in row.values)
