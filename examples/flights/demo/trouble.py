"""What went wrong while the demo ran: kept for the report, told in one line."""

from __future__ import annotations

import traceback
from dataclasses import dataclass

import grpc
from millrace.client.errors import ClientError
from millrace.runtime.errors import RoomError


class DemoError(Exception):
    """The demo cannot go on; the text is one line for a person."""


# What a platform that is not well makes its callers meet. TimeoutError and URLError are OSErrors.
PLAIN = (DemoError, ClientError, RoomError, grpc.RpcError, OSError)


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something that failed: during what, why in one line, and the traceback for whoever mends it."""

    during: str
    reason: str
    traceback: str

    @classmethod
    def of(cls, during: str, error: Exception) -> Trouble:
        """`error` as it was met during `during`."""
        return cls(during, reason(error), "".join(traceback.format_exception(error)))


def reason(error: BaseException) -> str:
    """One line: what the platform said, or the kind of error where it says nothing of itself."""
    if isinstance(error, grpc.aio.AioRpcError):
        return f"{error.code().name}: {error.details()}"
    text = " ".join(str(error).split())
    return text if text and isinstance(error, PLAIN) else f"{type(error).__name__}: {text}".removesuffix(": ")
