"""Online features from the feature store, over gRPC: one call for all entities of a request."""

from __future__ import annotations

from collections.abc import Sequence

import grpc
from millrace.runtime.errors import Invalid, NotFound, RoomError
from millrace.wire.common.v1 import common_pb2
from millrace.wire.feature_store.v1 import service_pb2, service_pb2_grpc

from services.inference.domain.tensors import Cell
from services.inference.errors import FeaturesUnavailable, TooLate
from services.inference.ports import FeatureRow, FeatureRows

_PRESENT = service_pb2.PRESENT
_EXPIRED = service_pb2.EXPIRED
_AGED = (_PRESENT, _EXPIRED)


class GrpcFeatures:
    """Features over a channel to the feature store."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = service_pb2_grpc.FeatureStoreStub(channel)  # type: ignore[no-untyped-call]

    async def online(
        self, project: str, entities: Sequence[str], names: Sequence[str], not_before_us: int, timeout_s: float
    ) -> FeatureRows:
        """As the port says; the timeout travels as the call's deadline."""
        request = service_pb2.GetOnlineRequest(
            project=project, entities=entities, features=names, not_before_us=not_before_us
        )
        try:
            reply = await self._stub.GetOnline(request, timeout=timeout_s)
        except grpc.aio.AioRpcError as error:
            raise _explained(error) from error
        if list(reply.features) != list(names) or len(reply.rows) != len(entities):
            raise FeaturesUnavailable(
                f"the feature store answered {len(reply.rows)} rows of {len(reply.features)} features; "
                f"expected {len(entities)} of {len(names)}"
            )
        as_of_us = min(reply.as_of_us.values(), default=0)
        return FeatureRows(names, [_row(names, row) for row in reply.rows], as_of_us)


def cell_of(value: common_pb2.Value) -> Cell:
    """The plain value; None when it is null. Timestamps are integer microseconds."""
    kind = value.WhichOneof("kind")
    return getattr(value, kind) if kind else None


def _row(names: Sequence[str], row: service_pb2.FeatureRow) -> FeatureRow:
    cells: dict[str, Cell] = {}
    statuses: list[int] = []
    ages_us: list[int] = []
    for name, feature in zip(names, row.values, strict=True):
        status = feature.status
        cells[name] = None if status == _EXPIRED else cell_of(feature.value)
        statuses.append(status)
        ages_us.append(feature.age_us if status in _AGED else -1)
    return FeatureRow(cells, statuses, ages_us)


def _explained(error: grpc.aio.AioRpcError) -> RoomError:
    said = error.details() or error.code().name
    if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
        return TooLate(f"the features were not there within the deadline: {said}")
    if error.code() is grpc.StatusCode.NOT_FOUND:
        return NotFound(f"feature store: {said}")
    if error.code() is grpc.StatusCode.INVALID_ARGUMENT:
        return Invalid(f"feature store: {said}")
    return FeaturesUnavailable(f"feature store: {error.code().name}: {said}")
