"""One entity out of examples, truths, labels and tasks; its old records are not taken in again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from millrace.runtime.forgetting import Obeyed
from millrace.wire.ingestion.v1.forgetting_pb2 import Forget


class Erasing(Protocol):
    """A store of this room that forgets."""

    async def erase(self, request: Forget) -> dict[str, int]:
        """Rows deleted by table. Raises StoreUnavailable."""
        ...


class Forgetting:
    """Obeys requests about the project's examples; other fields mean nothing to this room."""

    def __init__(self, book: Erasing, history: Erasing, cleaned_us: int, now_us: Callable[[], int]) -> None:
        self._book = book
        self._history = history
        self._cleaned_us = cleaned_us
        self._now_us = now_us

    async def obey(self, request: Forget) -> Obeyed:
        """Idempotent. Raises StoreUnavailable: to be repeated."""
        done = Obeyed()
        if request.phase == Forget.DONE or not request.HasField("example"):
            return done
        for table, rows in (await self._book.erase(request)).items():
            done.add(f"labeling: {table}", rows, self._now_us(), "deleted; SQLite overwrites, PostgreSQL at its VACUUM")
        for table, rows in (await self._history.erase(request)).items():
            done.add(f"labeling: history of {table}", rows, self._now_us() + self._cleaned_us, "parts are rewritten")
        return done
