"""The bound on requests in hand: one more is refused at once, before any work is done for it."""

from __future__ import annotations

from types import TracebackType

from services.inference.errors import Overloaded

RETRY_AFTER_MS = 50  # about the time in which a full house answers a good part of what it has


class Admission:
    """`with admission:` takes a place or raises Overloaded."""

    def __init__(self, max_requests: int) -> None:
        self._max_requests = max_requests
        self.in_hand = 0

    def __enter__(self) -> None:
        if self.in_hand >= self._max_requests:
            said = f"{self.in_hand} requests are in hand, the bound of this replica; try again shortly"
            raise Overloaded(said, retry_after_ms=RETRY_AFTER_MS)
        self.in_hand += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.in_hand -= 1
