"""When has the platform come to rest? When every room says so twice and did nothing in between.

What is under way is always somebody's: a record that waits (the broker is asked, since a sink that gathers does not
know it yet), a record or a job in hand, a change not yet published. Whoever hands it on in the middle of the first
round shows it in the second.
"""

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
ROUNDS = 2  # exact ones, with equal counts of what was handled
_CALL_TIMEOUT_S = 5.0
Snapshot = Mapping[str, common_pb2.RoomStatus | None]


class Quiet:
    """Asks the rooms' Room.Describe: cheaply while there is unrest, exactly once there seems to be none."""

    def __init__(
        self,
        addresses: Addresses,
        project: str,
        *,
        rooms: Sequence[str] = ROOMS,
        token: str = "",
    ) -> None:
        self._project = project
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
        rounds = 0
        seems_quiet = False
        while True:
            snapshot = await self.snapshot(exact=seems_quiet)
            unrest = unrest_of(snapshot, self._project, now_us)
            before, handled = handled, tuple(s.handled_records if s else -1 for s in snapshot.values())
            rounds = rounds + 1 if seems_quiet and not unrest and handled == before else 0
            if rounds == ROUNDS:
                return snapshot
            seems_quiet = not unrest
            if loop.time() > end:
                raise NotQuiet(f"not quiet after {deadline_s:.0f} s: {'; '.join(unrest) or 'records keep coming'}")
            if unrest:
                await asyncio.sleep(POLL_INTERVAL_S)

    async def snapshot(self, *, exact: bool = False) -> Snapshot:
        """Every room's status; None for a room that does not answer, or cannot say what waits for it."""
        request = common_pb2.DescribeRequest(exact=exact, hurry=True)
        statuses = await asyncio.gather(*(self._describe(stub, request) for stub in self._stubs.values()))
        return dict(zip(self._stubs, statuses, strict=True))

    async def close(self) -> None:
        """Closes the channels."""
        for channel in self._channels.values():
            await channel.close(None)

    async def _describe(self, stub: Any, request: common_pb2.DescribeRequest) -> common_pb2.RoomStatus | None:
        try:
            return await stub.Describe(request, timeout=_CALL_TIMEOUT_S)
        except grpc.aio.AioRpcError:
            return None  # restarting, gone or without its broker: not at rest, and the deadline bounds the wait


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
