"""The seven rooms, asked for their status over gRPC."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import grpc
from millrace.wire.common.v1.common_pb2 import DescribeRequest, RoomStatus
from millrace.wire.common.v1.common_pb2_grpc import RoomStub

DEADLINE_S = 2.0


class GrpcFleet:
    """Implements ports.Fleet over a channel per room."""

    def __init__(self, channels: Mapping[str, grpc.aio.Channel]) -> None:
        self._stubs = {
            room: RoomStub(channel)  # type: ignore[no-untyped-call]  # generated
            for room, channel in channels.items()
        }

    async def describe(self) -> dict[str, RoomStatus | None]:
        """All rooms at once; a room that does not answer in time is None."""
        answers = await asyncio.gather(*(self._ask(room) for room in self._stubs))
        return dict(zip(self._stubs, answers, strict=True))

    async def settled(self) -> bool:
        """Whether inference has nothing left to score or publish. One that does not answer logs nothing new: it is
        settled, and what it spooled before is judged when it comes back."""
        if "inference" not in self._stubs:
            return True
        status = await self._ask("inference")
        return status is None or status.unpublished_records + status.busy_jobs == 0

    async def _ask(self, room: str) -> RoomStatus | None:
        try:
            status: RoomStatus = await self._stubs[room].Describe(DescribeRequest(), timeout=DEADLINE_S)
        except grpc.aio.AioRpcError:
            return None
        return status
