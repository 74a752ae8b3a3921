"""Online features from the feature store, over gRPC: one call for all entities of a request."""

from __future__ import annotations

from collections.abc import Sequence

import grpc
from millrace.client.columns import FeatureCells, read_columns
from millrace.runtime.errors import Invalid, NotFound, RoomError
from millrace.wire.feature_store.v1 import service_pb2, service_pb2_grpc

from services.inference.errors import FeaturesUnavailable, TooLate
from services.inference.ports import FeatureRow, FeatureRows


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
        try:
            columns = read_columns(reply.columns, len(entities))
        except ValueError as error:
            raise FeaturesUnavailable(f"the feature store's answer cannot be read: {error}") from error
        if list(reply.features) != list(names) or len(columns) != len(names):
            raise FeaturesUnavailable(
                f"the feature store answered {len(columns)} of {len(reply.features)} features; expected {len(names)}"
            )
        as_of_us = min(reply.as_of_us.values(), default=0)
        return FeatureRows(names, _rows(names, columns, len(entities)), as_of_us)


def _rows(names: Sequence[str], columns: Sequence[FeatureCells], entities: int) -> list[FeatureRow]:
    """The columns turned into a row per entity."""
    if not names:
        return [FeatureRow({}, (), ())] * entities
    values = zip(*(column.values for column in columns), strict=True)
    statuses = zip(*(column.statuses for column in columns), strict=True)
    ages_us = zip(*(column.ages_us for column in columns), strict=True)
    return [
        FeatureRow(dict(zip(names, row, strict=True)), status, age_us)
        for row, status, age_us in zip(values, statuses, ages_us, strict=True)
    ]


def _explained(error: grpc.aio.AioRpcError) -> RoomError:
    said = error.details() or error.code().name
    if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
        return TooLate(f"the features were not there within the deadline: {said}")
    if error.code() is grpc.StatusCode.NOT_FOUND:
        return NotFound(f"feature store: {said}")
    if error.code() is grpc.StatusCode.INVALID_ARGUMENT:
        return Invalid(f"feature store: {said}")
    return FeaturesUnavailable(f"feature store: {error.code().name}: {said}")
