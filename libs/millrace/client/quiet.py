"""When has the platform come to rest? When every room says so, and goes on saying so for a moment."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

import grpc

from millrace.client.addresses import ROOMS, Addresses
from millrace.client.errors import NotQuiet
from millrace.runtime.channels import open_channel
from millrace.wire.common.v1 import common_pb2, common_pb2_grpc

POLL_INTERVAL_S = 0.02  # seven cheap calls per poll
REST_S = 0.3  # sinks gather records for half of this, and do not know of them meanwhile
_CALL_TIMEOUT_S = 5.0
Snapshot = Mapping[str, common_pb2.RoomStatus | None]


class Quiet:
    """Asks the rooms' Room.Describe. Equal snapshots over `rest_s` count as rest."""

    def __init__(
        self,
        addresses: Addresses,
        project: str,
        *,
        rooms: Sequence[str] = ROOMS,
        rest_s: float = REST_S,
        token: str = "",
    ) -> None:
        self._project = project
        self._rest_s = rest_s
        self._channels = {room: open_channel(addresses.grpc(room), token=token) for room in rooms}
        self._stubs: dict[str, Any] = {room: common_pb2_grpc.RoomStub(c) for room, c in self._channels.items()}

    async def __aenter__(self) -> Quiet:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.close()

    async def wait(self, now_us: int, *, deadline_s: float = 600.0) -> Snapshot:
        """Returns the snapshot at rest, with all effects up to `now_us` of the project's clock. Raises NotQuiet."""
        loop = asyncio.get_running_loop()
        end = loop.time() + deadline_s
        handled: tuple[int, ...] = ()
        since = loop.time()
        while True:
            snapshot = await self.snapshot()
            unrest = unrest_of(snapshot, self._project, now_us)
            before, handled = handled, tuple(s.handled_records if s else -1 for s in snapshot.values())
            if unrest or handled != before:
                since = loop.time()
            elif loop.time() - since >= self._rest_s:
                return snapshot
            if loop.time() > end:
                raise NotQuiet(f"not quiet after {deadline_s:.0f} s: {'; '.join(unrest) or 'records keep coming'}")
            await asyncio.sleep(POLL_INTERVAL_S)

    async def snapshot(self) -> Snapshot:
        """Every room's status; None for a room that does not answer."""
        statuses = await asyncio.gather(*(self._describe(stub) for stub in self._stubs.values()))
        return dict(zip(self._stubs, statuses, strict=True))

    async def close(self) -> None:
        """Closes the channels."""
        for channel in self._channels.values():
            await channel.close(None)

    async def _describe(self, stub: Any) -> common_pb2.RoomStatus | None:
        try:
            return await stub.Describe(common_pb2.DescribeRequest(), timeout=_CALL_TIMEOUT_S)
        except grpc.aio.AioRpcError:
            return None  # restarting or gone: not at rest, and the deadline bounds the wait


def unrest_of(snapshot: Snapshot, project: str, now_us: int) -> list[str]:
    """Why the platform is not at rest, one line per room that works or lags; empty at rest."""
    lines = []
    for room, status in snapshot.items():
        reasons = ["does not answer"] if status is None else _reasons(status, project, now_us)
        if reasons:
            lines.append(f"{room}: {', '.join(reasons)}")
    return lines


def _reasons(status: common_pb2.RoomStatus, project: str, now_us: int) -> list[str]:
    counts = (
        ("lag of {} records", status.lag_records),
        ("{} records unpublished", status.unpublished_records),
        ("{} jobs under way", status.busy_jobs),
    )
    reasons = [text.format(count) for text, count in counts if count]
    behind_us = now_us - status.watermarks_us.get(project, now_us)
    if behind_us > 0:
        reasons.append(f"watermark {behind_us / 1e6:.0f} s of project time behind")
    return reasons + (list(status.reasons) if reasons else [])
