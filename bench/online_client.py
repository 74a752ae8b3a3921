"""How the benchmarks read features: the one place that knows the door's request and reply."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import grpc
from millrace.client.columns import FeatureCells, read_columns
from millrace.wire.feature_store.v1 import service_pb2

METHOD = "/millrace.wire.feature_store.v1.FeatureStore/GetOnline"


@dataclass(frozen=True, slots=True)
class Answer:
    """A reply as an application uses it: plain values per feature name."""

    features: dict[str, FeatureCells]


def request(project: str, entities: Sequence[str], features: Sequence[str] = (), not_before_us: int = 0) -> bytes:
    """A read of these entities; all inputs of the project unless features are named."""
    ask = service_pb2.GetOnlineRequest(
        project=project, entities=entities, features=features, not_before_us=not_before_us
    )
    return ask.SerializeToString()


def decoded(reply: bytes) -> Answer:
    """What an application does with the bytes before it can use them."""
    message = service_pb2.GetOnlineReply.FromString(reply)
    entities = len(message.columns.status) // max(len(message.features), 1)
    return Answer(dict(zip(message.features, read_columns(message.columns, entities), strict=True)))


def call(channel: grpc.aio.Channel) -> Any:
    """The door as a callable: request bytes in, a decoded reply out."""
    return channel.unary_unary(METHOD, None, decoded)


def as_of(channel: grpc.aio.Channel) -> Any:
    """The same, but for the time of each view alone, in microseconds by its id."""
    return channel.unary_unary(METHOD, None, lambda reply: dict(service_pb2.GetOnlineReply.FromString(reply).as_of_us))


def raw_call(channel: grpc.aio.Channel) -> Any:
    """The same with the reply's bytes."""
    return channel.unary_unary(METHOD, None, None)


def values(answer: Answer, feature: str) -> list[float | None]:
    """One feature's numbers, entity by entity; None where it is not PRESENT."""
    cells = answer.features[feature]
    pairs = zip(cells.values, cells.statuses, strict=True)
    return [float(value) if status == service_pb2.PRESENT and value is not None else None for value, status in pairs]


def present(answer: Answer) -> int:
    """How many values are PRESENT."""
    return sum(status == service_pb2.PRESENT for cells in answer.features.values() for status in cells.statuses)
